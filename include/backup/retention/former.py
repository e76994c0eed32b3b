"""The log of a cluster that a source has left: an upgrade makes another one, and what was stored of this stays behind.

It goes once nothing can be recovered with it any more: no base backup of it is there, and all that it leads to lies
further back than any point in time is to be recovered. Whatever is not known for sure keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from include.backup.base.stored import base_prefix, clusters
from include.backup.errors import ArchiveError
from include.backup.policy import SourcePolicy
from include.backup.retention.bases import WalExpiry
from include.backup.store import ObjectStore
from include.backup.wal.keys import ClusterKeys, runs_prefix
from include.backup.wal.record import RunRecord, newest_record, read_record, recorded_sources
from include.backup.wal.stored import stored_timelines

ONE_DAY = timedelta(days=1)


def former_logs(source: SourcePolicy, store: ObjectStore, *, now: datetime) -> tuple[WalExpiry, ...]:
    """Return the log of clusters that this source has left for longer than the policy keeps base backups."""
    if source.base_backup is None:
        return ()
    left = [name for name in clusters(store) if not store.page(base_prefix(name), start_after="", limit=1)]
    if not left:
        return ()
    try:
        present = _present(store)
        found: list[WalExpiry] = []
        for cluster in left:
            newest = None if cluster in present else _newest(store, cluster)
            if newest is not None and source.base_backup.keep.after(newest) <= now:
                found.extend(_log(source, store, cluster, newest))
    except ArchiveError:
        # A record that this version cannot read may be of any cluster.
        return ()
    return tuple(found)


def _present(store: ObjectStore) -> frozenset[str]:
    """Return the clusters that the sources of this bucket were when they were last looked at."""
    last = (newest_record(store, name) for name in recorded_sources(store))
    return frozenset(record.system_identifier for record in last if record is not None)


def _newest(store: ObjectStore, cluster: str) -> datetime | None:
    """Return when the last of a cluster's log was stored."""
    keys = ClusterKeys(system_identifier=cluster)
    folders = [
        folder
        for timeline in stored_timelines(store, keys)
        for folder in (keys.timeline(timeline), keys.partials(timeline))
    ]
    return max((item.modified for folder in folders for item in store.list(folder)), default=None)


def _log(source: SourcePolicy, store: ObjectStore, cluster: str, newest: datetime) -> Iterator[WalExpiry]:
    record = next((one for one in _records_around(source, store, newest) if one.system_identifier == cluster), None)
    if record is None:
        return
    why = (
        f"{source.name} has left this cluster, no base backup of it is kept, and the last was stored {newest:%Y-%m-%d}"
    )
    for timeline in stored_timelines(store, ClusterKeys(system_identifier=cluster)):
        yield WalExpiry(cluster=cluster, timeline=timeline, size=record.segment_size, before=None, why=why)


def _records_around(source: SourcePolicy, store: ObjectStore, moment: datetime) -> Iterator[RunRecord]:
    """Yield the records of the source's runs of three days: one of them stored what was stored then."""
    for day in (moment, moment - ONE_DAY, moment + ONE_DAY):
        for key in store.keys(f"{runs_prefix(source.name)}{day:%Y/%m/%d}/"):
            yield read_record(store.get(key), name=key)
