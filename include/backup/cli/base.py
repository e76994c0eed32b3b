"""base: a base backup from source to proof, by the same steps that the operators run."""

from __future__ import annotations

import time
from typing import Any

from include.backup.base import preflight, store_wal, take, upload
from include.backup.base.context import build_base_context
from include.backup.base.plan import Wish
from include.backup.chain import new_run
from include.backup.cli.session import Session
from include.backup.steps import close_staging, restore_test, verify


def run(session: Session) -> int:
    """Take what is due or asked for."""
    arguments, source = session.arguments, session.source
    ctx = build_base_context(
        source=source,
        run=new_run(),
        database=session.database(source.connection),
        store=session.store_connection,
        staging_root=session.staging_root,
        scratch_root=session.scratch_root,
        runner=session.runner,
        log=session.log,
    )
    wish = Wish.FULL if arguments.full else Wish.INCREMENTAL if arguments.incremental else Wish.DUE
    started = time.monotonic()
    decided = preflight.run(ctx, wish=wish)
    session.log.info("preflight: %s", decided.line())
    document: dict[str, Any] = {"source": source.name, "taken": decided.take, "why": decided.why}
    if not decided.take:
        session.output.result("base", document, [decided.line()])
        return 0
    steps = [take, upload, verify]
    if not arguments.no_wal:
        steps.append(store_wal)
        if not arguments.no_proof:
            steps.append(restore_test)
    reports: dict[str, Any] = {}
    for step in (*steps, close_staging):
        report: Any = step.run(ctx)
        if report is not None:
            name = step.__name__.rsplit(".", 1)[-1]
            reports[name] = report.to_dict()
            session.log.info("%s: %s", name, report.line())
    seconds = round(time.monotonic() - started, 3)
    proven = "restore_test" in reports
    document |= {"backup_id": ctx.backup_id, "proven": proven, "seconds": seconds, "steps": reports}
    standing = "stored, verified and proven" if proven else "stored and verified, not proven"
    session.output.result("base", document, [f"{ctx.backup_id} is {standing}, {seconds:.1f} s"])
    return 0
