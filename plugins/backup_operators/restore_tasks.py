"""The tasks of a restore: each reads the order from the store, and what may be done from the policy, anew."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from backup_operators.approval import guarded, require_approval
from backup_operators.restore import (
    PREVIEW,
    RESOLVE,
    RestoreBaseOperator,
    named_tables,
    pulled,
    restore_context,
    wish_of,
)
from backup_operators.step import step_log
from include.backup.process import Runner
from include.backup.restore.progress import LogProgress

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.restore.context import RestoreContext
    from include.backup.restore.order import RestoreOrder


class ResolveBackupOperator(RestoreBaseOperator):
    """Find the one backup that the form's fields mean, and refuse what is unclear.

    Returns the backup's id.
    """

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.restore.choice import Choice, choose, parse_time
        from include.backup.restore.words import Choosing

        given = context["params"]
        choice = Choice(
            how=Choosing(given["choose"]),
            backup_id=given["backup_id"] or None,
            before=parse_time(given["before"]) if given["before"] else None,
            release=given["release"] or None,
            git_sha=given["git_sha"] or None,
            tables=named_tables(given),
        )
        ctx = self.restore_context(context)
        backup_id = choose(ctx.catalog, self.source, choice, unproven=bool(given["unproven"]))
        manifest = ctx.catalog.manifest(backup_id)
        step_log().info("%s is meant: data as of %s", backup_id, f"{manifest.dump.snapshot.time:%Y-%m-%d %H:%M:%S} UTC")
        return {"backup_id": backup_id, "restore_id": ctx.restore_id}


class ThawSensor(BaseSensorOperator):
    """Ask for the thaw of an archive in Glacier, and look again from time to time without holding a worker slot.

    :param source: source of the policy
    """

    ui_color = "#e3f2fd"

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(mode="reschedule", **kwargs)
        self.source = source

    def poke(self, context: Context) -> bool:
        return guarded(context, lambda: self._look(context))

    def _look(self, context: Context) -> bool:
        from include.backup.restore.destination import restore_policy
        from include.backup.restore.thaw import Thawing, thaw

        ctx = restore_context(context, self.source, runner=Runner(log=step_log()))
        manifest = ctx.catalog.manifest(pulled(context, RESOLVE, "backup_id"))
        asked_at = context["ti"].get_first_reschedule_date(context) or datetime.now(UTC)
        report = thaw(ctx.store, manifest, restore_policy(ctx.source).thaw, asked_at=asked_at)
        step_log().info("%s", report.line())
        context["ti"].xcom_push(key="thaw", value=report.to_dict())
        return report.state is Thawing.READABLE


class PreviewRestoreOperator(RestoreBaseOperator):
    """Find out what would be replaced, show it, and write down what exactly is to be done.

    Returns the seal of what is written down, and a few numbers.
    """

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.restore.prepare import prepare
        from include.backup.restore.sealed import keep_order
        from include.backup.restore.survey import change_lines

        ctx = self.restore_context(context)
        order = prepare(ctx, wish_of(context))
        seal = keep_order(ctx.store, order, encryption=ctx.encryption)
        for line in (*order.lines(), *change_lines(order.changes)):
            step_log().info("%s", line)
        return {
            "seal": seal,
            "restore_id": order.restore_id,
            "backup_id": order.backup_id,
            "database": order.database,
            "strategy": order.strategy.value,
            "needs_approval": order.needs_approval,
            "rows_now": 0 if order.target is None else order.target.rows,
            "rows_then": order.backup_rows,
            "estimated_seconds": order.estimated_seconds,
            "line": order.line(),
        }


class OrderOperator(RestoreBaseOperator):
    """A task that carries out a part of an order; a preview-only run skips it."""

    def work(self, context: Context) -> dict[str, Any]:
        ctx = self.restore_context(context)
        seal = pulled(context, PREVIEW, "seal")
        order = ctx.order(seal)
        if order.dry_run:
            raise AirflowSkipException("this run only shows what would happen")
        if not self.concerns(order):
            raise AirflowSkipException(f"there is nothing to do for a restore that ends {order.strategy}")
        return self.carry_out(context, ctx, order, seal)

    def concerns(self, order: RestoreOrder) -> bool:
        """Say whether the order needs this task."""
        return True

    @abstractmethod
    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        """Do this task's part of the order."""


