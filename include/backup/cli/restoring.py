"""What commands need that restore or release: the steps' context, and the evidence of what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from include.backup.chain import new_run
from include.backup.cli.session import Session
from include.backup.connections import DatabaseConnection
from include.backup.errors import BackupError
from include.backup.evidence import EventKind, open_ledger
from include.backup.quarantine import QuarantineReport, ReleaseReport, release_command
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import place
from include.backup.restore.order import make_restore_id
from include.backup.restore.restore import default_jobs


def restore_context(session: Session) -> RestoreContext:
    """Return what the core's steps are given; the run is one that a person starts now."""
    return RestoreContext(
        policy=session.policy,
        source=session.source,
        connections=session.database,
        store_connection=session.store_connection,
        run=new_run(),
        staging_root=getattr(session.arguments, "work_dir", None) or session.staging_root,
        scratch_root=session.scratch_root,
        runner=session.runner,
        log=session.log,
        jobs=getattr(session.arguments, "jobs", None) or default_jobs(),
    )


def record_restore(
    session: Session, ctx: RestoreContext, endpoint: DatabaseConnection, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Leave the evidence of a database that is restored; return what documents say of it."""
    into = {
        "database": endpoint.dbname,
        "address": f"{endpoint.host}:{endpoint.port}",
        "production": _is_production(session, endpoint),
    }
    return record_done(session, ctx, {**into, **facts})


def record_done(session: Session, ctx: RestoreContext, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the evidence of a restore that is done: who did it, into what the facts name; return what documents say.

    Nobody was asked, so that no approval is on record: the audit tells of production.
    """
    kept = {
        "requested_by": ctx.run.triggered_by,
        "reason": session.arguments.reason,
        **facts,
    }

    def append() -> None:
        ctx.ledger.append(
            EventKind.RESTORE,
            subject=ctx.restore_id,
            actor=ctx.run.actor,
            facts=kept,
            once=f"restore:{ctx.restore_id}",
        )

    return {"restore_id": ctx.restore_id, "recorded": recorded(session, append)}


def quarantine_lines(report: QuarantineReport, endpoint: DatabaseConnection, *, source: str) -> Iterator[str]:
    """Yield what a restored copy does not do by itself, and what lets it."""
    yield report.line()
    if report.items:
        yield f"release it with: {release_command(endpoint, source=source)}"


def record_release(session: Session, endpoint: DatabaseConnection, report: ReleaseReport) -> dict[str, Any]:
    """Leave the evidence that a copy acts again: who released it, and how much of what; return what documents say."""
    run = new_run()
    release_id = make_restore_id(run_after=run.run_after, dag_id=run.dag_id, run_id=run.run_id)
    kept = {
        "database": endpoint.dbname,
        "address": f"{endpoint.host}:{endpoint.port}",
        "released": dict(Counter(item.kind for item in report.items)),
        "requested_by": run.triggered_by,
        "reason": session.arguments.reason,
    }

    def append() -> None:
        open_ledger(session.source, session.store).append(
            EventKind.RESTORE, subject=release_id, actor=run.actor, facts=kept, once=f"release:{release_id}"
        )

    return {"release_id": release_id, "recorded": recorded(session, append, done="released")}


def recorded(session: Session, record: Callable[[], None], *, done: str = "restored") -> bool:
    """Record what is done, and say whether that is stored: whoever may only read the bucket can restore too."""
    try:
        record()
    except BackupError as error:
        session.log.warning("it is %s, and that is NOT on record (%s): keep what this command prints", done, error)
        return False
    return True


def _is_production(session: Session, endpoint: DatabaseConnection) -> bool:
    """Say whether a database is some source, or on a server that the policy calls production."""
    restore, conn_id = session.source.restore, session.arguments.connection
    servers = () if restore is None else restore.servers.values()
    named = any(server.production and server.connection == conn_id for server in servers)
    return named or place(endpoint) in map(place, session.source_databases())
