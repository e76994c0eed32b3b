"""restore: a full backup into a new database, previewed, confirmed, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from include.backup.cli.confirming import confirm
from include.backup.cli.output import columns
from include.backup.cli.restoring import quarantine_lines, record_restore, restore_context
from include.backup.cli.session import Session
from include.backup.connection_spec import ConnectionSpec
from include.backup.connections import DatabaseConnection
from include.backup.errors import ParameterError
from include.backup.inventory import standing_of
from include.backup.restore.order import Strategy
from include.backup.restore.plan import RestoreRequest, plan_restore
from include.backup.restore.restore import RestoreReport, default_jobs, restore
from include.backup.restore.target import Target

APPLICATION = "pulse_restore"
_HOST_ONLY = ("port", "user", "maintenance_database", "sslmode", "sslrootcert")


def run(session: Session) -> int:
    """Restore a backup, or print only what would be done."""
    arguments = session.arguments
    if arguments.swap or arguments.in_place or arguments.undo:
        from include.backup.cli import restore_swap

        return restore_swap.run(session)
    plan = plan_restore(_request(session))
    session.output.preview(plan.preview.lines())
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("restore", {"dry_run": True, "preview": plan.preview.to_dict()}, ())
        return 0
    if not arguments.yes:
        confirm("Type the name of the database to go on", word=plan.preview.target_database, what="the database's name")
    with session.output.progress() as progress:
        report = restore(
            plan,
            runner=session.runner,
            log=session.log,
            progress=progress,
            work_root=arguments.work_dir or session.staging_root,
        )
    document = {
        "dry_run": False,
        "preview": plan.preview.to_dict(),
        "report": report.to_dict(),
        **record_restore(session, restore_context(session), plan.request.target.endpoint, _facts(report)),
    }
    session.output.result("restore", document, _lines(report, plan.request))
    return 0


def _request(session: Session) -> RestoreRequest:
    arguments = session.arguments
    target = Target(target_connection(session, session.source.connection), database=arguments.to_database)
    backup_id = session.backup_id
    manifest, content = session.catalog.read(backup_id)
    proofs = session.catalog.proofs(backup_id)
    return RestoreRequest(
        store=session.store,
        manifest=manifest,
        standing=standing_of(content, proofs),
        proofs=proofs,
        target=target,
        sources=session.source_databases(),
        create=arguments.create,
        with_roles=arguments.with_roles,
        unproven=arguments.unproven,
        compare=not arguments.no_compare,
        jobs=arguments.jobs or default_jobs(),
        quarantine=not arguments.no_quarantine,
    )


def target_connection(session: Session, default: str) -> DatabaseConnection:
    """Return how to reach the target's server, by any database that is there; ``default`` is a connection's id."""
    arguments = session.arguments
    if arguments.connection and arguments.host:
        raise ParameterError("--connection and --host are two ways to say the same; give one")
    if not arguments.host:
        given = [name for name in _HOST_ONLY if getattr(arguments, name) is not None]
        if given:
            raise ParameterError(f"--{given[0].replace('_', '-')} goes with --host only")
        connection = session.database(arguments.connection or default)
        return replace(connection, application_name=APPLICATION)
    user = arguments.user or "postgres"
    extra = {"sslmode": arguments.sslmode, "sslrootcert": arguments.sslrootcert}
    spec = ConnectionSpec(
        conn_id="of --host",
        conn_type="postgres",
        host=arguments.host,
        port=arguments.port,
        schema=arguments.maintenance_database or "postgres",
        login=user,
        password=session.password(user, arguments.host),
        extra={name: value for name, value in extra.items() if value is not None},
    )
    return replace(DatabaseConnection.from_spec(spec), application_name=APPLICATION)


def _facts(report: RestoreReport) -> dict[str, Any]:
    return {
        "backup_id": report.backup_id,
        "strategy": Strategy.NEW.value,
        "tables": report.tables,
        "rows": report.rows,
        "compared": report.compared is not None,
        "seconds": report.seconds,
    }


def _lines(report: RestoreReport, request: RestoreRequest) -> list[str]:
    lines = [report.line()]
    if report.quarantine is not None:
        lines += quarantine_lines(report.quarantine, request.target.endpoint, source=request.manifest.source)
    rows = [[name, f"{seconds:.1f} s"] for name, seconds in report.durations.items()]
    return [*lines, *columns(("part", "took"), rows)]
