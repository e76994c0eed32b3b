"""preflight: may this role stream, which cluster is it, is the chain whole; and see to it that ``hold`` keeps WAL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

from include.backup.base.stored import bases_that_count, stored_bases
from include.backup.errors import StagingBusyError, StagingFullError, StagingMissingError, WalRefusedError
from include.backup.postgres.replication import identify
from include.backup.postgres.session import connect
from include.backup.records import from_json, to_json
from include.backup.staging import Staging
from include.backup.wal.assess import Assessment, Found, assess, wanted_base
from include.backup.wal.chain import Chain
from include.backup.wal.context import KIND, TIER, WalContext
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.lock import wal_lock
from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.provider import Mode, mode_of
from include.backup.wal.record import RunRecord, newest_record
from include.backup.wal.segments import Segment
from include.backup.wal.server import WalServer, check_can_stream, read_server
from include.backup.wal.slots import Slot, ensure_hold, read_slot
from include.backup.wal.stored import read_chain
from include.backup.wal.window import BasePoint

PLAN_FILE = "plan.json"
FORMAT_VERSION = 1
# Compressed copies lie beside what was received.
STAGED_FACTOR = 1.2
SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WalPlan:
    """What a run is about to do, and what it found; the report is made from it."""

    backup_id: str
    system_identifier: str
    timeline: int
    server_version: str
    server_major: int
    segment_size: int
    may_switch: bool
    start_lsn: str
    chain_start: str
    lag_bytes: int
    base_wanted: str | None
    broken: tuple[str, ...] = field(default=())
    alarms: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("broken", "alarms", "warnings")}
        return {**asdict(self), **lists}

    def line(self) -> str:
        ends = "with a complete segment" if self.may_switch else "with the beginning of a segment (no pg_switch_wal)"
        return (
            f"WAL can be streamed from PostgreSQL {self.server_version}: cluster {self.system_identifier}, timeline "
            f"{self.timeline}, {self.lag_bytes} bytes not stored yet from {self.start_lsn} on; runs end {ends}"
        )


def run(ctx: WalContext) -> WalPlan:
    """Look at source, slots and store, and make what is missing; what is broken is told by the report, at the end."""
    if mode_of(ctx.database) is Mode.PROVIDER:
        raise WalRefusedError(
            f"{ctx.database.host} is a hosted Supabase project, which refuses physical replication: no WAL can be "
            "stored. Its own point-in-time recovery is watched by the DAG incremental_backup instead"
        )
    ctx.store.check_bucket()
    _remove_leftovers(ctx)
    ctx.staging.make()
    with connect(ctx.database) as connection:
        server = read_server(connection)
        check_can_stream(server, role=ctx.database.user)
        cluster = identify(ctx.database)
        with wal_lock(connection, ctx.source.name):
            before, hold = _hold(ctx, connection)
    keys = ClusterKeys(system_identifier=cluster.system_identifier)
    last = newest_record(ctx.store, ctx.source.name)
    found = Found(
        last=last,
        system_identifier=cluster.system_identifier,
        timeline=cluster.timeline,
        server=server,
        before=before,
        hold=hold,
        stored_end=_stored_end(ctx, keys, last, server.segment_size),
    )
    assessment = assess(found, hold_slot=ctx.policy.hold_slot, max_slot_bytes=ctx.policy.max_slot_bytes)
    _check_room(ctx, server, found.server.flush_lsn - hold)
    plan = _plan(ctx, found, assessment, base_points(ctx, cluster.system_identifier))
    for text in (*plan.broken, *plan.alarms, *plan.warnings):
        ctx.log.warning("%s", text)
    ctx.staging.write(PLAN_FILE, to_json(plan, format_version=FORMAT_VERSION))
    return plan


def read_plan(ctx: WalContext) -> WalPlan:
    """Return what preflight found; raises StagingMissingError."""
    content = ctx.staging.need(PLAN_FILE, "preflight")
    return from_json(WalPlan, content, format_version=FORMAT_VERSION, name=PLAN_FILE)


def base_points(ctx: WalContext, system_identifier: str) -> tuple[BasePoint, ...]:
    """Return the base backups that count of the cluster that the source is now."""
    found = stored_bases(ctx.source, ctx.store, system_identifier=system_identifier)
    return tuple(base.point() for base in bases_that_count(found, now=ctx.clock()))


def _hold(ctx: WalContext, connection: psycopg.Connection[dict[str, Any]]) -> tuple[Slot | None, int]:
    before = read_slot(connection, ctx.policy.hold_slot)
    hold = ensure_hold(connection, ctx.policy.hold_slot)
    return before, hold.restart_lsn or 0


def _stored_end(ctx: WalContext, keys: ClusterKeys, last: RunRecord | None, size: int) -> int:
    """Return where the stored chain ends: where the last record says, or where a killed run after it came to."""
    if last is None or last.system_identifier != keys.system_identifier:
        return 0
    end = parse_lsn(last.end_lsn)
    since = Segment.at(end, timeline=last.timeline, size=size)
    chain: Chain = read_chain(ctx.store, keys, size=size, since=since)
    return chain.reach(end, timeline=last.timeline).end


def _plan(ctx: WalContext, found: Found, assessment: Assessment, bases: Sequence[BasePoint]) -> WalPlan:
    return WalPlan(
        backup_id=ctx.backup_id,
        system_identifier=found.system_identifier,
        timeline=found.timeline,
        server_version=found.server.version,
        server_major=found.server.major,
        segment_size=found.server.segment_size,
        may_switch=found.server.may_switch,
        start_lsn=format_lsn(found.hold),
        chain_start=format_lsn(assessment.chain_start),
        lag_bytes=max(0, found.server.flush_lsn - found.hold),
        base_wanted=wanted_base(assessment, bases),
        broken=assessment.broken,
        alarms=assessment.alarms,
        warnings=assessment.warnings,
    )


def _check_room(ctx: WalContext, server: WalServer, lag: int) -> None:
    """Refuse a run that would fill the staging disk; the source keeps its log meanwhile."""
    batch = min(ctx.policy.batch_bytes, max(lag, 0) + 2 * server.segment_size)
    needed, free = int(batch * STAGED_FACTOR) + SPARE_BYTES, ctx.staging.free_bytes()
    if free < needed:
        raise StagingFullError(
            f"{ctx.staging.root} has {free} bytes free and this run may need {needed}; free space, or lower "
            "incremental.batch_mib in the policy"
        )


def _remove_leftovers(ctx: WalContext) -> None:
    """Remove what ended runs left: the source still has it. A run that works may be between two steps, unlocked."""
    if not ctx.staging.root.is_dir():
        return
    limits = ctx.policy.timeouts
    longest = limits.preflight + limits.receive + limits.upload + limits.advance
    before = (ctx.clock() - longest).timestamp()
    for folder in sorted(ctx.staging.root.glob(f"{ctx.source.name}_{TIER}_{KIND}_*")):
        leftover = Staging(ctx.staging.root, folder.name)
        with suppress(FileNotFoundError, StagingBusyError, StagingMissingError):
            if folder == ctx.staging.path or folder.stat().st_mtime > before:
                continue
            with leftover.locked():
                leftover.remove()
