"""restore --swap, --in-place and --undo: replace the source itself, and take a swap back."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from include.backup.approval import Approval
from include.backup.chain import user_name
from include.backup.cli.output import columns
from include.backup.cli.restoring import restore_context
from include.backup.cli.session import Session
from include.backup.errors import ParameterError
from include.backup.restore.context import RestoreContext
from include.backup.restore.in_place import restore_in_place
from include.backup.restore.order import RestoreOrder, Strategy
from include.backup.restore.prepare import Wish, prepare
from include.backup.restore.sealed import keep_order
from include.backup.restore.survey import change_lines
from include.backup.restore.undo import Undo, find_undo, undo
from include.backup.restore.words import Where
from include.backup.restore.work import back_up_target, check_afterwards, compare, keep_old, load, swap_in
from include.backup.steps.context import utc_now


def run(session: Session) -> int:
    """Replace or undo, or print only what would be done."""
    ctx = restore_context(session)
    return _undo(session, ctx) if session.arguments.undo else _replace(session, ctx)


def _replace(session: Session, ctx: RestoreContext) -> int:
    arguments = session.arguments
    order = prepare(ctx, _wish(session))
    session.output.preview((*order.lines(), *change_lines(order.changes)))
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("restore", {"dry_run": True, "preview": _document(order)}, ())
        return 0
    _confirm(session, order.database)
    seal = keep_order(ctx.store, order, encryption=ctx.encryption)
    safety = back_up_target(ctx, order) if order.replaces else {}
    work = _in_place if order.strategy is Strategy.IN_PLACE else _swap
    done = work(session, ctx, order, seal)
    facts = {"restore_id": order.restore_id, "seal": seal, "safety": safety, **done.facts}
    facts["checks"] = check_afterwards(ctx, order)
    session.output.result("restore", {"dry_run": False, "preview": _document(order), "report": facts}, done.lines)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What became of a restore, as JSON and for a person."""

    facts: dict[str, Any]
    lines: tuple[str, ...]


def _swap(session: Session, ctx: RestoreContext, order: RestoreOrder, seal: str) -> _Done:
    with session.output.progress() as progress:
        load(ctx, order, progress=progress)
        compared = compare(ctx, order, seal, progress=progress)
    identical = compared.line(order.backup_id)
    if not order.replaces:
        return _Done(facts={"rows": compared.rows}, lines=(identical,))
    report = swap_in(ctx, order, seal, approve=lambda: _approval(seal))
    kept = keep_old(ctx, order)
    until = f"it is kept until {kept.drop_after:%Y-%m-%d %H:%M} UTC; give it back with --undo {order.restore_id}"
    return _Done(
        facts={"rows": compared.rows, "swap": report.to_dict(), "kept_until": kept.drop_after.isoformat()},
        lines=(identical, report.line(), until),
    )


def _in_place(session: Session, ctx: RestoreContext, order: RestoreOrder, seal: str) -> _Done:
    with session.output.progress() as progress:
        report = restore_in_place(ctx, order, seal, approve=lambda: _approval(seal), progress=progress)
    return _Done(facts={"rows": report.rows, "in_place": report.to_dict()}, lines=(report.line(),))


def _undo(session: Session, ctx: RestoreContext) -> int:
    arguments = session.arguments
    found = find_undo(ctx, arguments.undo)
    session.output.preview(_undo_lines(found))
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("restore", {"dry_run": True, "preview": found.to_dict()}, ())
        return 0
    _confirm(session, found.database)
    report = undo(ctx, found, end_sessions=arguments.end_sessions)
    line = f"{found.database} takes connections again" if found.in_place else report.line()
    session.output.result("restore", {"dry_run": False, "preview": found.to_dict(), "report": report.to_dict()}, [line])
    return 0


def _undo_lines(found: Undo) -> list[str]:
    if found.in_place:
        return [f"opens        {found.database}, which is what it was before; a swap or an undo was killed and left it"]
    lines = [
        f"gives back   {found.kept} as {found.database}",
        f"puts aside   what is {found.database} now, as {found.aside}, with all that was written since the swap",
        f"sessions     {found.sessions} will be ended",
    ]
    if found.written is None:
        return [*lines, f"written      nobody knows: {found.database} takes no connections, so that nobody can look"]
    if not found.written:
        return [*lines, "written      nothing since the swap, as far as the statistics say"]
    rows = [(item.table, str(item.inserted), str(item.updated), str(item.deleted)) for item in found.written]
    return [*lines, "lost from view, written since the swap:", *columns(("table", "new", "changed", "deleted"), rows)]


def _wish(session: Session) -> Wish:
    arguments = session.arguments
    return Wish(
        backup_id=session.backup_id,
        where=Where.PRODUCTION,
        in_place=arguments.in_place,
        end_sessions=arguments.end_sessions,
        give_up_slots=arguments.give_up_slots,
        give_up_writes=arguments.give_up_writes,
        unproven=arguments.unproven,
        with_roles=arguments.with_roles,
        dry_run=arguments.dry_run,
        reason=arguments.reason,
    )


def _approval(seal: str) -> Approval:
    """Return who typed the database's name: without Airflow nobody can be asked twice."""
    name = user_name()
    return Approval(requested_by=name, approved_by=f"{name}, at the command line", approved_at=utc_now(), seal=seal)


def _confirm(session: Session, database: str) -> None:
    """Have the database's name typed; raises ParameterError when nobody can be asked, or says something else."""
    typed = session.arguments.yes_i_have_approval
    if typed is None and not sys.stdin.isatty():
        raise ParameterError(
            f"nobody can be asked here; add --yes-i-have-approval {database}, or --dry-run to see the preview"
        )
    if typed is None:
        print(f"This replaces {database}. Type its name to go on: ", end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline().strip()
    if typed != database:
        raise ParameterError(f"{typed!r} is not the name of the database that would be replaced; nothing was changed")


def _document(order: RestoreOrder) -> dict[str, Any]:
    return {
        "restore_id": order.restore_id,
        "backup_id": order.backup_id,
        "database": order.database,
        "address": order.address,
        "strategy": order.strategy.value,
        "production": order.production,
        "rows_then": order.backup_rows,
        "rows_now": 0 if order.target is None else order.target.rows,
        "estimated_seconds": order.estimated_seconds,
        "warnings": list(order.warnings),
    }
