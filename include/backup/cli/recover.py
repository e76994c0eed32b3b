"""recover: a source as it was at a point in time, as a new server, previewed and confirmed."""

from __future__ import annotations

from collections.abc import Iterator

from include.backup.chain import user_name
from include.backup.cli.confirming import confirm
from include.backup.cli.output import columns
from include.backup.cli.restoring import recorded
from include.backup.cli.session import Session
from include.backup.point_in_time.choose import Wanted
from include.backup.point_in_time.evidence import record_recovery
from include.backup.point_in_time.restore import PointInTimePlan, PointInTimeReport, plan_point_in_time
from include.backup.point_in_time.restore import restore_point_in_time as restore
from include.backup.point_in_time.stored import read_stored
from include.backup.point_in_time.target import RecoveryTarget


def run(session: Session) -> int:
    """Recover, or print only what would be done."""
    arguments = session.arguments
    target = _target(session)
    if arguments.in_project:
        from include.backup.cli.recover_project import recover_project

        return recover_project(session, target)
    plan = _plan(session, target)
    session.output.preview(plan.lines())
    if arguments.dry_run:
        if session.output.as_json:
            session.output.result("recover", {"dry_run": True, "preview": plan.to_dict()}, ())
        return 0
    if not arguments.yes:
        confirm("Type the new server's port to go on", word=plan.port, what="the port")
    with session.output.progress() as progress:
        total = sum(base.manifest.archive.size for base in plan.choice.bases)
        progress.phase("unpack", total, "bytes")
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            progress.at(done)

        report = restore(plan, store=session.store, runner=session.runner, log=session.log, on_bytes=on_bytes)

    def record() -> None:
        record_recovery(session.source, session.store, report.to_dict(), subject=report.backup_id, actor=user_name())

    document = {
        "dry_run": False,
        "preview": plan.to_dict(),
        "report": report.to_dict(),
        "recorded": recorded(session, record),
    }
    session.output.result("recover", document, _lines(report))
    return 0


def _target(session: Session) -> RecoveryTarget:
    arguments = session.arguments
    kinds = {"time": arguments.to_time, "lsn": arguments.to_lsn, "xid": arguments.to_xid, "name": arguments.to_name}
    given = {kind: value for kind, value in kinds.items() if value is not None}
    return RecoveryTarget.parse(*next(iter(given.items()), ("latest", None)))


def _plan(session: Session, target: RecoveryTarget) -> PointInTimePlan:
    arguments = session.arguments
    return plan_point_in_time(
        read_stored(session.source, session.store, system_identifier=arguments.system_identifier),
        Wanted(
            target=target,
            base=arguments.base,
            timeline=arguments.timeline,
            unproven=arguments.unproven,
        ),
        source=session.source.name,
        folder=arguments.folder.absolute(),
        port=arguments.port,
    )


def _lines(report: PointInTimeReport) -> Iterator[str]:
    yield report.line()
    yield from report.details()
    yield from columns(("part", "took"), [(name, f"{seconds:.1f} s") for name, seconds in report.durations.items()])
