"""copy_yearly: keep January's archives for years, as copies within the store."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from include.backup.backup_id import make_backup_id, parse_backup_id
from include.backup.catalog import archive_key, manifest_key, proof_prefix
from include.backup.errors import CopyRefusedError, ObjectDiffersError, ObjectExistsError, ParameterError
from include.backup.evidence import EventKind, open_ledger
from include.backup.evidence.record import backup_name
from include.backup.manifest import CopyFacts, Manifest, fingerprint
from include.backup.multipart_copy import CopyPlan, copy
from include.backup.policy import TierPolicy
from include.backup.proof.record import InheritedProof, Proof, Result
from include.backup.steps.change_class import archives_of_run, require_proven
from include.backup.steps.context import StepContext
from include.backup.versions import Version, current_version, read_version

JANUARY = 1
YEARLY = "yearly"
WANTED = ("by month", "yes", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReport:
    """What was copied, or why nothing was."""

    backup_id: str
    copies: tuple[str, ...]
    copied_bytes: int
    seconds: float
    note: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "copies": list(self.copies)}

    def line(self) -> str:
        if not self.copies:
            return f"{self.backup_id} is not copied to a yearly tier: {self.why}"
        return f"{self.backup_id} copied as {', '.join(self.copies)}: {self.copied_bytes} bytes, {self.seconds:.1f} s"


def run(ctx: StepContext, *, wanted: str = "by month") -> CopyReport:
    """Copy the archives of this run to the yearly tier, if it is January's run or somebody says so.

    Raises CopyRefusedError for an archive that is not proven, or that needs others which will be gone.
    """
    started = time.monotonic()
    why = _why_not(ctx, wanted)
    if why is not None:
        return CopyReport(backup_id=ctx.backup_id, copies=(), copied_bytes=0, seconds=0.0, note="", why=why)
    yearly = ctx.source.tier(YEARLY)
    ids = tuple(archives_of_run(ctx))
    for backup_id in ids:
        require_proven(ctx.catalog, backup_id)
    copies = [_copy_backup(ctx, backup_id, yearly) for backup_id in ids]
    return CopyReport(
        backup_id=ctx.backup_id,
        copies=tuple(manifest.backup_id for manifest in copies),
        copied_bytes=sum(manifest.archive.size for manifest in copies),
        seconds=round(time.monotonic() - started, 3),
        note=f"also kept {yearly.keep} in {yearly.prefix}",
        why="",
    )


def will_be_copied(ctx: StepContext, wanted: str) -> bool:
    """Say whether this run's archives go to the yearly tier."""
    return _why_not(ctx, wanted) is None


def _why_not(ctx: StepContext, wanted: str) -> str | None:
    if wanted not in WANTED:
        raise ParameterError(f"yearly is {wanted!r}; allowed: {', '.join(WANTED)}")
    if YEARLY not in ctx.source.tiers:
        return "the policy has no tier yearly for this source"
    if wanted == "no":
        return "the run's parameter says so"
    if wanted == "by month" and ctx.run.run_after.month != JANUARY:
        return f"only January's archive is, and this run was due in {ctx.run.run_after:%B}"
    return None


def _copy_backup(ctx: StepContext, original_id: str, yearly: TierPolicy) -> Manifest:
    """Copy archive, then manifest, then proof; what a killed try has done is found, and compared."""
    original, content = ctx.catalog.read(original_id)
    copy_id = make_backup_id(
        source=ctx.source.name,
        tier=YEARLY,
        kind=original.kind,
        run_after=parse_backup_id(original_id).run_after,
        dag_id=ctx.run.dag_id,
        run_id=ctx.run.run_id,
    )
    if ctx.store.head(manifest_key(yearly.prefix, copy_id)) is not None:
        made = ctx.catalog.manifest(copy_id)
        if made.archive.checksum != original.archive.checksum:
            raise ObjectExistsError(f"{copy_id} is already there and no copy of {original_id}; it was left as it is")
    else:
        _require_whole(original)
        made = _store_copy(ctx, original, content, copy_id, yearly)
    _inherit_proof(ctx, original, made)
    ctx.log.info("%s is a copy of %s, checked by %s", copy_id, original_id, made.copy_of and made.copy_of.checked_by)
    return made


