"""The stored log in an audit: how much of it there is, and how far it could be recovered after each run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from include.backup.audit.facts import WalRun
from include.backup.audit.month import Month
from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.policy import SourcePolicy
from include.backup.retention.bases import clusters_of
from include.backup.store import SMALL_READS, ObjectInfo, ObjectStore
from include.backup.wal.keys import ClusterKeys, runs_prefix
from include.backup.wal.record import read_record
from include.backup.wal.stored import stored_timelines

WAL = "wal"


def log_objects(source: SourcePolicy, store: ObjectStore) -> Iterator[ObjectInfo]:
    """Yield the objects of the log of the clusters of which this source has base backups, in pages as they are read."""
    for cluster in sorted(clusters_of(source, store)):
        keys = ClusterKeys(system_identifier=cluster)
        yield from store.list(keys.histories)
        for timeline in stored_timelines(store, keys):
            yield from store.list(keys.timeline(timeline))
            yield from store.list(keys.partials(timeline))


def wal_runs(store: ObjectStore, source: str, month: Month) -> tuple[WalRun, ...]:
    """Return the runs of a month, oldest first, and the last one before it: how things stood when it began."""
    prefix = runs_prefix(source)
    before = month.plus(-1)
    keys = [
        *[item.key for item in store.list(f"{prefix}{before.year}/{before.month:02}/")][-1:],
        *(item.key for item in store.list(f"{prefix}{month.year}/{month.month:02}/")),
    ]
    return tuple(sorted(_read(store, keys), key=lambda run: run.finished_at))


def _read(store: ObjectStore, keys: Iterable[str]) -> Iterator[WalRun]:
    def read(key: str) -> WalRun | None:
        try:
            record = read_record(store.get(key), name=key)
        except (ArchiveError, ObjectMissingError):
            # A run that left no readable record recovers nothing: the time until the next one counts against it.
            return None
        return WalRun(finished_at=record.finished_at, mark_time=record.mark_time, state=record.state.value)

    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="runs") as pool:
        yield from (run for run in pool.map(read, keys) if run is not None)


def sizes(objects: Iterable[ObjectInfo], *, at: datetime) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return [objects, bytes] by class, of all and of those that were there at a moment; holds no list of them."""
    everything: dict[str, list[int]] = {}
    there: dict[str, list[int]] = {}
    for item in objects:
        for counts in (everything, there) if item.modified <= at else (everything,):
            found = counts.setdefault(item.storage_class, [0, 0])
            found[0] += 1
            found[1] += item.size
    return everything, there
