"""What can be recovered: for each base backup, from when to when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.backup.wal.chain import Chain
from include.backup.wal.history import History
from include.backup.wal.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePoint:
    """A base backup as recovery sees it: WAL is needed from ``start``, and it is consistent from ``end`` on."""

    backup_id: str
    timeline: int
    start: int
    end: int
    finished_at: datetime
    proven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A commit that a run made: its WAL ends at ``lsn``, and every target up to ``time`` lies before it."""

    timeline: int
    lsn: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What one base backup can be recovered to.

    ``latest`` is the time of the last marked commit in stored WAL; a target between that and the end of WAL at
    ``end`` recovers to that end. ``missing`` is the segment that is not stored.
    """

    base: BasePoint
    timeline: int
    end: int
    earliest: datetime
    latest: datetime
    missing: Segment


def windows(bases: Iterable[BasePoint], chain: Chain, marks: Sequence[Mark]) -> tuple[Window, ...]:
    """Return the windows of the base backups whose WAL reaches consistency, oldest base first."""
    found = [_window(base, chain, marks) for base in bases]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.base.finished_at))


def current(found: Sequence[Window], *, timeline: int, lsn: int) -> Window | None:
    """Return the window that reaches a position of a timeline (the end of the chain), from the oldest base that does.

    None means that the newest WAL cannot be used: there is no base backup before it, or a gap between them.
    """
    fitting = [window for window in found if window.timeline == timeline and window.end >= lsn]
    return min(fitting, key=lambda window: window.earliest, default=None)


def _window(base: BasePoint, chain: Chain, marks: Sequence[Mark]) -> Window | None:
    history = chain.newest_timeline(base.timeline, base.end)
    reach = chain.reach(base.start, timeline=base.timeline, target=history)
    if reach.end < base.end:
        return None
    return Window(
        base=base,
        timeline=reach.timeline,
        end=reach.end,
        earliest=base.finished_at,
        latest=_latest(base, history, reach.end, marks),
        missing=reach.missing,
    )


def _latest(base: BasePoint, history: History, end: int, marks: Sequence[Mark]) -> datetime:
    reached = [mark.time for mark in marks if base.end <= mark.lsn <= end and history.holds(mark.timeline, mark.lsn)]
    return max([base.finished_at, *reached])
