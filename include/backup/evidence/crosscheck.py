"""The ledger against the rest of the bucket: what is there without a record, and what is gone without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import MANIFEST_SUFFIX
from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.evidence.check import Finding, LedgerCheck
from include.backup.evidence.record import Head
from include.backup.policy import SourcePolicy
from include.backup.proof.record import read_proof
from include.backup.store import ObjectInfo, ObjectStore

ANCHORS = 50
CONCURRENCY = 8


def proof_anchors(store: ObjectStore, source: str, *, most: int = ANCHORS) -> list[tuple[str, Head]]:
    """Return the heads that the newest proofs of a source saw."""
    keys = sorted((item.key for item in _proofs(store, source)), key=lambda key: key.rpartition("/")[2])[-most:]

    def anchor(key: str) -> tuple[str, Head] | None:
        try:
            proof = read_proof(store.get(key), name=key)
        except (ArchiveError, ObjectMissingError):
            return None
        return None if proof.evidence_head is None else (f"proof {proof.proof_id}", Head.parse(proof.evidence_head))

    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="anchor") as pool:
        return [found for found in pool.map(anchor, keys) if found is not None]


def crosscheck(store: ObjectStore, source: SourcePolicy, check: LedgerCheck) -> Iterator[Finding]:
    """Yield backups and proofs without a record, and recorded backups that are gone without a recorded deletion.

    What was stored before the ledger's first record is left out.
    """
    began = check.began_at
    if began is None:
        return
    manifests = list(_manifests(store, source))
    stored = {_backup_id(info) for info in manifests}
    newer = (info for info in manifests if info.modified >= began)
    yield from _unrecorded(check, "backup", map(_backup_id, newer))
    proofs = (info for info in _proofs(store, source.name) if info.modified >= began)
    yield from _unrecorded(check, "proof", (info.key.rpartition("/")[2].removesuffix(".json") for info in proofs))
    recorded = {name.removeprefix("backup:") for name in check.once if name.startswith("backup:")}
    deleted = check.subjects.get("deletion", frozenset())
    for backup_id in sorted(recorded - stored - deleted):
        parsed = parse_backup_id(backup_id, strict=False)
        if parsed is not None and parsed.tier in source.tiers:
            yield Finding(sequence=0, what=f"backup {backup_id} was recorded, is gone, and no deletion was recorded")


def _unrecorded(check: LedgerCheck, kind: str, names: Iterable[str]) -> Iterator[Finding]:
    for name in sorted(names):
        if f"{kind}:{name}" not in check.once:
            yield Finding(sequence=0, what=f"{kind} {name} is in the store and has no record")


def _manifests(store: ObjectStore, source: SourcePolicy) -> Iterator[ObjectInfo]:
    """Yield manifests of this source's backups; another source's name may begin in the same way."""
    for tier in source.tiers.values():
        for info in store.list(f"{tier.prefix}{source.name}_"):
            if info.key.endswith(MANIFEST_SUFFIX) and _is_of(source.name, _backup_id(info)):
                yield info


def _proofs(store: ObjectStore, source: str) -> Iterator[ObjectInfo]:
    """Yield proofs of this source's backups; another source's name may begin in the same way."""
    return (info for info in store.list(f"proofs/{source}_") if _is_of(source, info.key.split("/")[1]))


def _backup_id(manifest: ObjectInfo) -> str:
    return manifest.key.rpartition("/")[2].removesuffix(MANIFEST_SUFFIX)


def _is_of(source: str, backup_id: str) -> bool:
    parsed = parse_backup_id(backup_id, strict=False)
    return parsed is not None and parsed.source == source
