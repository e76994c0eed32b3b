"""The record of a run: what it stored, what it found, and how far recovery could go then. One small object each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from include.backup.records import from_json, to_json
from include.backup.store import ObjectStore
from include.backup.wal.keys import runs_prefix
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.window import Mark

FORMAT_VERSION = 1


class State(StrEnum):
    """How a source's log stands after a run. A message is sent when it changes, not every few minutes."""

    OK = "ok"
    WARNING = "warning"  # stored, but a person should change something
    BEHIND = "behind"  # stored, but the source writes faster than is stored
    NO_BASE = "no_base"  # stored, but no base backup lies behind it yet
    BROKEN = "broken"  # this run found the chain broken and began a new one
    RELEASED = "released"  # the slots were removed: this source is not protected any more


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run. Positions are as PostgreSQL writes them, sizes are in bytes.

    The log is whole from ``chain_start`` to ``end_lsn``; ``partial_lsn`` is how far the beginning of the next segment
    goes. Every target up to ``mark_time`` lies before ``mark_lsn``.
    """

    source: str
    run_id: str
    run_after: datetime
    finished_at: datetime
    system_identifier: str
    timeline: int
    segment_size: int
    server_version: str
    state: State
    chain_start: str
    start_lsn: str
    end_lsn: str
    partial_lsn: str | None
    mark_lsn: str
    mark_time: datetime
    segments: int
    content_bytes: int
    stored_bytes: int
    slot_lag_bytes: int
    hold_slot: str
    run_slot: str
    connection: str
    base_wanted: str | None
    broken: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        return to_json(self, format_version=FORMAT_VERSION)

    def mark(self) -> Mark:
        """Return the run's commit as the arithmetic of windows sees it."""
        return Mark(timeline=self.timeline, lsn=parse_lsn(self.mark_lsn), time=self.mark_time)


def read_record(content: bytes, *, name: str) -> RunRecord:
    """Return a record; raises ManifestError or FormatVersionError."""
    return from_json(RunRecord, content, format_version=FORMAT_VERSION, name=name)


def newest_record(store: ObjectStore, source: str) -> RunRecord | None:
    """Return the record of the last run, found in five requests however many there are."""
    return next(records_backwards(store, source), None)


def records_backwards(store: ObjectStore, source: str) -> Iterator[RunRecord]:
    """Yield the records of a source, newest first; a day is listed when it is reached.

    A key tells the second in which a run was due; which of several is the newest, they tell themselves.
    """
    for day in _days_backwards(store, runs_prefix(source)):
        keys = sorted((item.key for item in store.list(day)), reverse=True)
        for _, same in groupby(keys, key=lambda key: key.rpartition("_")[0]):
            found = [read_record(store.get(key), name=key) for key in same]
            yield from sorted(found, key=lambda record: record.finished_at, reverse=True)


def records_since(store: ObjectStore, source: str, since: datetime) -> tuple[RunRecord, ...]:
    """Return the records of the runs that were due from a time on, newest first."""
    found = []
    for record in records_backwards(store, source):
        if record.run_after < since:
            break
        found.append(record)
    return tuple(found)


def recorded_sources(store: ObjectStore) -> tuple[str, ...]:
    """Return every source of which the store has records, also those that have left the policy."""
    return tuple(store.folders(runs_prefix("").rstrip("/") + "/"))


def _days_backwards(store: ObjectStore, prefix: str, depth: int = 3) -> Iterator[str]:
    if depth == 0:
        yield prefix
        return
    for name in sorted(store.folders(prefix), reverse=True):
        yield from _days_backwards(store, f"{prefix}{name}/", depth - 1)
