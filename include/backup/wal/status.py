"""How a source's log stands: what can be recovered, holes in the chain, what the slot keeps, what would be lost now.

Read from the store, and from the source as far as it answers: on the worst day it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from include.backup.base.stored import sound_bases, stored_bases
from include.backup.connections import DatabaseConnection
from include.backup.errors import SourceError
from include.backup.policy import SourcePolicy
from include.backup.postgres.session import connect
from include.backup.store import ObjectStore
from include.backup.wal.assess import WARN_SHARE
from include.backup.wal.chain import Chain, Gap
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.record import RunRecord, records_backwards
from include.backup.wal.segments import DEFAULT_SIZE
from include.backup.wal.server import read_server
from include.backup.wal.slots import WalStatus, read_slot
from include.backup.wal.stored import OnProgress, read_chain
from include.backup.wal.window import BasePoint, Mark, Window, current, windows


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotNow:
    """The slot that keeps WAL, as the source says now; sizes in bytes. ``safe_bytes`` more and it is lost."""

    name: str
    lag_bytes: int | None
    wal_status: WalStatus | None
    safe_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStanding:
    """How a source's log stands. ``now`` is the window of a sound base backup that reaches the newest WAL, or None.

    ``lost`` are the gaps behind the oldest base backup: times that it was kept for and that cannot be recovered.
    """

    source: str
    last: RunRecord | None
    chain: Chain
    windows: tuple[Window, ...]
    now: Window | None
    gaps: tuple[Gap, ...]
    lost: tuple[Gap, ...]
    slot: SlotNow | None
    unreachable: str | None
    rpo_seconds: float | None
    problems: tuple[str, ...]


def read_standing(
    source: SourcePolicy,
    store: ObjectStore,
    database: DatabaseConnection,
    *,
    now: datetime,
    on_progress: OnProgress = lambda count: None,
) -> WalStanding:
    """Return how the log of a source stands at ``now``."""
    last = next(records_backwards(store, source.name), None)
    slot, unreachable = _slot(source, database)
    bases: tuple[BasePoint, ...] = ()
    chain, window = Chain(size=DEFAULT_SIZE), None
    found: tuple[Window, ...] = ()
    if last is not None:
        keys = ClusterKeys(system_identifier=last.system_identifier)
        stored = stored_bases(source, store, system_identifier=last.system_identifier)
        bases = tuple(base.point() for base in stored)
        chain = read_chain(store, keys, size=last.segment_size, on_progress=on_progress)
        found = windows(bases, chain, _marks(store, source.name, windows(bases, chain, ())))
        sound = {base.backup_id for base in sound_bases(stored)}
        window = current(
            [one for one in found if one.base.backup_id in sound], timeline=last.timeline, lsn=parse_lsn(last.end_lsn)
        )
    return WalStanding(
        source=source.name,
        last=last,
        chain=chain,
        windows=found,
        now=window,
        gaps=chain.gaps(),
        lost=chain.gaps_after(min(base.start for base in bases)) if bases else (),
        slot=slot,
        unreachable=unreachable,
        rpo_seconds=None if window is None else max(0.0, (now - window.latest).total_seconds()),
        problems=tuple(_problems(last, bases, window, slot, unreachable)),
    )


def _marks(store: ObjectStore, source: str, found: Sequence[Window]) -> list[Mark]:
    """Return as many of the newest marks as it takes until each window has its last one."""
    marks: list[Mark] = []
    open_ends = {window.end: window.base.end for window in found}
    for record in records_backwards(store, source):
        if not open_ends:
            break
        mark = record.mark()
        marks.append(mark)
        # A mark before a window's begin: that window has none, and older ones lie further back still.
        open_ends = {end: begin for end, begin in open_ends.items() if mark.lsn > end}
    return marks


def _slot(source: SourcePolicy, database: DatabaseConnection) -> tuple[SlotNow | None, str | None]:
    policy = source.incremental
    if policy is None:
        return None, None
    try:
        with connect(database) as connection:
            server, slot = read_server(connection), read_slot(connection, policy.hold_slot)
    except SourceError as error:
        return None, str(error)
    lag = None if slot is None or slot.restart_lsn is None else max(0, server.flush_lsn - slot.restart_lsn)
    return (
        SlotNow(
            name=policy.hold_slot,
            lag_bytes=lag,
            wal_status=None if slot is None else slot.wal_status,
            safe_bytes=None if slot is None else slot.safe_bytes,
            limit_bytes=server.max_slot_bytes,
        ),
        None,
    )


def _problems(
    last: RunRecord | None,
    bases: Sequence[BasePoint],
    window: Window | None,
    slot: SlotNow | None,
    unreachable: str | None,
) -> list[str]:
    found = []
    if last is None:
        found.append("no run has stored WAL yet")
    elif window is None:
        why = "there is no base backup" if not bases else "no sound base backup has whole WAL behind it"
        found.append(f"the newest WAL cannot be recovered: {why}; a base backup has to be taken")
    elif not window.base.proven:
        found.append(f"the base backup {window.base.backup_id} is not proven yet")
    if unreachable is not None:
        found.append(f"the source does not answer, so that nothing is known of its slot: {unreachable}")
    if slot is not None:
        found += _slot_problems(slot)
    return found


def _slot_problems(slot: SlotNow) -> list[str]:
    if slot.lag_bytes is None:
        return [f"the slot {slot.name} is missing or lost: the next run makes a new one and asks for a base backup"]
    if slot.wal_status is WalStatus.UNRESERVED:
        return [f"the slot {slot.name} is unreserved: the next checkpoint removes WAL that is not stored; run now"]
    if slot.limit_bytes is None:
        return ["max_slot_wal_keep_size is not set: if backups stop, WAL fills the source's disk"]
    if slot.lag_bytes > slot.limit_bytes * WARN_SHARE:
        return [f"the slot {slot.name} keeps too much: {slot.lag_bytes} of the {slot.limit_bytes} bytes that it may"]
    return []
