"""preflight of a base backup: refuse early what would make it fail, and decide whether it is full or incremental."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from include.backup.base.context import base_policy, keep_cluster
from include.backup.base.plan import BasePlan, Situation, Wish, plan_base
from include.backup.base.stored import stored_bases
from include.backup.errors import ClientTooOldError, StagingFullError, ToolMissingError
from include.backup.postgres.replication import check_may_replicate, identify
from include.backup.postgres.session import connect, query
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.records import from_json, to_json
from include.backup.retention.leftovers import sweep_staging
from include.backup.steps.context import StepContext
from include.backup.steps.preflight import check_session_is_kept, check_tls, refuse_stale_run
from include.backup.wal.lock import wal_lock
from include.backup.wal.record import State, newest_record
from include.backup.wal.slots import ensure_hold, read_slot

PLAN_FILE = "plan.json"
FORMAT_VERSION = 1
# Table files compress to about a third; a staging disk that is full in the middle costs the whole backup.
STAGED_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePreflightReport:
    """What was found, and what is to be taken; sizes in bytes."""

    backup_id: str
    already_stored: bool
    take: bool
    parent: str | None
    why: str
    server_version: str
    system_identifier: str
    timeline: int
    tls: str
    cluster_bytes: int
    staging_free_bytes: int
    warnings: tuple[str, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "warnings": list(self.warnings)}

    def line(self) -> str:
        if self.already_stored:
            return f"base backup {self.backup_id} is stored already; it will only be verified again"
        what = f"incremental, on {self.parent}" if self.parent else "full"
        decision = f"{self.backup_id} can be taken ({what})" if self.take else "no base backup is taken"
        return (
            f"{decision}: {self.why}; PostgreSQL {self.server_version}, cluster {self.system_identifier}, timeline "
            f"{self.timeline}, {self.cluster_bytes} bytes, {self.tls}, staging has {self.staging_free_bytes} bytes free"
        )


def run(ctx: StepContext, *, wish: Wish = Wish.DUE) -> BasePreflightReport:
    """Check source, store and staging; leave the decision in staging."""
    ctx.store.check_bucket()
    # The evidence asks for it once the archive is stored: who may not is to hear of it here.
    ctx.store.has_object_lock()
    already_stored = ctx.manifest_is_stored()
    refuse_stale_run(ctx, already_stored=already_stored)
    if not already_stored:
        ctx.store.check_put(ctx.archive_key, ctx.encryption)
    with connect(ctx.database) as connection:
        check_session_is_kept(ctx, connection)
        server, base = query(connection, "server")[0], query(connection, "base_server")[0]
        check_may_replicate(ctx.database, base)
        cluster = identify(ctx.database)
        base_tools(server["major"])
        tls = check_tls(ctx, connection)
    situation = Situation(
        system_identifier=cluster.system_identifier,
        timeline=cluster.timeline,
        major=server["major"],
        summarizes=base["summarizes"],
        # A full one builds on none.
        bases=()
        if wish is Wish.FULL
        else stored_bases(ctx.source, ctx.store, system_identifier=cluster.system_identifier),
    )
    plan = plan_base(base_policy(ctx.source), situation, wish=wish, now=ctx.clock())
    # A run that takes nothing leaves a lost slot for the WAL run to find.
    note = _keep_log(ctx, cluster.system_identifier) if plan.take else ""
    size = int(base["cluster_bytes"] or 0)
    sweep_staging(ctx.staging, ctx.source, now=ctx.clock(), log=ctx.log)
    ctx.staging.make()
    free = ctx.staging.free_bytes()
    if plan.take and plan.parent is None and free < size * STAGED_SHARE and not already_stored:
        raise StagingFullError(
            f"{ctx.staging.root} has {free} bytes free and the base backup of {size} bytes may need "
            f"{int(size * STAGED_SHARE)}; free space or set BACKUP_STAGING_DIR to a larger disk"
        )
    keep_cluster(ctx)
    ctx.staging.write(PLAN_FILE, to_json(plan, format_version=FORMAT_VERSION))
    warnings = tuple(_warnings(base))
    for warning in warnings:
        ctx.log.warning("%s", warning)
    if not plan.take and not already_stored:
        ctx.staging.remove()
    return BasePreflightReport(
        backup_id=ctx.backup_id,
        already_stored=already_stored,
        take=plan.take or already_stored,
        parent=plan.parent,
        why=plan.why,
        server_version=server["version"],
        system_identifier=cluster.system_identifier,
        timeline=cluster.timeline,
        tls=tls,
        cluster_bytes=size,
        staging_free_bytes=free,
        warnings=warnings,
        note=note,
    )


def read_plan(ctx: StepContext) -> BasePlan:
    """Return what preflight decided; raises StagingMissingError."""
    content = ctx.staging.need(PLAN_FILE, "preflight")
    return from_json(BasePlan, content, format_version=FORMAT_VERSION, name=PLAN_FILE)


def base_tools(major: int) -> PostgresTools:
    """Return the tools of exactly the server's major version: a copy of its files starts with no other."""
    try:
        tools = find_tools(major, server=True)
    except ToolMissingError as error:
        raise ClientTooOldError(
            f"base backups need PostgreSQL {major} itself, to prove and to restore; {error}"
        ) from error
    if tools.major != major:
        raise ClientTooOldError(
            f"base backups of PostgreSQL {major} need its own programs, and the nearest here are {tools.version}; "
            f"install postgresql-{major}"
        )
    return tools


def _keep_log(ctx: StepContext, system_identifier: str) -> str:
    """Let the source keep the log that this backup will need, whoever stores it; return what people are to hear of it.

    The WAL run after this one finds a slot that is whole, and cannot tell that another was lost.
    """
    policy = ctx.source.incremental
    if policy is None:
        return ""
    with connect(ctx.database) as connection:
        before = read_slot(connection, policy.hold_slot)
        if before is not None and not before.lost:
            return ""
        with wal_lock(connection, ctx.source.name):
            # Whoever had the lock before may have made it, and tells of it.
            before = read_slot(connection, policy.hold_slot)
            ensure_hold(connection, policy.hold_slot)
    last = newest_record(ctx.store, ctx.source.name)
    known = last is not None and last.state is not State.RELEASED and last.system_identifier == system_identifier
    if not known or (before is not None and not before.lost):
        return ""
    how = "gone" if before is None else "lost (max_slot_wal_keep_size)"
    note = (
        f"the slot {policy.hold_slot} was {how}, and a new one was made; whether WAL is missing says the next WAL run. "
        "Find out who dropped it, or why runs came late"
    )
    ctx.log.warning("%s", note)
    return note


def _warnings(base: dict[str, Any]) -> list[str]:
    warnings = []
    if not base["data_checksums"]:
        warnings.append("the cluster has no data checksums, so that damage by its disk is copied unseen")
    if base["unlogged"]:
        names = ", ".join(base["unlogged"][:10])
        warnings.append(f"{len(base['unlogged'])} unlogged tables are empty after a recovery: {names}")
    return warnings
