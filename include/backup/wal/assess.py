"""Decide what a run found: is the stored chain whole up to where the source still has its log? Pure, and by state.

Nothing here depends on what a run remembers: a break that a killed run had noticed is noticed again by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.record import RunRecord, State
from include.backup.wal.server import WalServer
from include.backup.wal.slots import Slot, WalStatus
from include.backup.wal.window import BasePoint

WARN_SHARE = 0.5


class Break(StrEnum):
    """Why a new base backup is needed."""

    SLOT_MISSING = "slot_missing"
    SLOT_LOST = "slot_lost"
    IDENTIFIER_CHANGED = "identifier_changed"
    TIMELINE_SWITCHED = "timeline_switched"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there before a run.

    ``before`` is the slot as it was found, ``hold`` as it is now; ``stored_end`` is the end of what is stored without a
    hole since ``last``, the record of the last run.
    """

    last: RunRecord | None
    system_identifier: str
    timeline: int
    server: WalServer
    before: Slot | None
    hold: int
    stored_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What was found. ``chain_start`` is from where on the log of ``timeline`` is whole, once this run has stored its
    part."""

    breaks: tuple[tuple[Break, str], ...]
    alarms: tuple[str, ...]
    warnings: tuple[str, ...]
    chain_start: int
    timeline: int

    @property
    def broken(self) -> tuple[str, ...]:
        return tuple(text for _, text in self.breaks)


def assess(found: Found, *, hold_slot: str, max_slot_bytes: int) -> Assessment:
    """Compare what the last run left with what is there now."""
    breaks = tuple(_breaks(found, hold_slot))
    last = None if found.last is None or found.last.state is State.RELEASED else found.last
    # Where a timeline branched off is not known here: what is stored of the one before may lie beyond that.
    new_chain = {Break.IDENTIFIER_CHANGED, Break.TIMELINE_SWITCHED, Break.GAP}
    restarted = bool({kind for kind, _ in breaks} & new_chain)
    return Assessment(
        breaks=breaks,
        alarms=tuple(_alarms(found, hold_slot)),
        warnings=tuple(_warnings(found, hold_slot, max_slot_bytes)),
        chain_start=_segment_start(found) if restarted or last is None else parse_lsn(last.chain_start),
        timeline=found.timeline,
    )


def wanted_base(assessment: Assessment, bases: Sequence[BasePoint]) -> str | None:
    """Return why a base backup has to be taken at once, or None: nothing broke, and one lies in the chain."""
    if assessment.breaks:
        return assessment.breaks[0][1]
    if any(base.timeline == assessment.timeline and base.start >= assessment.chain_start for base in bases):
        return None
    begin = format_lsn(assessment.chain_start)
    return f"no base backup of timeline {assessment.timeline} began after {begin}, where its stored WAL begins"


class Outlook(Protocol):
    """What of an assessment decides the state; a run's plan keeps it."""

    @property
    def broken(self) -> tuple[str, ...]: ...
    @property
    def alarms(self) -> tuple[str, ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def base_wanted(self) -> str | None: ...


def state_of(found: Outlook, *, caught_up: bool) -> State:
    """Return how the source's log stands after a run, the worst first."""
    if found.broken:
        return State.BROKEN
    if found.base_wanted is not None:
        return State.NO_BASE
    if not caught_up:
        return State.BEHIND
    return State.WARNING if found.warnings or found.alarms else State.OK


def _breaks(found: Found, slot: str) -> list[tuple[Break, str]]:
    last = found.last
    if last is None or last.state is State.RELEASED:
        return []
    if last.system_identifier != found.system_identifier:
        text = (
            f"the source is another cluster now (system identifier {found.system_identifier} instead of "
            f"{last.system_identifier}): it was upgraded, restored logically or replaced; older WAL does not fit it"
        )
        return [(Break.IDENTIFIER_CHANGED, text)]
    breaks = []
    if found.timeline != last.timeline:
        text = (
            f"the source is on timeline {found.timeline} instead of {last.timeline}: a standby was promoted, or a "
            "backup was restored in its place"
        )
        breaks.append((Break.TIMELINE_SWITCHED, text))
    if found.before is None:
        text = f"the slot {slot} was gone: somebody dropped it, or a failover left it behind; a new one was made"
        breaks.append((Break.SLOT_MISSING, text))
    elif found.before.lost:
        text = (
            f"the slot {slot} was lost (wal_status lost): the source had to remove WAL before it was stored, as "
            "max_slot_wal_keep_size says; a new one was made"
        )
        breaks.append((Break.SLOT_LOST, text))
    if _segment_start(found) > found.stored_end:
        begin, end = format_lsn(found.stored_end), format_lsn(_segment_start(found))
        text = f"WAL from {begin} to {end} is neither stored nor kept by the source: no recovery crosses that gap"
        breaks.append((Break.GAP, text))
    return breaks


def _segment_start(found: Found) -> int:
    """Return from where on the source can still send its log: slots keep whole segments."""
    return found.hold // found.server.segment_size * found.server.segment_size


def _alarms(found: Found, slot: str) -> list[str]:
    if found.before is not None and found.before.wal_status is WalStatus.UNRESERVED:
        return [
            f"the slot {slot} was unreserved: it kept more than max_slot_wal_keep_size, and the source's next "
            "checkpoint would have removed WAL that was not stored; find out why runs came late, or raise the setting"
        ]
    return []


def _warnings(found: Found, slot: str, wanted: int) -> list[str]:
    limit = found.server.max_slot_bytes
    if limit is None:
        return [
            f"max_slot_wal_keep_size is not set: if backups stop, the slot {slot} keeps WAL until the source's disk is "
            f"full; run ALTER SYSTEM SET max_slot_wal_keep_size = '{wanted >> 20}MB' and reload"
        ]
    warnings = []
    if limit != wanted:
        warnings.append(
            f"max_slot_wal_keep_size is {limit >> 20} MiB and the policy's max_slot_mib {wanted >> 20}; make them equal"
        )
    lag = found.server.flush_lsn - found.hold
    if lag > limit * WARN_SHARE:
        warnings.append(
            f"the slot {slot} keeps {lag >> 20} MiB of the {limit >> 20} MiB that max_slot_wal_keep_size allows; "
            "beyond that WAL is lost: look why runs are late"
        )
    return warnings
