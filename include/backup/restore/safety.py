"""A backup of what a restore is about to replace, by the steps that every backup is taken with."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from include.backup.errors import RestoreRefusedError
from include.backup.policy import RestorePolicy, TierPolicy, Timeouts
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination, restore_policy
from include.backup.restore.target import shown
from include.backup.retention.duration import Retention
from include.backup.steps import close_staging, compress, dump, preflight, upload, verify
from include.backup.steps.context import SAFETY_PREFIX, StepContext

TIER = "safety"
TABLES = "tables"
STEPS: tuple[ModuleType, ...] = (preflight, dump, compress, upload, verify, close_staging)


def safety_context(ctx: RestoreContext, destination: Destination, *, tables: tuple[str, ...] = ()) -> StepContext:
    """Return the context of the backup that this run's restore takes first; of some tables' rows alone, if named."""
    tier = safety_tier(ctx)
    return StepContext(
        # One task takes it.
        source=replace(ctx.source, shares_staging=True, critical_tables=tables or ctx.source.critical_tables),
        tier=replace(tier, kind=TABLES) if tables else tier,
        run=ctx.run,
        database=replace(destination.connection, dbname=destination.database, application_name="pulse_backup"),
        store_connection=ctx.store_connection,
        staging_root=ctx.staging_root,
        scratch_root=ctx.scratch_root,
        runner=ctx.runner,
        log=ctx.log,
        clock=ctx.clock,
    )


def take_safety_backup(
    ctx: RestoreContext, destination: Destination, *, tables: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Take it, store it and verify it; a second try finds what the first has done. Return ids and numbers."""
    steps = safety_context(ctx, destination, tables=tables)
    reports: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        report = step.run(steps)
        if report is not None:
            ctx.log.info("%s", report.line())
            reports[step.__name__.rpartition(".")[2]] = report.to_dict()
    stored = reports["verify"]
    return {"backup_id": steps.backup_id, "key": stored["key"], "bytes": stored["size"]}


def require_safety_backup(
    ctx: RestoreContext, destination: Destination, *, tables: tuple[str, ...] = ()
) -> StepContext:
    """Return the context of the backup that this run has taken first; raises RestoreRefusedError when none is stored.

    A task that was only marked as a success has left none, and one of before another preview may lack a table.
    """
    steps = safety_context(ctx, destination, tables=tables)
    if not steps.manifest_is_stored() or steps.store.head(steps.archive_key) is None:
        raise RestoreRefusedError(
            f"{steps.backup_id}, the backup of what would be replaced, is not stored, whatever the tasks' states say; "
            "clear the task that takes it; nothing was changed"
        )
    if tables and (without := sorted(set(tables) - set(ctx.catalog.manifest(steps.backup_id).dump.tables))):
        raise RestoreRefusedError(
            f"{steps.backup_id} was taken for an earlier preview of this run and has no rows of {shown(without)}; "
            "nothing was changed, trigger a new run"
        )
    return steps


def safety_tier(ctx: RestoreContext) -> TierPolicy:
    """Return a tier that the policy does not schedule: kept as long as the old database, and never in Glacier."""
    allowed = restore_policy(ctx.source)
    return TierPolicy(
        name=TIER,
        kind="full",
        schedule=None,
        keep=safety_keep(allowed),
        below_strategy=None,
        storage_class="STANDARD",
        prefix=SAFETY_PREFIX,
        proof_level="data",
        prove="after",
        timeouts=Timeouts(**dict.fromkeys(Timeouts.__dataclass_fields__, allowed.timeout)),
    )


def safety_keep(policy: RestorePolicy) -> Retention:
    """Return how long a copy is kept: as long as the database that it was taken of."""
    return Retention(amount=policy.keep_old_days, unit="day")
