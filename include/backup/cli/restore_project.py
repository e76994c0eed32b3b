"""restore-project: a full backup into a hosted Supabase project, beside what the provider has made there."""

from __future__ import annotations

from include.backup.cli.confirming import confirm
from include.backup.cli.output import columns
from include.backup.cli.restore import target_connection
from include.backup.cli.restoring import quarantine_lines, record_restore, restore_context
from include.backup.cli.session import Session
from include.backup.errors import ParameterError
from include.backup.hosted.plan import ProjectPlan, ProjectRequest, plan_project_restore
from include.backup.hosted.restore import ProjectReport, restore_project
from include.backup.inventory import standing_of
from include.backup.restore.restore import default_jobs


def run(session: Session) -> int:
    """Restore into a project, or print only what would be done."""
    arguments = session.arguments
    plan = plan_project_restore(_request(session))
    session.output.preview(plan.lines())
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("restore-project", {"dry_run": True, "preview": plan.to_dict()}, ())
        return 0
    if not arguments.yes:
        host = plan.request.endpoint.host
        confirm(f"Type the host ({host}) to go on", word=host, what="the host")
    with session.output.progress() as progress:
        report = restore_project(
            plan,
            runner=session.runner,
            log=session.log,
            progress=progress,
            work_root=arguments.work_dir or session.staging_root,
        )
    facts = {"backup_id": report.backup_id, "strategy": "project", "tables": report.tables, "rows": report.rows}
    document = {
        "dry_run": False,
        "preview": plan.to_dict(),
        "report": report.to_dict(),
        **record_restore(session, restore_context(session), plan.request.endpoint, facts),
    }
    session.output.result("restore-project", document, _lines(report, plan))
    return 0


def _request(session: Session) -> ProjectRequest:
    arguments = session.arguments
    if not (arguments.connection or arguments.host):
        raise ParameterError("name the project: --connection, or --host (the direct host db.<ref>.supabase.co)")
    backup_id = session.backup_id
    manifest, content = session.catalog.read(backup_id)
    return ProjectRequest(
        store=session.store,
        manifest=manifest,
        standing=standing_of(content, session.catalog.proofs(backup_id)),
        endpoint=target_connection(session, session.source.connection),
        sources=session.source_databases(),
        unproven=arguments.unproven,
        jobs=arguments.jobs or default_jobs(),
    )


def _lines(report: ProjectReport, plan: ProjectPlan) -> list[str]:
    request = plan.request
    lines = [report.line(), *quarantine_lines(report.quarantine, request.endpoint, source=request.manifest.source)]
    lines += [f"left out    {item.line()}" for item in report.left_out]
    rows = [[name, f"{seconds:.1f} s"] for name, seconds in report.durations.items()]
    return [*lines, *columns(("part", "took"), rows)]
