"""What no backup is made of: archives without manifest, unfinished uploads, old proofs, staging of dead runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import ListedBackup
from include.backup.errors import StagingBusyError, StagingMissingError
from include.backup.policy import SourcePolicy
from include.backup.policy.cleanup import CleanupPolicy
from include.backup.retention.duration import Retention
from include.backup.staging import Staging
from include.backup.store import ObjectStore

_PROOF_TIME = "%Y%m%dT%H%M%SZ"
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An archive without manifest: its upload never finished, so it is no backup."""

    backup_id: str
    key: str
    size: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A multipart upload that nobody completed; its parts are paid for, and no list shows them."""

    key: str
    upload_id: str
    since: datetime


def grace_of(source: SourcePolicy) -> timedelta:
    """Return how old a leftover must be: longer than a failed run may still be cleared and finish."""
    policy = source.cleanup or CleanupPolicy()
    return max(policy.orphan_grace, timedelta(hours=source.keep_failed_hours) + ONE_DAY)


def orphans(
    listed: Iterable[ListedBackup], *, grace: timedelta, kept: Mapping[str, str], now: datetime
) -> tuple[Orphan, ...]:
    """Return the archives without manifest that are older than the grace, and on no hold."""
    found = []
    for item in listed:
        archive = item.archive
        if archive is not None and now - archive.modified > grace and item.backup_id not in kept:
            found.append(Orphan(backup_id=item.backup_id, key=archive.key, size=archive.size, since=archive.modified))
    return tuple(found)


def unfinished_uploads(
    store: ObjectStore, source: str, prefixes: Iterable[str], *, grace: timedelta, now: datetime
) -> tuple[Unfinished, ...]:
    """Return the unfinished uploads of this source's archives that are older than the grace."""
    found = []
    for prefix in sorted(set(prefixes)):
        for key, upload_id, since in store.unfinished(f"{prefix.rstrip('/')}/{source}_"):
            if _is_of(source, key.rpartition("/")[2].partition(".")[0]) and now - since > grace:
                found.append(Unfinished(key=key, upload_id=upload_id, since=since))
    return tuple(found)


def old_proofs(
    store: ObjectStore, source: str, *, existing: frozenset[str], keep: Retention, now: datetime
) -> tuple[str, ...]:
    """Return the proofs whose backup is gone and that are older than the policy keeps them."""
    found = []
    for item in store.list(f"proofs/{source}_"):
        _, backup_id, name = item.key.split("/", 2)
        made = _proof_time(name)
        if not _is_of(source, backup_id) or backup_id in existing or made is None:
            continue
        if keep.after(made) <= now:
            found.append(item.key)
    return tuple(found)


def dead_staging(root: Path, source: SourcePolicy, *, now: datetime) -> tuple[Path, ...]:
    """Return the staging folders of this source in which nothing has changed for ``keep_failed_hours``."""
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink() and _is_of(source.name, folder.name):
            changed = max(_changed(folder), default=now)
            if now - changed > timedelta(hours=source.keep_failed_hours):
                found.append(folder)
    return tuple(found)


def remove_staging(folder: Path) -> bool:
    """Remove a staging folder unless a process works in it or it is gone; say whether this call did."""
    staging = Staging(folder.parent, folder.name)
    try:
        with staging.locked():
            return staging.remove()
    except (StagingBusyError, StagingMissingError):
        return False


def sweep_staging(staging: Staging, source: SourcePolicy, *, now: datetime, log: logging.Logger) -> None:
    """Remove what dead runs of this source have left beside a run's own folder, on the machine of that run.

    What cannot be removed is told and stays: a leftover is no reason to have no backup.
    """
    for folder in dead_staging(staging.root, source, now=now):
        if folder == staging.path:
            continue
        try:
            if remove_staging(folder):
                log.info("%s was left by a dead run, and is removed", folder.name)
        except OSError as error:
            log.warning("%s was left by a dead run and cannot be removed: %s", folder, error.strerror)


def _changed(folder: Path) -> Iterator[datetime]:
    for path in (folder, *folder.rglob("*")):
        try:
            yield datetime.fromtimestamp(path.lstat().st_mtime, tz=UTC)
        except FileNotFoundError:
            continue


def _is_of(source: str, name: str) -> bool:
    parsed = parse_backup_id(name, strict=False)
    return parsed is not None and parsed.source == source


def _proof_time(name: str) -> datetime | None:
    try:
        return datetime.strptime(name.partition("_")[0], _PROOF_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
