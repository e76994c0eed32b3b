"""What the store holds for a recovery: read once, before anything is decided."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from include.backup.base.stored import stored_bases
from include.backup.errors import BackupMissingError
from include.backup.point_in_time.choose import Stored
from include.backup.policy import SourcePolicy
from include.backup.store import ObjectStore
from include.backup.wal.chain import Reach
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment
from include.backup.wal.stored import read_chain

# The store tells times in whole seconds, rounded down: what was stored within a second is surely in it at its end.
HTTP_SECOND = timedelta(seconds=1)


def read_stored(source: SourcePolicy, store: ObjectStore, *, system_identifier: str | None = None) -> Stored:
    """Return base backups and WAL of one cluster; without a name, that of the newest base backup.

    Raises BackupMissingError when there is no base backup.
    """
    bases = stored_bases(source, store, system_identifier=system_identifier)
    if not bases:
        of = f" of cluster {system_identifier}" if system_identifier else ""
        raise BackupMissingError(
            f"the store has no base backup{of} of {source.name}, so that no point in time can be recovered; run "
            "base_backup"
        )
    cluster = bases[-1].base.system_identifier
    ours = tuple(base for base in bases if base.base.system_identifier == cluster)
    size = ours[-1].base.wal_segment_bytes
    keys = ClusterKeys(system_identifier=cluster)
    first = min(ours, key=lambda base: (base.base.timeline, base.point().start)).point()
    chain = read_chain(store, keys, size=size, since=Segment.at(first.start, timeline=first.timeline, size=size))
    return Stored(system_identifier=cluster, bases=ours, chain=chain, until=_until(store, keys))


def _until(store: ObjectStore, keys: ClusterKeys) -> Callable[[Reach], datetime | None]:
    """Return what tells when the last WAL of a reach was stored."""

    def until(reach: Reach) -> datetime | None:
        missing = reach.missing
        if reach.partial:
            info = store.head(keys.partial(missing, reach.end))
        else:
            last = Segment(timeline=missing.timeline, number=missing.number - 1, size=missing.size)
            info = store.head(keys.segment(last))
        return None if info is None else info.modified + HTTP_SECOND

    return until
