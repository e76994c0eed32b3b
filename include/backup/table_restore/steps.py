"""The steps of a restore of tables into an allow-listed place: each looks up anew whether it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from include.backup.approval import Approval
from include.backup.errors import ParameterError, RestoreDiffersError, RestoreRefusedError
from include.backup.evidence import EventKind
from include.backup.inventory import standing_of
from include.backup.manifest import fingerprint
from include.backup.postgres.session import connect
from include.backup.proof.checks import run_checks
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination, allowed_destination, find_destination
from include.backup.restore.progress import Progress
from include.backup.restore.safety import require_safety_backup, take_safety_backup
from include.backup.restore.sealed import PREFIX, keep_order, read_order
from include.backup.restore.target import Target, shown
from include.backup.restore.words import Where
from include.backup.table_restore.changes import listed, logged
from include.backup.table_restore.names import parse_table_name
from include.backup.table_restore.order import TablesOrder
from include.backup.table_restore.plan import TablesPlan, TablesRequest, plan_tables
from include.backup.table_restore.preview import Mode, TablesPreview
from include.backup.table_restore.work import TablesReport, TablesRestore


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesWish:
    """What a person asks for; every ``bool`` is an explicit yes to something that is refused otherwise."""

    backup_id: str
    tables: tuple[str, ...]
    mode: Mode
    where: Where
    server: str | None = None
    database: str | None = None
    touches_children: bool = False
    unproven: bool = False
    dry_run: bool = True
    reason: str = ""


def preview_tables(ctx: RestoreContext, wish: TablesWish, *, progress: Progress) -> tuple[TablesOrder, str]:
    """Show what would change, in the log and as a CSV file in the store; return the order and its seal.

    Nothing is changed. Raises RestoreRefusedError for what would be refused later, unless it is only to be shown.
    """
    if wish.where is Where.SCRATCH:
        raise ParameterError("tables go into a database that is there; choose production or a named database")
    destination = find_destination(
        ctx.policy,
        ctx.source,
        ctx.connections,
        where=wish.where,
        server=wish.server,
        database=wish.database,
        scratch_name="",
    )
    plan = _plan(ctx, wish, destination)
    with TablesRestore(plan, runner=ctx.runner, log=ctx.log, progress=progress, holder=ctx.holder) as work:
        preview = work.preview()
        order = TablesOrder(
            restore_id=ctx.restore_id,
            source=ctx.source.name,
            connection=destination.conn_id,
            server=destination.server,
            address=destination.address,
            database=destination.database,
            production=destination.production,
            dry_run=wish.dry_run,
            unproven=wish.unproven,
            tables=wish.tables,
            requested_by=ctx.run.triggered_by or "unknown",
            reason=wish.reason,
            created_at=ctx.clock(),
            preview=preview,
        )
        for line in (*order.lines(), *logged(work.staged)):
            ctx.log.info("%s", line)
        if work.staged:
            key = changes_key(ctx, order)
            ctx.store.put_if_absent(key, b"".join(listed(work.staged)), encryption=ctx.encryption)
            ctx.log.info("the rows that differ are listed in %s", ctx.store.url(key))
    if not wish.dry_run and (refusals := list(preview.refusals())):
        raise RestoreRefusedError(f"nothing was changed: {'; '.join(refusals)}")
    return order, keep_order(ctx.store, order, encryption=ctx.encryption)


def changes_key(ctx: RestoreContext, order: TablesOrder) -> str:
    """Return where the list of the rows that differ lies; each look at them has its own."""
    return f"{PREFIX}/{order.restore_id}/changes-{order.created_at:%Y%m%dT%H%M%S%f}.csv"


def tables_order(ctx: RestoreContext, seal: str) -> TablesOrder:
    """Return this run's own order; another run's cannot be carried out here."""
    order = read_order(ctx.store, TablesOrder, ctx.restore_id, seal)
    if order.source != ctx.source.name:
        raise RestoreRefusedError(f"order {seal} is of {order.source}, not of {ctx.source.name}")
    return order


def tables_destination(ctx: RestoreContext, order: TablesOrder) -> Destination:
    """Return where the order goes, as the policy allows it now; raises RestoreRefusedError when it does not."""
    found = allowed_destination(ctx.policy, ctx.source, ctx.connections, server=order.server, database=order.database)
    if (found.conn_id, found.address) != (order.connection, order.address):
        raise RestoreRefusedError(
            f"the policy leads to {found.address} by {found.conn_id} now, and the order was about {order.address}; "
            "trigger a new run"
        )
    return found


def back_up_tables(ctx: RestoreContext, order: TablesOrder) -> dict[str, Any]:
    """Store the tables as they are, before they are changed, and the children that would be touched."""
    tables = tables_to_copy(order.preview)
    copy = take_safety_backup(ctx, tables_destination(ctx, order), tables=tables)
    ctx.log.info("%s as they are now are kept as %s", ", ".join(tables), copy["backup_id"])
    return copy


def tables_to_copy(preview: TablesPreview) -> tuple[str, ...]:
    """Return the tables whose rows would be deleted or changed, also by foreign keys.

    Their names are as the policy's critical_tables have them: as they are, without quotes.
    """
    found = []
    for name in dict.fromkeys([*(table.table for table in preview.tables), *(item.table for item in preview.touched)]):
        schema, table = parse_table_name(name)
        if schema is None or "." in schema:
            raise RestoreRefusedError(f"the schema of {name} has a dot in it, and no copy can be stored first")
        found.append(f"{schema}.{table}")
    return tuple(found)


def carry_out_tables(
    ctx: RestoreContext, order: TablesOrder, seal: str, *, approve: Callable[[], Approval], progress: Progress
) -> TablesReport:
    """Do what was shown. The allow-list comes first, then the approval and the copy of before, all looked up anew.

    ``approve`` raises when there is no yes.
    """
    destination = tables_destination(ctx, order)
    if order.dry_run:
        raise RestoreRefusedError(f"order {seal} only shows; nothing was changed")
    approval = approve() if order.needs_approval or destination.production else None
    if approval is not None:
        approval.require(seal)
    if order.preview.mode is not Mode.BESIDE:
        require_safety_backup(ctx, destination, tables=tables_to_copy(order.preview))
    wish = TablesWish(
        backup_id=order.preview.backup_id,
        tables=order.tables,
        mode=order.preview.mode,
        where=Where.NAMED,
        touches_children=order.preview.touches_children,
        unproven=order.unproven,
    )
    plan = _plan(ctx, wish, destination)
    if plan.request.manifest_sha256 != order.preview.manifest_sha256:
        raise RestoreRefusedError(f"the manifest of {wish.backup_id} is not what was shown; trigger a new run")
    with TablesRestore(plan, runner=ctx.runner, log=ctx.log, progress=progress, holder=ctx.holder) as work:
        report = work.carry_out(order.preview, work_root=ctx.staging_root, progress=progress)
    ctx.log.info("%s", report.line())
    _record(ctx, order, report, approval)
    return report


def check_tables_afterwards(ctx: RestoreContext, order: TablesOrder) -> int:
    """Run the verification queries where the tables are; return how many there were.

    Raises RestoreDiffersError naming those that failed.
    """
    target = Target(tables_destination(ctx, order).connection, database=order.database)
    with connect(target.endpoint) as session:
        results = run_checks(session, ctx.source.name)
    if failed := [f"{result.name}: {result.detail}" for result in results if not result.passed]:
        raise RestoreDiffersError(f"the tables are restored, and checks of {target.describe()} fail: {shown(failed)}")
    return len(results)


def _plan(ctx: RestoreContext, wish: TablesWish, destination: Destination) -> TablesPlan:
    manifest, content = ctx.catalog.read(wish.backup_id)
    request = TablesRequest(
        store=ctx.store,
        manifest=manifest,
        manifest_sha256=fingerprint(content),
        standing=standing_of(content, ctx.catalog.proofs(wish.backup_id)),
        target=Target(destination.connection, database=destination.database),
        tables=wish.tables,
        mode=wish.mode,
        scratch_root=ctx.scratch_root,
        now=ctx.clock(),
        unproven=wish.unproven,
        touches_children=wish.touches_children,
        jobs=ctx.jobs,
    )
    return plan_tables(request, runner=ctx.runner, log=ctx.log)


def _record(ctx: RestoreContext, order: TablesOrder, report: TablesReport, approval: Approval | None) -> None:
    ctx.ledger.append(
        EventKind.RESTORE,
        subject=order.restore_id,
        actor=ctx.run.actor,
        facts={
            "database": order.database,
            "address": order.address,
            "production": order.production,
            "requested_by": order.requested_by,
            "reason": order.reason,
            **report.to_dict(),
            **({} if approval is None else approval.to_dict()),
        },
        once=f"restore:{order.restore_id}",
    )
