"""Which base backup a recovery begins with, and whether its target can be reached: decided before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.backup.base.stored import StoredBase, chain_of
from include.backup.errors import (
    BackupMissingError,
    ParameterError,
    RestoreError,
    TargetOutsideWindowError,
    TimelineMissingError,
    WalSegmentMissingError,
)
from include.backup.inventory import Standing
from include.backup.point_in_time.target import RecoveryTarget, TargetKind
from include.backup.wal.chain import Chain, Reach
from include.backup.wal.history import History
from include.backup.wal.lsn import format_lsn
from include.backup.wal.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store holds of one cluster: base backups and the chain of WAL.

    ``until`` tells when the last WAL of a reach was stored: no commit in it is later.
    """

    system_identifier: str
    bases: Sequence[StoredBase]
    chain: Chain
    until: Callable[[Reach], datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person asked for; ``base`` and ``timeline`` are None for the best fitting ones."""

    target: RecoveryTarget
    base: str | None = None
    timeline: int | None = None
    unproven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The base backup and what it builds on, the full one first, and the way that recovery follows from there.

    ``past_end`` says that nothing after the target is stored, so that recovery may end before it. ``last_segment``
    is the last one that is surely needed, None when that is known only during recovery. ``hole`` is the missing segment
    at the end of the reach, where later ones are stored.
    """

    system_identifier: str
    target: RecoveryTarget
    bases: tuple[StoredBase, ...]
    history: History
    reach: Reach
    earliest: datetime
    latest: datetime
    hole: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def base(self) -> StoredBase:
        return self.bases[-1]

    @property
    def ends_at(self) -> str | None:
        """The hole at which a recovery to the end of the log ends, though the log goes on."""
        return self.hole if self.target.kind is TargetKind.LATEST else None


def choose(stored: Stored, wanted: Wanted) -> Choice:
    """Choose. Raises TargetOutsideWindowError with the window, WalSegmentMissingError or TimelineMissingError."""
    if not stored.bases:
        raise BackupMissingError(
            f"the store has no base backup of cluster {stored.system_identifier}, so that there is nothing to recover "
            "from; run base_backup"
        )
    candidates = [_candidate(stored, base, wanted) for base in stored.bases]
    whole = [one for one in candidates if one.reach.end >= one.base.point().end]
    if wanted.base is not None:
        return _named(stored, candidates, wanted)
    if not whole:
        newest = candidates[-1]
        raise WalSegmentMissingError(_incomplete(newest))
    fitting = [one for one in whole if _begins_before(one, wanted.target)]
    if not fitting:
        raise TargetOutsideWindowError(f"{wanted.target} lies before {_window(whole)}")
    reaching = [one for one in fitting if _reaches(one, wanted.target)]
    if not reaching:
        raise _unreachable(fitting[-1], whole, wanted)
    allowed = [one for one in reaching if wanted.unproven or one.base.standing is Standing.PROVEN]
    if not allowed:
        raise BackupMissingError(
            f"{reaching[-1].base.backup_id} and {len(reaching) - 1} other base backups before {wanted.target} are not "
            "proven; prove one (verify --restore-test), or say explicitly that an unproven one will do"
        )
    oldest_first = wanted.target.kind in (TargetKind.XID, TargetKind.NAME)
    return allowed[0] if oldest_first else allowed[-1]


def _candidate(stored: Stored, base: StoredBase, wanted: Wanted) -> Choice:
    point = base.point()
    history = _history(stored.chain, point.timeline, point.end, wanted.timeline)
    try:
        bases = chain_of(base.backup_id, stored.bases)
        notes: tuple[str, ...] = ()
    except BackupMissingError as error:
        bases, notes = (base,), (str(error),)
    reach = stored.chain.reach(point.start, timeline=point.timeline, target=history)
    latest = max(base.stopped_at, stored.until(reach) or base.stopped_at)
    return Choice(
        system_identifier=stored.system_identifier,
        target=wanted.target,
        bases=bases,
        history=history,
        reach=reach if not notes else Reach(end=0, timeline=point.timeline, missing=reach.missing),
        earliest=base.stopped_at,
        latest=latest,
        hole=reach.missing.name if stored.chain.goes_on_after(reach.missing, history) else None,
        notes=notes,
    )


def _history(chain: Chain, timeline: int, lsn: int, wanted: int | None) -> History:
    if wanted is None:
        return chain.newest_timeline(timeline, lsn)
    if wanted == timeline:
        return History(timeline=timeline)
    found = chain.histories.get(wanted)
    if found is None or not found.holds(timeline, lsn):
        known = sorted({timeline, *(one.timeline for one in chain.histories.values() if one.holds(timeline, lsn))})
        raise TimelineMissingError(
            f"there is no way from timeline {timeline} at {format_lsn(lsn)} to timeline {wanted}; from there the store "
            f"has {', '.join(map(str, known))}"
        )
    return found


def _named(stored: Stored, candidates: Sequence[Choice], wanted: Wanted) -> Choice:
    for one in candidates:
        if one.base.backup_id == wanted.base:
            if one.notes:
                raise BackupMissingError(one.notes[0])
            if one.reach.end < one.base.point().end:
                raise WalSegmentMissingError(_incomplete(one))
            if not _begins_before(one, wanted.target):
                raise TargetOutsideWindowError(f"{wanted.target} lies before {_window([one])}")
            if not _reaches(one, wanted.target):
                raise _unreachable(one, [one], wanted)
            if one.base.standing is not Standing.PROVEN and not wanted.unproven:
                raise BackupMissingError(
                    f"{wanted.base} is not proven; prove it (verify --restore-test), or say explicitly that an "
                    "unproven one will do"
                )
            return one
    known = ", ".join(one.base.backup_id for one in candidates)
    raise ParameterError(f"there is no base backup {wanted.base}; there are {known}")


def _begins_before(one: Choice, target: RecoveryTarget) -> bool:
    if target.kind is TargetKind.TIME and target.moment is not None:
        return one.base.stopped_at <= target.moment
    if target.kind is TargetKind.LSN and target.lsn is not None:
        return one.base.point().end <= target.lsn
    return True


def _reaches(one: Choice, target: RecoveryTarget) -> bool:
    """Tell whether the stored log may hold the target. Of a time only recovery itself can tell for sure."""
    if target.kind is TargetKind.LSN and target.lsn is not None:
        return target.lsn <= one.reach.end
    if target.kind is TargetKind.TIME and target.moment is not None:
        return target.moment <= one.latest
    return True


def _unreachable(one: Choice, whole: Sequence[Choice], wanted: Wanted) -> RestoreError:
    if one.hole is not None:
        return WalSegmentMissingError(
            f"{wanted.target} cannot be reached from {one.base.backup_id}: the WAL segment {one.hole} is missing, "
            f"though later ones are stored; {_window(whole)}"
        )
    return TargetOutsideWindowError(
        f"{wanted.target} lies after {_window(whole)}; the next WAL segment, {_key(one)}, is not stored"
    )


def _incomplete(one: Choice) -> str:
    if one.notes:
        return one.notes[0]
    return (
        f"the WAL segment {_key(one)} is not stored, and the base backup {one.base.backup_id} needs WAL up to "
        f"{one.base.base.stop_lsn}; run incremental_backup, or choose an earlier base backup"
    )


def _window(choices: Sequence[Choice]) -> str:
    first, last = choices[0], choices[-1]
    end = max(one.reach.end for one in choices)
    return (
        f"what can be recovered: {first.earliest:%Y-%m-%d %H:%M:%S} to {last.latest:%Y-%m-%d %H:%M:%S} UTC, "
        f"LSN {first.base.base.stop_lsn} to {format_lsn(end)}, timeline {last.reach.timeline}"
    )


def _key(one: Choice) -> str:
    missing: Segment = one.reach.missing
    return missing.name
