"""archive_attachments: the files of the source's buckets beside the database's backup, as one recovery point."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from include.backup.archive.reader import ArchiveReader
from include.backup.attachments.bucket import FileBucket, Listed
from include.backup.attachments.collect import CONCURRENCY, Collected, Collector, listed_files
from include.backup.attachments.expected import OBJECTS_TABLE, Expected, expected_files
from include.backup.attachments.previous import Previous, find_previous
from include.backup.attachments.readme import INDEX_FILE, README_FILE, attachments_readme, index_lines
from include.backup.attachments.reconcile import Reconciled, reconcile
from include.backup.attachments.record import AttachmentsFacts, FileNote
from include.backup.attachments.tar_upload import StoredTar, TarTarget, TarUpload
from include.backup.backup_id import parse_backup_id
from include.backup.errors import ObjectExistsError, ParameterError
from include.backup.in_use import reading_all
from include.backup.manifest import ArchiveObject, Manifest, Member, read_manifest
from include.backup.multipart import part_size_for
from include.backup.policy.attachments import AttachmentsPolicy
from include.backup.steps.context import StepContext
from include.backup.steps.copy_yearly import will_be_copied
from include.backup.steps.upload import MEBIBYTE, UPLOAD_FILE, archive_tags, record_stored, run_facts
from include.backup.storage_class import first_class
from include.backup.versions import current_version, delete_version

SHOWN = 10
# Headers and padding of a tar's member, at most.
OVERHEAD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentsReport:
    """What was archived; sizes in bytes."""

    backup_id: str
    files: int
    reused: int
    bytes: int
    archive_bytes: int
    missing: int
    extra: int
    changed: int
    troubled: int
    based_on: str | None
    already_stored: bool
    seconds: float
    note: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        how = "was stored already" if self.already_stored else f"stored in {self.seconds:.1f} s"
        base = f", built on {self.based_on}" if self.based_on else ""
        return f"{self.backup_id} {how}: {self.note}; {self.bytes} bytes in an archive of {self.archive_bytes}{base}"


def run(ctx: StepContext, *, wanted: str = "by month") -> AttachmentsReport:
    """Archive the files; what is unchanged since the last archive is named, not stored again.

    An archive that is to be copied for years is whole: it names no other. Raises BucketMissingError,
    StoreDeniedError or StoreUnreachableError of the attachments' endpoint, and what reading the backup raises.
    """
    started = time.monotonic()
    if ctx.manifest_is_stored():
        manifest, content = ctx.catalog.read(ctx.backup_id)
        record_stored(ctx, manifest, content)
        return _report(manifest, already_stored=True, seconds=0.0)
    ctx.staging.make()
    with ctx.staging.locked():
        content = _finished_before(ctx) or _archive(ctx, wanted, started)
        manifest = read_manifest(content, name=ctx.backup_id)
        ctx.store.put_if_absent(ctx.manifest_key, content, encryption=ctx.encryption, tags=archive_tags(ctx))
        ctx.staging.remove()
    record_stored(ctx, manifest, content)
    return _report(manifest, already_stored=False, seconds=round(time.monotonic() - started, 3))


def _finished_before(ctx: StepContext) -> bytes | None:
    """Return the manifest of a try that was killed between archive and manifest; an archive without one goes.

    Files may have changed since, so that the same bytes cannot be made again.
    """
    there = ctx.store.head(ctx.archive_key)
    if there is None:
        return None
    staged = ctx.staging.read(UPLOAD_FILE)
    if staged is not None:
        manifest = read_manifest(staged, name=ctx.backup_id)
        if (there.size, there.checksum) == (manifest.archive.size, manifest.archive.checksum):
            ctx.log.info("an earlier try had stored %s; only its manifest is written", ctx.backup_id)
            return staged
    ctx.log.warning("%s has no manifest, so it is no backup: it is made anew", ctx.store.url(ctx.archive_key))
    version = current_version(ctx.store, ctx.archive_key)
    if version.version_id is None:
        raise ObjectExistsError(
            f"{ctx.store.url(ctx.archive_key)} has no manifest and the bucket keeps no versions; delete it, then retry"
        )
    delete_version(ctx.store, version)
    return None


def _archive(ctx: StepContext, wanted: str, started: float) -> bytes:
    policy = _policy(ctx)
    recovery_point = _recovery_point(ctx)
    buckets = _buckets(ctx, policy)
    found = expected_files(recovery_point, ArchiveReader(ctx.store, recovery_point))
    rows = None if found is None else list(found)
    listed, left_out = listed_files(buckets, rows or ())
    previous = None if will_be_copied(ctx, wanted) else find_previous(ctx.catalog, own=ctx.backup_id, log=ctx.log)
    target = _target(ctx, listed, int(recovery_point.dump.snapshot.time.timestamp()))
    with ExitStack() as stack:
        earlier = () if previous is None else previous.manifests
        stack.enter_context(reading_all(ctx.store, earlier, what="a new archive of attachments", clock=ctx.clock))
        tar = stack.enter_context(TarUpload(ctx.store, target, progress=lambda _: None))
        readme = attachments_readme(ctx.backup_id, recovery_point=recovery_point.backup_id)
        members = [tar.add(README_FILE, len(readme), [readme])]
        known = {} if previous is None else previous.files
        collected = Collector(buckets, tar, known=known, log=ctx.log).run(listed)
        index = index_lines(collected.files)
        members += [*collected.members, tar.add(INDEX_FILE, len(index), [index])]
        facts = _facts(policy, recovery_point, collected, rows, left_out, previous)
        stored = tar.seal()
        manifest = _manifest(ctx, recovery_point, members, facts, stored, target, time.monotonic() - started)
        content = manifest.to_json()
        ctx.staging.write(UPLOAD_FILE, content)
        tar.complete()
    for kind in ("missing", "extra", "changed", "troubled"):
        for note in getattr(facts, kind)[:SHOWN]:
            ctx.log.warning("%s: %s", kind, note)
    return content


def _policy(ctx: StepContext) -> AttachmentsPolicy:
    if ctx.source.attachments is None or ctx.attachments_connection is None:
        raise ParameterError(f"the policy names no attachments for {ctx.source.name}; add the block, or leave this out")
    return ctx.source.attachments


def _recovery_point(ctx: StepContext) -> Manifest:
    """Return the backup of the database that this run took."""
    own = replace(parse_backup_id(ctx.backup_id), kind=ctx.tier.kind)
    return ctx.catalog.manifest(str(own))


def _buckets(ctx: StepContext, policy: AttachmentsPolicy) -> dict[str, FileBucket]:
    connection = ctx.attachments_connection
    if connection is None:
        return {}
    return {name: FileBucket.connect(connection, bucket=name, concurrency=CONCURRENCY) for name in policy.buckets}


def _target(ctx: StepContext, listed: list[Listed], modified_at: int) -> TarTarget:
    size = sum(item.size + OVERHEAD_BYTES for item in listed)
    return TarTarget(
        key=ctx.archive_key,
        part_size=part_size_for(size + size // 10, ctx.source.store.part_size_mib * MEBIBYTE),
        concurrency=ctx.source.store.concurrency,
        encryption=ctx.encryption,
        storage_class=first_class(ctx.tier.storage_class, prove=ctx.tier.prove) or ctx.tier.storage_class,
        tags=archive_tags(ctx),
        modified_at=modified_at,
    )


def _facts(
    policy: AttachmentsPolicy,
    recovery_point: Manifest,
    collected: Collected,
    rows: list[Expected] | None,
    left_out: list[FileNote],
    previous: Previous | None,
) -> AttachmentsFacts:
    own = [row for row in rows or () if row.bucket in policy.buckets]
    found = Reconciled(missing=(), extra=(), changed=())
    if rows is not None:
        snapshot = recovery_point.dump.snapshot.time
        found = reconcile(collected.files, own, snapshot=snapshot, gone=collected.gone)
    return AttachmentsFacts(
        recovery_point=recovery_point.backup_id,
        buckets=policy.buckets,
        other_buckets=tuple(sorted({row.bucket for row in rows or ()} - set(policy.buckets))),
        based_on=None if previous is None else previous.backup_id,
        reconciled_with=None if rows is None else OBJECTS_TABLE,
        files=tuple(collected.files),
        missing=found.missing,
        extra=found.extra,
        changed=found.changed,
        troubled=(*left_out, *collected.troubled),
    )


def _manifest(
    ctx: StepContext,
    recovery_point: Manifest,
    members: list[Member],
    facts: AttachmentsFacts,
    stored: StoredTar,
    target: TarTarget,
    seconds: float,
) -> Manifest:
    return replace(
        recovery_point,
        backup_id=ctx.backup_id,
        kind=ctx.kind,
        created_at=ctx.clock(),
        run=run_facts(ctx),
        toc_version="",
        toc_entries=0,
        dump=replace(recovery_point.dump, not_carried=()),  # it is said of the database, in its own manifest
        archive=ArchiveObject(
            key=target.key,
            size=stored.size,
            part_size=target.part_size,
            checksum=stored.checksum,
            storage_class=ctx.tier.storage_class,
            encryption=ctx.encryption.algorithm or "none",
            kms_key_arn=ctx.encryption.kms_key_arn,
            first_class=first_class(ctx.tier.storage_class, prove=ctx.tier.prove),
        ),
        members=tuple(members),
        durations={"attachments": round(seconds, 3)},
        depends_on=tuple(sorted({file.archive for file in facts.files if file.archive is not None})),
        attachments=facts,
    )


def _report(manifest: Manifest, *, already_stored: bool, seconds: float) -> AttachmentsReport:
    facts = manifest.attachments
    if facts is None:
        raise ParameterError(f"{manifest.backup_id} holds no attachments; its manifest is another kind's")
    return AttachmentsReport(
        backup_id=manifest.backup_id,
        files=len(facts.files),
        reused=facts.reused,
        bytes=facts.bytes,
        archive_bytes=manifest.archive.size,
        missing=len(facts.missing),
        extra=len(facts.extra),
        changed=len(facts.changed),
        troubled=len(facts.troubled),
        based_on=facts.based_on,
        already_stored=already_stored,
        seconds=seconds,
        note=f"attachments: {facts.summary()}",
    )