def _require_whole(original: Manifest) -> None:
    if original.depends_on:
        raise CopyRefusedError(
            f"{original.backup_id} needs {len(original.depends_on)} other archives, which are not kept for years; "
            "trigger a new run with yearly: yes, whose archives need no other"
        )


def _store_copy(ctx: StepContext, original: Manifest, content: bytes, copy_id: str, yearly: TierPolicy) -> Manifest:
    source = current_version(ctx.store, original.archive.key)
    key = archive_key(yearly.prefix, copy_id)
    tags = {"source": ctx.source.name, "tier": YEARLY, "kind": original.kind}
    plan = CopyPlan(
        source=source,
        key=key,
        part_size=original.archive.part_size,
        checksum=original.archive.checksum,
        storage_class=yearly.storage_class,
        encryption=ctx.encryption,
        tags=tags,
        concurrency=ctx.source.store.concurrency,
    )
    there = read_version(ctx.store, key, None)
    if there is None:
        checked_by = copy(ctx.store, plan, progress=lambda _: None)
        there = current_version(ctx.store, key)
    else:
        checked_by = "an earlier try had copied it; size and hash are the original's"
    _require_same(ctx, there, source, original)
    manifest = replace(
        original,
        backup_id=copy_id,
        tier=YEARLY,
        created_at=ctx.clock(),
        archive=replace(
            original.archive,
            key=key,
            storage_class=yearly.storage_class,
            first_class=None,
            encryption=ctx.encryption.algorithm or "none",
            kms_key_arn=ctx.encryption.kms_key_arn,
        ),
        copy_of=CopyFacts(backup_id=original.backup_id, manifest_sha256=fingerprint(content), checked_by=checked_by),
    )
    ctx.store.put_if_absent(
        manifest_key(yearly.prefix, copy_id), manifest.to_json(), encryption=ctx.encryption, tags=tags
    )
    return manifest


def _require_same(ctx: StepContext, there: Version, source: Version, original: Manifest) -> None:
    """Compare the copy with the manifest by the store's SHA-256, or by its ETag where it keeps none of a copy."""
    same = there.checksum == original.archive.checksum or (there.checksum is None and there.etag == source.etag)
    if there.size != original.archive.size or not same:
        raise ObjectDiffersError(
            f"{ctx.store.url(there.key)} is there and differs from {original.backup_id} ({there.size} bytes, SHA-256 "
            f"{there.checksum}); it was left as it is, look who wrote it"
        )


def _inherit_proof(ctx: StepContext, original: Manifest, made: Manifest) -> None:
    """Leave beside the copy the proof of its original, which says itself that it was inherited."""
    content, copied = ctx.catalog.manifest_bytes(original.backup_id), ctx.catalog.manifest_bytes(made.backup_id)
    valid = [proof for proof in ctx.catalog.proofs(original.backup_id) if _proves(proof, content)]
    proof = replace(
        max(valid, key=lambda item: item.finished_at),
        backup_id=made.backup_id,
        manifest_sha256=fingerprint(copied),
        inherited_from=InheritedProof(
            backup_id=original.backup_id,
            manifest_sha256=fingerprint(content),
            archive_checksum=original.archive.checksum,
            archive_size=original.archive.size,
        ),
    )
    key = f"{proof_prefix(made.backup_id)}{proof.proof_id}.json"
    ctx.store.put_if_absent(key, proof.to_json(), encryption=ctx.encryption)
    open_ledger(ctx.source, ctx.store, clock=ctx.clock).append(
        EventKind.BACKUP,
        subject=made.backup_id,
        actor=ctx.run.actor,
        facts={
            "key": made.archive.key,
            "bytes": made.archive.size,
            "checksum": made.archive.checksum,
            "manifest_sha256": fingerprint(copied),
            "copy_of": original.backup_id,
            "proof_id": proof.proof_id,
            "storage_class": made.archive.storage_class,
        },
        once=backup_name(made.backup_id),
    )


def _proves(proof: Proof, manifest: bytes) -> bool:
    return proof.result is Result.PASSED and proof.manifest_sha256 == fingerprint(manifest)
