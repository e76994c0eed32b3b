"""advance: let the source remove WAL, up to the end of the last complete segment that the store holds verified.

What may go is read from the store, not from what an earlier task said: staging may be gone, a task cleared twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from include.backup.errors import WalError
from include.backup.postgres.replication import identify
from include.backup.postgres.session import connect
from include.backup.wal.chain import needed_segments
from include.backup.wal.context import WalContext
from include.backup.wal.history import History
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.lock import wal_lock
from include.backup.wal.lsn import format_lsn
from include.backup.wal.segments import Segment
from include.backup.wal.server import read_server
from include.backup.wal.slots import advance, read_slot
from include.backup.wal.stored import read_chain
from include.backup.wal.storing import verified_segments


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """Where the source keeps its log from, before and after; what is behind that and not stored, in bytes."""

    before_lsn: str
    hold_lsn: str
    verified: int
    lag_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"{self.verified} segments are stored and verified; the source keeps its log from {self.hold_lsn} on "
            f"(before: {self.before_lsn}), {self.lag_bytes} bytes"
        )


def run(ctx: WalContext) -> Advanced:
    """Advance ``hold``; it never goes back, and never beyond what is stored."""
    with connect(ctx.database) as connection, wal_lock(connection, ctx.source.name):
        server, cluster = read_server(connection), identify(ctx.database)
        hold = read_slot(connection, ctx.policy.hold_slot)
        if hold is None or hold.restart_lsn is None:
            raise WalError(f"the slot {ctx.policy.hold_slot} is gone or lost; the next run asks for a base backup")
        keys = ClusterKeys(system_identifier=cluster.system_identifier)
        start = hold.restart_lsn
        end = stored_end(ctx, keys, start, timeline=cluster.timeline, size=server.segment_size)
        now = advance(connection, ctx.policy.hold_slot, end)
        flushed = read_server(connection).flush_lsn
    return Advanced(
        before_lsn=format_lsn(start),
        hold_lsn=format_lsn(now),
        verified=(end - start // server.segment_size * server.segment_size) // server.segment_size,
        lag_bytes=max(0, flushed - now),
    )


def stored_end(ctx: WalContext, keys: ClusterKeys, start: int, *, timeline: int, size: int) -> int:
    """Return the end of the verified segments from a position on, which is that position when there is none."""
    first = Segment.at(start, timeline=1, size=size)
    chain = read_chain(ctx.store, keys, size=size, since=first)
    target = chain.histories.get(timeline, History(timeline=timeline))
    origin = next((one for one, _ in target.path() if chain.has(Segment.at(start, timeline=one, size=size))), timeline)
    reach = chain.reach(start, timeline=origin, target=target)
    complete = reach.missing.start
    if complete <= start:
        return start
    segments = needed_segments(start, complete, timeline=origin, target=target, size=size)
    verified = verified_segments(ctx, keys, segments)
    return verified[-1].end if verified else start
