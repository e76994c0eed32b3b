"""The base backups that the store holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.backup.base.record import BaseFacts
from include.backup.catalog import Catalog
from include.backup.errors import ArchiveError, BackupMissingError
from include.backup.inventory import Standing, listed_standing
from include.backup.manifest import Manifest, read_manifest
from include.backup.policy import SourcePolicy
from include.backup.store import ObjectStore
from include.backup.wal.keys import ROOT, ClusterKeys
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.window import BasePoint

# Base backups that fail are not followed by others for that long.
ANOTHER_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBase:
    """One base backup that is whole in the store."""

    manifest: Manifest
    base: BaseFacts
    standing: Standing

    @property
    def backup_id(self) -> str:
        return self.manifest.backup_id

    @property
    def stopped_at(self) -> datetime:
        return self.base.stopped_at

    def point(self) -> BasePoint:
        """Return it as the arithmetic of the log sees it."""
        return BasePoint(
            backup_id=self.backup_id,
            timeline=self.base.timeline,
            start=parse_lsn(self.base.start_lsn),
            end=parse_lsn(self.base.stop_lsn),
            finished_at=self.base.stopped_at,
            proven=self.standing is Standing.PROVEN,
        )


def base_prefix(system_identifier: str) -> str:
    """Return where a cluster's base backups lie.

    >>> base_prefix("7401")
    'incremental/7401/base/'
    """
    return f"{ClusterKeys(system_identifier=system_identifier).prefix}base/"


def clusters(store: ObjectStore) -> tuple[str, ...]:
    """Return the system identifiers of the clusters of which the store holds something."""
    return tuple(sorted(name for name in store.folders(ROOT) if name.isdigit()))


def base_catalog(source: SourcePolicy, store: ObjectStore, *, system_identifier: str | None = None) -> Catalog:
    """Return the catalogue of a source's base backups, of one cluster or of all."""
    found = clusters(store) if system_identifier is None else (system_identifier,)
    return Catalog(store, source=source.name, prefixes=[base_prefix(name) for name in found])


def stored_bases(
    source: SourcePolicy, store: ObjectStore, *, system_identifier: str | None = None
) -> tuple[StoredBase, ...]:
    """Return a source's base backups that have both objects and can be read, oldest first."""
    catalog = base_catalog(source, store, system_identifier=system_identifier)
    found = []
    for listed in catalog.list():
        if listed.archive is None or listed.manifest is None:
            continue
        try:
            content = catalog.manifest_of(listed)
            manifest = read_manifest(content, name=listed.backup_id)
        except ArchiveError:
            continue
        if manifest.base is not None:
            standing = listed_standing(catalog, listed, content)
            found.append(StoredBase(manifest=manifest, base=manifest.base, standing=standing))
    return tuple(sorted(found, key=lambda one: one.stopped_at))


def sound_bases(bases: Sequence[StoredBase]) -> tuple[StoredBase, ...]:
    """Return the base backups of which, and of all that they build on, nothing is missing and no proof failed."""
    return tuple(base for base in bases if _is_sound(base, bases))


def bases_that_count(bases: Sequence[StoredBase], *, now: datetime) -> tuple[StoredBase, ...]:
    """Return the base backups that make another one needless: the sound ones.

    When two of the last day have failed their proof, all count: a third at once would be of the same damaged cluster.
    """
    failed = [base for base in bases if base.standing is Standing.FAILED and now - base.stopped_at < ANOTHER_AFTER]
    return tuple(bases) if len(failed) > 1 else sound_bases(bases)


def _is_sound(base: StoredBase, bases: Sequence[StoredBase]) -> bool:
    try:
        return all(link.standing is not Standing.FAILED for link in chain_of(base.backup_id, bases))
    except BackupMissingError:
        return False


def chain_of(backup_id: str, bases: Iterable[StoredBase]) -> tuple[StoredBase, ...]:
    """Return a base backup with what it builds on, the full one first; raises BackupMissingError for a missing link."""
    known = {base.backup_id: base for base in bases}
    links: list[StoredBase] = []
    wanted: str | None = backup_id
    while wanted is not None:
        link = known.get(wanted)
        if link is None:
            needed = f", which {links[-1].backup_id} builds on," if links else ""
            raise BackupMissingError(
                f"the base backup {wanted}{needed} is not in the store, or its manifest cannot be read; choose another "
                "base backup"
            )
        links.append(link)
        wanted = link.base.parent
    return tuple(reversed(links))
