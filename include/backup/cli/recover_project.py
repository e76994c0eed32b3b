"""recover --in-project: a hosted Supabase project as it was at a time, by Supabase, in place of what it is now."""

from __future__ import annotations

from include.backup.chain import user_name
from include.backup.cli.confirming import confirm
from include.backup.cli.restoring import recorded
from include.backup.cli.session import Session
from include.backup.errors import ParameterError
from include.backup.point_in_time.evidence import record_recovery
from include.backup.point_in_time.hosted import plan_hosted, restore_hosted
from include.backup.point_in_time.target import RecoveryTarget

DEADLINE_SECONDS = 6 * 3600.0


def recover_project(session: Session, target: RecoveryTarget) -> int:
    """Let Supabase recover the project and follow it, or print only what would be asked."""
    arguments = session.arguments
    project = session.open_supabase()
    if project is None:
        raise ParameterError(
            f"the policy has no supabase block for {session.source.name}; add project_ref and connection, or recover "
            "into a --folder"
        )
    with project:
        plan = plan_hosted(project, target, source=session.source.name)
        session.output.preview(plan.lines())
        if arguments.dry_run:
            if session.output.as_json:
                session.output.result("recover", {"dry_run": True, "preview": plan.to_dict()}, ())
            return 0
        if not arguments.yes:
            question = "Everything after that time is lost. Type the project's ref to go on"
            confirm(question, word=plan.project_ref, what="the project")
        report = restore_hosted(plan, project, deadline_seconds=DEADLINE_SECONDS, say=session.output.message)

    def record() -> None:
        record_recovery(session.source, session.store, report.to_dict(), subject=plan.project_ref, actor=user_name())

    document = {
        "dry_run": False,
        "preview": plan.to_dict(),
        "report": report.to_dict(),
        "recorded": recorded(session, record),
    }
    session.output.result("recover", document, [report.line()])
    return 0
