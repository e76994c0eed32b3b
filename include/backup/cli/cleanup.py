"""cleanup: the retention plan of a source, and, if asked, its execution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from include.backup.chain import user_name
from include.backup.cli.output import columns, size_text
from include.backup.cli.restoring import restore_context
from include.backup.cli.session import Session
from include.backup.errors import CleanupError
from include.backup.evidence import open_ledger
from include.backup.retention.cleanup import CleanupContext, CleanupPlan, plan_cleanup
from include.backup.retention.execute import LOG, CleanupReport, Removed, dry_run, execute
from include.backup.steps.context import encryption_of


def run(session: Session) -> int:
    """Print what goes and why; with --delete, let it go."""
    ctx = CleanupContext(
        source=session.source,
        store=session.store,
        ledger=open_ledger(session.source, session.store),
        encryption=encryption_of(session.source, session.store),
        actor=f"command_line by {user_name()}",
        log=session.log,
        staging_root=session.staging_root,
        scratch_root=session.scratch_root,
        restores=lambda: restore_context(session),
    )
    plan = plan_cleanup(ctx)
    report = execute(ctx, plan) if session.arguments.delete else dry_run(ctx, plan)
    session.output.result("cleanup", _document(report), _lines(session, plan, report))
    return CleanupError.exit_code if report.failures or report.lost else 0


def _document(report: CleanupReport) -> dict[str, Any]:
    removed = [
        {"what": one.what, "name": one.name, "reason": one.reason, "bytes": one.size, "failed": list(one.failed)}
        for one in report.removed
    ]
    return {**report.to_dict(), "items": removed, "decisions": list(report.decisions)}


def _lines(session: Session, plan: CleanupPlan, report: CleanupReport) -> Iterator[str]:
    if session.arguments.all:
        yield from report.decisions
        yield ""
    rows = [(one.what, one.name, _size(one), "; ".join(one.failed) or one.reason) for one in report.removed]
    if rows:
        yield from columns(("what", "name", "size", "why"), rows)
    yield from report.skipped
    yield ", ".join(f"{count} kept: {reason}" for reason, count in report.kept.items()) or "no backup is kept"
    yield report.line()
    if report.dry_run and not plan.nothing_to_do:
        yield "nothing was changed; --delete does it"


def _size(one: Removed) -> str:
    """Of WAL the segments are counted: a listing of names tells no sizes."""
    return f"{one.objects} segments" if one.what == LOG else size_text(one.size)
