"""What the store holds of a source, which of it is proven, and which backup a person means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog, ListedBackup
from include.backup.errors import ArchiveError, BackupMissingError, ParameterError
from include.backup.manifest import fingerprint, read_manifest
from include.backup.proof.record import Proof, Result
from include.backup.store import SMALL_READS

LATEST = "latest"
LATEST_PROVEN = "latest-proven"
FULL = "full"
# Tiers of which no backup is full.
KIND_OF_TIER = {"hourly": "tables"}


class Completeness(StrEnum):
    """Which of a backup's two objects are in the store."""

    COMPLETE = "complete"
    NO_MANIFEST = "no manifest"
    NO_ARCHIVE = "no archive"


class Standing(StrEnum):
    """What the newest proof of a backup says."""

    PROVEN = "proven"
    FAILED = "failed"
    UNPROVEN = "unproven"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBackup:
    """One backup as a list shows it; ``size`` is the archive's in bytes, ``standing`` None without manifest."""

    backup_id: str
    tier: str
    kind: str
    run_after: datetime
    completeness: Completeness
    size: int | None
    stored_at: datetime | None
    standing: Standing | None
    proofs: int
    left_out: str = ""


def standing_of(manifest: bytes, proofs: Iterable[Proof]) -> Standing:
    """Return what the newest proof of exactly this manifest says; a proof of other content counts for nothing."""
    return standing_by(fingerprint(manifest), proofs)


def standing_by(digest: str, proofs: Iterable[Proof]) -> Standing:
    """Return what the newest proof of the manifest with this fingerprint says."""
    valid = [proof for proof in proofs if proof.manifest_sha256 == digest]
    if not valid:
        return Standing.UNPROVEN
    newest = max(valid, key=lambda proof: proof.finished_at)
    return Standing.PROVEN if newest.result is Result.PASSED else Standing.FAILED


def read_standing(catalog: Catalog, backup_id: str) -> Standing:
    """Read a backup's proofs; one that this version cannot read makes the standing unreadable, never proven."""
    try:
        return standing_of(catalog.manifest_bytes(backup_id), catalog.proofs(backup_id))
    except ArchiveError:
        return Standing.UNREADABLE


def listed_standing(catalog: Catalog, listed: ListedBackup, manifest: bytes) -> Standing:
    """Read the proofs that a listing has of a backup; one that cannot be read makes the standing unreadable."""
    try:
        return standing_of(manifest, catalog.proofs_of(listed))
    except ArchiveError:
        return Standing.UNREADABLE


def list_backups(catalog: Catalog, *, tier: str | None = None) -> tuple[StoredBackup, ...]:
    """Return all backups, oldest first, also those of which one object is missing."""
    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="list") as pool:
        return tuple(pool.map(lambda listed: _stored(catalog, listed), _listed(catalog, tier)))


def find_backup(catalog: Catalog, source: str, wanted: str, *, tier: str | None = None, kind: str | None = None) -> str:
    """Return the id that a person means: an id, ``latest`` or ``latest-proven`` of a kind; without one, the tier's.

    Raises ParameterError for what is no id of this source, BackupMissingError when there is none.
    """
    if wanted == LATEST:
        return _newest(catalog, source, (tier, kind), "complete backup", lambda backup_id: True)
    if wanted == LATEST_PROVEN:
        return _newest(
            catalog,
            source,
            (tier, kind),
            "proven backup",
            lambda backup_id: read_standing(catalog, backup_id) is Standing.PROVEN,
        )
    parsed = parse_backup_id(wanted)
    if parsed.source != source:
        raise ParameterError(f"{wanted} is a backup of {parsed.source}, not of {source}; name that source")
    if tier is not None and parsed.tier != tier:
        raise ParameterError(f"{wanted} is of the tier {parsed.tier}, not {tier}; leave --tier out")
    return wanted


def _newest(
    catalog: Catalog, source: str, where: tuple[str | None, str | None], what: str, fits: Callable[[str], bool]
) -> str:
    tier, kind = where
    wanted = kind or KIND_OF_TIER.get(tier or "", FULL)
    for listed in reversed(_listed(catalog, tier)):
        if parse_backup_id(listed.backup_id).kind != wanted:
            continue  # nobody who asks for the latest backup means an archive without rows, or of a few tables
        # A copy of what a restore has replaced is what somebody wanted to get rid of.
        if tier is None and parse_backup_id(listed.backup_id).tier == "safety":
            continue
        if listed.archive and listed.manifest and fits(listed.backup_id):
            return listed.backup_id
    place = f" of the kind {kind}" if kind else ""
    place += f" in the tier {tier}" if tier else ""
    raise BackupMissingError(f"{source} has no {what}{place}; `python -m include.backup list {source}` shows what is")


def _listed(catalog: Catalog, tier: str | None) -> Sequence[ListedBackup]:
    found = catalog.list()
    return found if tier is None else [item for item in found if parse_backup_id(item.backup_id).tier == tier]


def _stored(catalog: Catalog, listed: ListedBackup) -> StoredBackup:
    parsed = parse_backup_id(listed.backup_id)
    there = listed.archive or listed.manifest
    manifest = None if listed.manifest is None else catalog.manifest_of(listed)
    return StoredBackup(
        backup_id=listed.backup_id,
        tier=parsed.tier,
        kind=parsed.kind,
        run_after=parsed.run_after,
        completeness=_completeness(listed),
        size=None if listed.archive is None else listed.archive.size,
        stored_at=None if there is None else there.modified,
        standing=None if manifest is None else listed_standing(catalog, listed, manifest),
        proofs=listed.proofs,
        left_out="" if manifest is None else _left_out(listed.backup_id, manifest),
    )


def _left_out(backup_id: str, manifest: bytes) -> str:
    """Return what a backup leaves out; a manifest that cannot be read says nothing, and never looks whole."""
    try:
        return read_manifest(manifest, name=backup_id).left_out
    except ArchiveError:
        return "its manifest cannot be read"


def _completeness(listed: ListedBackup) -> Completeness:
    if listed.manifest is None:
        return Completeness.NO_MANIFEST
    return Completeness.NO_ARCHIVE if listed.archive is None else Completeness.COMPLETE
