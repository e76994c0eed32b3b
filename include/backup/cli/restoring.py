"""What commands need that write where the policy allows restores."""

from __future__ import annotations

from include.backup.chain import new_run
from include.backup.cli.session import Session
from include.backup.restore.context import RestoreContext
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
