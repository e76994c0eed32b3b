"""The tasks of a restore of tables: each reads the order from the store, and what may be done from the policy, anew."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from backup_operators.approval import require_approval
from backup_operators.restore import (
    PREVIEW,
    RESOLVE,
    RestoreBaseOperator,
    named_tables,
    pulled,
    restore_context,
)
from backup_operators.step import step_log
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.restore.progress import LogProgress

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.approval import Question
    from include.backup.restore.context import RestoreContext
    from include.backup.table_restore.order import TablesOrder


class PreviewTablesOperator(RestoreBaseOperator):
    """Show what a restore of tables would change: a table in the log, a CSV file in the store.

    Returns the seal of what is written down, and numbers; never a row.
    """

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.table_restore.steps import preview_tables

        ctx = self.restore_context(context)
        order, seal = preview_tables(ctx, tables_wish(context), progress=LogProgress(step_log()))
        names = ", ".join(table.table for table in order.preview.tables)
        return {
            "seal": seal,
            "restore_id": order.restore_id,
            "backup_id": order.preview.backup_id,
            "mode": order.preview.mode.value,
            "needs_approval": order.needs_approval,
            "refusals": len(list(order.preview.refusals())),
            **{
                name: sum(getattr(table, name) or 0 for table in order.preview.tables)
                for name in ("missing", "changed", "surplus")
            },
            "line": f"{names} would be restored ({order.preview.mode.value}) from {order.preview.backup_id}; "
            "nothing was changed",
        }


class TablesOrderOperator(RestoreBaseOperator):
    """A task that carries out a part of an order; a preview-only run skips it."""

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.table_restore.steps import tables_order

        ctx = self.restore_context(context)
        seal = pulled(context, PREVIEW, "seal")
        order = tables_order(ctx, seal)
        if order.dry_run:
            raise AirflowSkipException("this run only shows what would happen")
        return self.carry_out(context, ctx, order, seal)

    @abstractmethod
    def carry_out(self, context: Context, ctx: RestoreContext, order: TablesOrder, seal: str) -> dict[str, Any]:
        """Do this task's part of the order."""


class SafetyCopyOperator(TablesOrderOperator):
    """Store the tables as they are, before they are changed. Returns the backup's id."""

    def carry_out(self, context: Context, ctx: RestoreContext, order: TablesOrder, seal: str) -> dict[str, Any]:
        from include.backup.table_restore.preview import Mode
        from include.backup.table_restore.steps import back_up_tables

        if order.preview.mode is Mode.BESIDE:
            raise AirflowSkipException("nothing that is there is changed")
        return back_up_tables(ctx, order)


class RestoreTablesOperator(TablesOrderOperator):
    """Restore the tables, after looking up over REST who agreed. Returns what was done, in numbers."""

    ui_color = "#fce8e6"

    def carry_out(self, context: Context, ctx: RestoreContext, order: TablesOrder, seal: str) -> dict[str, Any]:
        from include.backup.restore.destination import restore_policy
        from include.backup.table_restore.steps import carry_out_tables

        approval = restore_policy(ctx.source).approval
        report = carry_out_tables(
            ctx,
            order,
            seal,
            approve=lambda: require_approval(context, seal=seal, approval=approval),
            progress=LogProgress(step_log()),
        )
        return {**report.to_dict(), "line": report.line()}


class CheckTablesOperator(TablesOrderOperator):
    """Run the verification queries where the tables are. Returns how many there were."""

    def carry_out(self, context: Context, ctx: RestoreContext, order: TablesOrder, seal: str) -> dict[str, Any]:
        from include.backup.table_restore.steps import check_tables_afterwards

        count = check_tables_afterwards(ctx, order)
        step_log().info("%d verification queries passed", count)
        return {"checks": count}


def ask_for_tables(source: SourcePolicy) -> Any:
    """Return what makes the question of a restore of tables; None when nobody need be asked."""
    name = source.name

    def ask(context: Context) -> Question | None:
        from include.backup.table_restore.steps import tables_destination, tables_order

        ctx = restore_context(context, name, runner=Runner(log=logging.getLogger(__name__)))
        order = tables_order(ctx, pulled(context, PREVIEW, "seal"))
        needed = order.needs_approval or (not order.dry_run and tables_destination(ctx, order).production)
        return order.question() if needed else None

    return ask


def tables_wish(context: Context) -> Any:
    """Return what the form's fields ask for."""
    from include.backup.restore.words import Where
    from include.backup.table_restore.preview import Mode
    from include.backup.table_restore.steps import TablesWish

    given = context["params"]
    return TablesWish(
        backup_id=pulled(context, RESOLVE, "backup_id"),
        tables=named_tables(given),
        mode=Mode(given["mode"]),
        where=Where(given["where"]),
        server=given["server"] or None,
        database=given["database"] or None,
        touches_children=bool(given["touch_children"]),
        unproven=bool(given["unproven"]),
        dry_run=bool(given["dry_run"]),
        reason=given["reason"] or "",
    )
