"""upload: stream the archive to the store in parts, then write the manifest. The manifest comes last."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.errors import ObjectExistsError
from include.backup.evidence import EventKind, open_ledger
from include.backup.evidence.record import backup_name
from include.backup.manifest import (
    ArchiveObject,
    DumpFacts,
    Fits,
    Manifest,
    Member,
    ReleaseFacts,
    RunFacts,
    TableData,
    fingerprint,
    read_manifest,
)
from include.backup.multipart import (
    SentParts,
    Uploaded,
    UploadPlan,
    abort_unfinished,
    checksum_of,
    part_size_for,
    upload,
)
from include.backup.postgres.toc import TocEntry
from include.backup.steps.compress import Pack, StagedMember, read_pack, read_staged_toc
from include.backup.steps.context import StepContext
from include.backup.steps.dump import read_facts
from include.backup.storage_class import first_class

UPLOAD_FILE = "upload.json"
MEBIBYTE = 1 << 20
PROGRESS_SECONDS = 10.0
# A dump restores into its server's major and every newer one; older servers refuse parts of it.
NEWEST_SERVER_MAJOR = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadReport:
    """What upload did; sizes in bytes."""

    backup_id: str
    key: str
    size: int
    parts: int
    resumed_parts: int
    already_stored: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        if self.already_stored:
            return f"{self.backup_id} was stored already at {self.key}, {self.size} bytes"
        rate = self.size / max(self.seconds, 0.001) / 1e6
        return (
            f"{self.backup_id} stored at {self.key}: {self.size} bytes in {self.parts} parts "
            f"({self.resumed_parts} sent before), {self.seconds:.1f} s, {rate:.0f} MB/s"
        )


def run(ctx: StepContext) -> UploadReport:
    """Store archive and manifest; a retry sends only the parts that are missing.

    Raises ObjectExistsError when an object of that name holds other content.
    """
    if ctx.manifest_is_stored():
        return already_stored(ctx)
    started = time.monotonic()
    with ctx.staging.locked():
        pack, facts = read_pack(ctx), read_facts(ctx)
        layout = _layout(ctx, pack, facts)
        part_size = part_size_for(layout.size, ctx.source.store.part_size_mib * MEBIBYTE)
        plan = upload_plan(ctx, layout, part_size=part_size)
        uploaded = store_archive(ctx, plan)
        seconds = round(time.monotonic() - started, 3)
        return store_manifest(ctx, plan, uploaded, _manifest(ctx, pack, facts, plan, uploaded, seconds), seconds)


def store_manifest(
    ctx: StepContext, plan: UploadPlan, uploaded: Uploaded, manifest: Manifest, seconds: float
) -> UploadReport:
    """Make a backup of an archive that is stored; an earlier try's manifest goes before this one's.

    Raises ArchiveError for one that nobody could read, before it is stored.
    """
    content = ctx.staging.read(UPLOAD_FILE) or manifest.to_json()
    readable = read_manifest(content, name=ctx.backup_id)
    ctx.staging.write(UPLOAD_FILE, content)
    ctx.store.put_if_absent(ctx.manifest_key, content, encryption=ctx.encryption, tags=plan.tags)
    record_stored(ctx, readable, content)
    return UploadReport(
        backup_id=ctx.backup_id,
        key=ctx.store.url(plan.key),
        size=plan.layout.size,
        parts=uploaded.parts,
        resumed_parts=uploaded.resumed_parts,
        already_stored=False,
        seconds=seconds,
    )


def record_stored(ctx: StepContext, manifest: Manifest, content: bytes) -> None:
    """Leave the evidence that this backup was stored; a retry finds it."""
    open_ledger(ctx.source, ctx.store, clock=ctx.clock).append(
        EventKind.BACKUP,
        subject=manifest.backup_id,
        actor=ctx.run.actor,
        facts={
            "key": manifest.archive.key,
            "bytes": manifest.archive.size,
            "checksum": manifest.archive.checksum,
            "manifest_sha256": fingerprint(content),
            "rows": manifest.rows,
            "snapshot_time": manifest.dump.snapshot.time,
            "encryption": manifest.archive.encryption,
            "storage_class": manifest.archive.storage_class,
            "release": None if manifest.release is None else manifest.release.name,
        },
        once=backup_name(manifest.backup_id),
    )


def already_stored(ctx: StepContext) -> UploadReport:
    """Return the report of a backup that is whole in the store, and see that there is evidence of it."""
    manifest, content = ctx.catalog.read(ctx.backup_id)
    record_stored(ctx, manifest, content)
    return UploadReport(
        backup_id=ctx.backup_id,
        key=ctx.store.url(manifest.archive.key),
        size=manifest.archive.size,
        parts=0,
        resumed_parts=0,
        already_stored=True,
        seconds=0.0,
    )


def _layout(ctx: StepContext, pack: Pack, facts: DumpFacts) -> TarLayout:
    files = [
        FileMember(name=member.name, path=ctx.staging.path / member.path, length=member.facts.stored_length)
        for member in pack.members
    ]
    return TarLayout(files, modified_at=int(facts.snapshot.time.timestamp()))


def upload_plan(ctx: StepContext, layout: TarLayout, *, part_size: int) -> UploadPlan:
    """Return where and how an archive is stored."""
    tags = archive_tags(ctx)
    return UploadPlan(
        key=ctx.archive_key,
        layout=layout,
        part_size=part_size,
        concurrency=ctx.source.store.concurrency,
        encryption=ctx.encryption,
        storage_class=first_class(ctx.tier.storage_class, prove=ctx.tier.prove) or ctx.tier.storage_class,
        tags=tags,
    )


def archive_tags(ctx: StepContext) -> dict[str, str]:
    """Return the tags of an archive and its manifest."""
    tags = {"source": ctx.source.name, "tier": ctx.tier.name, "kind": ctx.kind}
    return tags if ctx.release is None else {**tags, "release": ctx.release.name}


def store_archive(ctx: StepContext, plan: UploadPlan, *, sent: SentParts | None = None) -> Uploaded:
    """Upload, unless a killed try had finished the archive and only its manifest is missing."""
    there = ctx.store.head(plan.key)
    if there is None:
        return upload(ctx.store, plan, progress=_Progress(ctx, plan.layout.size).add, sent=sent)
    expected = checksum_of(plan)
    if there.size != plan.layout.size or there.checksum not in (None, expected):
        raise ObjectExistsError(
            f"{ctx.store.url(plan.key)} is already there with other content ({there.size} bytes); it was left as "
            "it is. Start a new run, and find out who wrote it"
        )
    abort_unfinished(ctx.store, plan.key)
    ctx.log.info("the archive is there from an earlier try; writing its manifest")
    return Uploaded(checksum=expected, parts=plan.parts, resumed_parts=plan.parts)


def _manifest(
    ctx: StepContext, pack: Pack, facts: DumpFacts, plan: UploadPlan, uploaded: Uploaded, seconds: float
) -> Manifest:
    entries = {entry.dump_id: entry for entry in read_staged_toc(ctx).table_data}
    return Manifest(
        backup_id=ctx.backup_id,
        source=ctx.source.name,
        tier=ctx.tier.name,
        kind=ctx.kind,
        created_at=ctx.clock(),
        run=run_facts(ctx),
        release=None if ctx.release is None else ReleaseFacts(name=ctx.release.name, git_sha=ctx.release.git_sha),
        dump=facts,
        excluded_schemas=tuple(ctx.source.excluded_schemas),
        excluded_tables=tuple(ctx.source.excluded_tables),
        toc_version=pack.toc_version,
        toc_entries=pack.toc_entries,
        fits=Fits(
            pg_restore_minimum=pack.pg_restore_minimum,
            server_majors=tuple(range(facts.server.major, NEWEST_SERVER_MAJOR + 1)),
        ),
        archive=archive_object(ctx, plan, uploaded),
        members=tuple(
            _member(staged, placed.offset, entries)
            for staged, placed in zip(pack.members, plan.layout.members, strict=True)
        ),
        durations={"dump": facts.seconds, "compress": pack.seconds, "upload": seconds},
        proof_level=ctx.tier.proof_level,
    )


def run_facts(ctx: StepContext) -> RunFacts:
    """Return the run as the manifest records it."""
    return RunFacts(
        dag_id=ctx.run.dag_id,
        run_id=ctx.run.run_id,
        run_after=ctx.run.run_after,
        triggered_by=ctx.run.triggered_by,
    )


def archive_object(ctx: StepContext, plan: UploadPlan, uploaded: Uploaded) -> ArchiveObject:
    """Return the stored archive as the manifest records it."""
    return ArchiveObject(
        key=plan.key,
        size=plan.layout.size,
        part_size=plan.part_size,
        checksum=uploaded.checksum,
        storage_class=ctx.tier.storage_class,
        encryption=ctx.encryption.algorithm or "none",
        kms_key_arn=ctx.encryption.kms_key_arn,
        first_class=first_class(ctx.tier.storage_class, prove=ctx.tier.prove),
    )


def _member(staged: StagedMember, offset: int, entries: dict[int, TocEntry]) -> Member:
    facts = staged.facts
    table = None
    if staged.dump_id is not None:
        entry = entries[staged.dump_id]
        table = TableData(
            dump_id=entry.dump_id,
            schema=entry.namespace,
            table=entry.tag,
            copy_statement=entry.copy_statement,
            rows=facts.rows or 0,
            content_sha256=facts.content_sha256 or "",
        )
    return Member(
        name=staged.name,
        offset=offset,
        stored_length=facts.stored_length,
        stored_sha256=facts.stored_sha256,
        length=facts.length,
        sha256=facts.sha256,
        compression=staged.compression,
        table_data=table,
    )


class _Progress:
    """Logs the share that is stored, at most one line in some seconds."""

    def __init__(self, ctx: StepContext, total: int) -> None:
        self._ctx = ctx
        self._total = total
        self._done = 0
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + PROGRESS_SECONDS
                share = 100 * self._done // self._total
                self._ctx.log.info("%d of %d bytes stored (%d %%)", self._done, self._total, share)