class SafetyBackupOperator(OrderOperator):
    """Back up what is about to be replaced. Returns the backup's id."""

    def concerns(self, order: RestoreOrder) -> bool:
        return order.replaces

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.work import back_up_target

        return back_up_target(ctx, order)


class LoadBesideOperator(OrderOperator):
    """Load the backup into a new database. Returns ids and numbers."""

    def concerns(self, order: RestoreOrder) -> bool:
        from include.backup.restore.order import Strategy

        return order.strategy is not Strategy.IN_PLACE

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.work import load

        report = load(ctx, order, progress=LogProgress(step_log()))
        step_log().info("%s", report.line())
        return {"database": report.database, "tables": report.tables, "rows": report.rows, "seconds": report.seconds}


class CompareOperator(LoadBesideOperator):
    """Compare what was loaded with the manifest, row by row. Returns numbers."""

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.work import compare

        found = compare(ctx, order, seal, progress=LogProgress(step_log()))
        line = found.line(order.backup_id)
        step_log().info("%s", line)
        return {"database": found.database, "tables": found.tables, "rows": found.rows, "line": line}


class SwapOperator(OrderOperator):
    """Put the restored database in its place, after looking up over REST who agreed.

    Returns what was done, and how long nobody could connect.
    """

    ui_color = "#fce8e6"

    def concerns(self, order: RestoreOrder) -> bool:
        from include.backup.restore.order import Strategy

        return order.strategy is Strategy.SWAP

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.destination import restore_policy
        from include.backup.restore.work import swap_in

        approval = restore_policy(ctx.source).approval
        report = swap_in(ctx, order, seal, approve=lambda: require_approval(context, seal=seal, approval=approval))
        return {**report.to_dict(), "line": f"{order.backup_id}: {report.line()}"}


class RestoreInPlaceOperator(OrderOperator):
    """Drop and make anew in one transaction, after looking up over REST who agreed. Returns what was restored."""

    ui_color = "#fce8e6"

    def concerns(self, order: RestoreOrder) -> bool:
        from include.backup.restore.order import Strategy

        return order.strategy is Strategy.IN_PLACE

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.destination import restore_policy
        from include.backup.restore.in_place import restore_in_place

        approval = restore_policy(ctx.source).approval
        report = restore_in_place(
            ctx,
            order,
            seal,
            approve=lambda: require_approval(context, seal=seal, approval=approval),
            progress=LogProgress(step_log()),
        )
        step_log().info("%s", report.line())
        return {**report.to_dict(), "line": f"{order.backup_id}: {report.line()}"}


class CheckAfterwardsOperator(OrderOperator):
    """Run the verification queries where the restore ended. Returns how many there were."""

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.work import check_afterwards

        return {"checks": check_afterwards(ctx, order)}


class KeepOldOperator(OrderOperator):
    """Say until when the replaced database is kept, for cleanup to drop it. Returns its name and that time."""

    def concerns(self, order: RestoreOrder) -> bool:
        from include.backup.restore.order import Strategy

        return order.strategy is Strategy.SWAP

    def carry_out(self, context: Context, ctx: RestoreContext, order: RestoreOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.work import keep_old

        kept = keep_old(ctx, order)
        step_log().info("%s is kept until %s", kept.database, f"{kept.drop_after:%Y-%m-%d %H:%M} UTC")
        return {"database": kept.database, "drop_after": kept.drop_after.isoformat()}


class ReopenTargetOperator(RestoreBaseOperator):
    """Let people connect again when a swap was killed half-way. Meant as a teardown. Returns whether it had to."""

    ui_color = "#f1f3f4"

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.restore.work import reopen_target

        found = context["ti"].xcom_pull(task_ids=PREVIEW)
        if not isinstance(found, dict) or "seal" not in found:
            return {"reopened": False}
        ctx = self.restore_context(context)
        order = ctx.order(str(found["seal"]))
        if order.dry_run or not order.replaces:
            return {"reopened": False}
        reopened = reopen_target(ctx, order)
        if reopened:
            step_log().warning("%s was closed by a swap that did not get to its end; it is open again", order.database)
        return {"reopened": reopened}
