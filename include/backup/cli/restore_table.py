"""restore-table: tables out of an archive, previewed, confirmed, compared."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from include.backup.chain import user_name
from include.backup.cli.confirming import confirm
from include.backup.cli.restore import target_connection
from include.backup.cli.restoring import record_restore, restore_context
from include.backup.cli.session import Session
from include.backup.errors import RestoreRefusedError
from include.backup.inventory import standing_of
from include.backup.manifest import fingerprint
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination
from include.backup.restore.restore import default_jobs
from include.backup.restore.safety import take_safety_backup
from include.backup.restore.target import Target
from include.backup.steps.context import utc_now
from include.backup.table_restore.changes import listed, logged, write_csv
from include.backup.table_restore.plan import TablesRequest, plan_tables
from include.backup.table_restore.preview import Mode, TablesPreview
from include.backup.table_restore.steps import tables_to_copy
from include.backup.table_restore.work import TablesReport, TablesRestore


def run(session: Session) -> int:
    """Restore tables, or print only what would be done."""
    arguments = session.arguments
    request = _request(session)
    plan = plan_tables(request, runner=session.runner, log=session.log)
    with ExitStack() as stack:
        with session.output.progress() as progress:
            work = TablesRestore(
                plan, runner=session.runner, log=session.log, progress=progress, holder=f"command line of {user_name()}"
            )
            stack.enter_context(work)
            preview = work.preview()
        session.output.preview(preview.lines())
        for line in logged(work.staged):
            session.output.message(line)
        if arguments.csv is not None:
            write_csv(arguments.csv, listed(work.staged))
        report, document = (None, {}) if arguments.dry_run else _carry_out(session, work, preview)
    document = {
        "dry_run": report is None,
        "preview": preview.to_dict(),
        "report": None if report is None else report.to_dict(),
        **document,
    }
    session.output.result("restore-table", document, [] if report is None else [report.line()])
    return 0


def _carry_out(session: Session, work: TablesRestore, preview: TablesPreview) -> tuple[TablesReport, dict[str, Any]]:
    """Restore; return what was done, and what else the document says."""
    arguments, ctx, copy = session.arguments, restore_context(session), None
    if not list(preview.refusals()):
        if not arguments.yes:
            confirm(f"Type {preview.mode.value} to go on", word=preview.mode.value, what="the mode")
        if preview.mode is not Mode.BESIDE and not arguments.no_safety_copy:
            copy = _store_copy(session, ctx, work, preview)
    with session.output.progress() as progress:
        report = work.carry_out(preview, work_root=arguments.work_dir or session.staging_root, progress=progress)
    kept = {"safety_copy": copy, "tables": [table.table for table in preview.tables], **report.to_dict()}
    return report, {"safety_copy": copy, **record_restore(session, ctx, work.target.endpoint, kept)}


def _store_copy(session: Session, ctx: RestoreContext, work: TablesRestore, preview: TablesPreview) -> str:
    """Store the tables and the children that would be touched as they are, by the steps of every backup."""
    if session.source.restore is None:
        raise RestoreRefusedError(
            f"the policy has no restore block for {session.source.name}, so that no copy of the tables can be stored "
            "first; give it one, or add --no-safety-copy"
        )
    destination = Destination(
        server="command line",
        conn_id="command line",
        connection=work.target.connection,
        database=work.target.database,
        production=True,
    )
    tables = tables_to_copy(preview)
    copy = take_safety_backup(ctx, destination, tables=tables)
    session.log.info("%s as they are now are kept as %s", ", ".join(tables), copy["backup_id"])
    return str(copy["backup_id"])


def _request(session: Session) -> TablesRequest:
    arguments = session.arguments
    source = session.source
    default = source.connection if source.restore is None else source.restore.source_connection
    connection = target_connection(session, default)
    database = arguments.to_database or session.database(source.connection).dbname
    backup_id = session.backup_id
    manifest, content = session.catalog.read(backup_id)
    return TablesRequest(
        store=session.store,
        manifest=manifest,
        manifest_sha256=fingerprint(content),
        standing=standing_of(content, session.catalog.proofs(backup_id)),
        target=Target(replace(connection), database=database),
        tables=tuple(arguments.tables),
        mode=Mode(arguments.mode),
        scratch_root=session.scratch_root,
        now=utc_now(),
        schema=arguments.schema,
        unproven=arguments.unproven,
        touches_children=arguments.touch_children,
        lock_timeout_seconds=arguments.lock_timeout,
        jobs=arguments.jobs or default_jobs(),
    )
