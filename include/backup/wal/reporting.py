"""report: write the run's record, and fail a run that found the chain broken, once it has begun a new one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from include.backup.errors import WalBrokenError
from include.backup.postgres.session import connect
from include.backup.wal.assess import state_of
from include.backup.wal.context import WalContext
from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.plan import WalPlan, read_plan
from include.backup.wal.receive import Received, read_received
from include.backup.wal.record import RunRecord, State, read_record, records_backwards
from include.backup.wal.server import read_server
from include.backup.wal.slots import read_slot
from include.backup.wal.storing import StoredWal, read_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class WalReport:
    """What a run says at its end; ``before`` is the state that the run before it left."""

    record: RunRecord
    before: State | None

    @property
    def changed(self) -> bool:
        return self.before is not None and self.before is not self.record.state

    def to_dict(self) -> dict[str, Any]:
        record = self.record
        times = {name: getattr(record, name).isoformat() for name in ("run_after", "finished_at", "mark_time")}
        lists = {name: list(getattr(record, name)) for name in ("broken", "alarms", "warnings")}
        states = {"state": record.state.value, "before": None if self.before is None else self.before.value}
        return {**asdict(record), **times, **lists, **states, "changed": self.changed}

    def line(self) -> str:
        record = self.record
        return (
            f"WAL is stored up to {record.partial_lsn or record.end_lsn} of timeline {record.timeline}, commits up to "
            f"{record.mark_time:%Y-%m-%d %H:%M:%S} UTC; {record.segments} segments in {record.stored_bytes} bytes, the "
            f"slot keeps {record.slot_lag_bytes} bytes; state {record.state}"
        )


def run(ctx: WalContext) -> WalReport:
    """Write the record and return the report; a run that has its record already only tells of it again."""
    last = _before(ctx)
    if ctx.store.head(ctx.record_key) is None:
        with ctx.staging.locked():
            record = _record(ctx, read_plan(ctx), read_received(ctx), read_stored(ctx))
            ctx.store.put_if_absent(ctx.record_key, record.to_json(), encryption=ctx.encryption)
    ctx.staging.remove()
    record = read_record(ctx.store.get(ctx.record_key), name=ctx.record_key)
    return WalReport(record=record, before=None if last is None else last.state)


def check_whole(record: RunRecord) -> None:
    """Raise WalBrokenError when the run found what needs a person, or a base backup."""
    if record.broken:
        raise WalBrokenError(
            f"{'; '.join(record.broken)}. This run began a new chain, and a base backup is taken at once: until that "
            "is proven, only times before the break can be recovered"
        )
    if record.alarms:
        raise WalBrokenError(f"{'; '.join(record.alarms)}. Nothing is lost: this run has stored it in time")


def _before(ctx: WalContext) -> RunRecord | None:
    """Return the newest record that is not this run's own."""
    records = records_backwards(ctx.store, ctx.source.name)
    return next((record for record in records if record.run_id != ctx.run.run_id), None)


def _record(ctx: WalContext, plan: WalPlan, received: Received, stored: StoredWal) -> RunRecord:
    start, end = parse_lsn(received.start_lsn), parse_lsn(received.end_lsn)
    complete = max(start, end // plan.segment_size * plan.segment_size)
    warnings = plan.warnings
    if not received.caught_up:
        warnings = (*warnings, "the source writes faster than WAL is stored; raise incremental.batch_mib")
    return RunRecord(
        source=ctx.source.name,
        run_id=ctx.run.run_id,
        run_after=ctx.run.run_after,
        finished_at=ctx.clock(),
        system_identifier=plan.system_identifier,
        timeline=plan.timeline,
        segment_size=plan.segment_size,
        server_version=plan.server_version,
        state=state_of(plan, caught_up=received.caught_up),
        chain_start=plan.chain_start,
        start_lsn=plan.start_lsn,
        end_lsn=format_lsn(complete),
        partial_lsn=received.partial_end,
        mark_lsn=received.mark_lsn,
        mark_time=received.mark_time,
        segments=stored.segments,
        content_bytes=stored.content_bytes,
        stored_bytes=stored.stored_bytes,
        slot_lag_bytes=_lag(ctx),
        hold_slot=ctx.policy.hold_slot,
        run_slot=ctx.policy.run_slot,
        connection=ctx.source.connection,
        base_wanted=plan.base_wanted,
        broken=plan.broken,
        alarms=plan.alarms,
        warnings=warnings,
    )


def _lag(ctx: WalContext) -> int:
    with connect(ctx.database) as connection:
        slot, flushed = read_slot(connection, ctx.policy.hold_slot), read_server(connection).flush_lsn
    return max(0, flushed - (slot.restart_lsn or flushed)) if slot is not None else 0
