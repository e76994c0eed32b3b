"""wal: what can be recovered to any point in time; one run without Airflow; the slots of a source that is let go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from include.backup.chain import new_run
from include.backup.cli.output import columns, size_text
from include.backup.cli.session import Session
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import ParameterError, RestoreRefusedError, UnknownSourceError
from include.backup.policy import SourcePolicy
from include.backup.steps.context import encryption_of, open_store
from include.backup.store import ObjectStore
from include.backup.wal.chain import Gap
from include.backup.wal.context import WalContext
from include.backup.wal.lsn import format_lsn
from include.backup.wal.provider import Mode, check_watchable, mode_of, watch
from include.backup.wal.record import RunRecord, newest_record
from include.backup.wal.release import release, slots_of
from include.backup.wal.reporting import WalReport
from include.backup.wal.run import Step
from include.backup.wal.run import run as run_once
from include.backup.wal.status import WalStanding, read_standing
from include.backup.wal.window import Window

TIME = "%Y-%m-%d %H:%M:%S"
SHOWN_GAPS = 20


def run(session: Session) -> int:
    """Report how the log of a source stands, store it once, or let go of the source."""
    arguments = session.arguments
    if arguments.drop_slots:
        return _release(session)
    if arguments.connection or arguments.yes or arguments.dry_run:
        raise ParameterError("--connection, --yes and --dry-run belong to --drop-slots")
    return _store(session) if arguments.run else _report(session)


# --- one run -----------------------------------------------------------------------------------------


def _store(session: Session) -> int:
    ctx = WalContext(
        source=session.source,
        run=new_run(),
        database=session.database(session.source.connection),
        store_connection=session.store_connection,
        staging_root=session.staging_root,
        runner=session.runner,
        log=session.log,
    )
    reports: list[WalReport] = []

    def on_step(name: str, step: Step) -> None:
        session.log.info("%s: %s", name, step.line())
        if isinstance(step, WalReport):
            reports.append(step)

    session.log.info("run %s stores WAL of %s", ctx.run.run_id, ctx.source.name)
    run_once(ctx, on_step=on_step)
    session.output.result("wal", {"run": reports[-1].to_dict()}, [reports[-1].line(), *_wanted(reports[-1].record)])
    return 0


def _wanted(record: RunRecord) -> Iterator[str]:
    if record.base_wanted is not None:
        yield f"a base backup has to be taken: {record.base_wanted}"
    for warning in record.warnings:
        yield f"warning: {warning}"


# --- the report --------------------------------------------------------------------------------------


def _report(session: Session) -> int:
    source = session.source
    if source.incremental is None:
        raise ParameterError(f"the policy has no incremental block for {source.name}: its WAL is not stored")
    database = session.database(source.connection)
    if mode_of(database) is Mode.PROVIDER:
        return _report_provider(session)
    standing = read_standing(
        source,
        session.store,
        database,
        now=datetime.now(tz=UTC),
        on_progress=lambda count: session.log.info("%d segments listed", count),
    )
    session.output.result("wal", _document(standing), _lines(standing))
    return 0


def _report_provider(session: Session) -> int:
    """Report what the provider says of its own recovery; raises WalRefusedError when it has none."""
    source, now = session.source, datetime.now(tz=UTC)
    check_watchable(source)
    project = session.open_supabase()
    if project is None:
        raise ParameterError(f"the policy has no supabase block for {source.name}")
    with project:
        window = watch(source, project, now=now)
    lines = [window.line(), *(() if window.warning is None else (f"warning: {window.warning}",))]
    session.output.result("wal", {"source": source.name, "provider": window.to_dict()}, lines)
    return 0


def _document(standing: WalStanding) -> dict[str, Any]:
    last, slot = standing.last, standing.slot
    return {
        "source": standing.source,
        "system_identifier": None if last is None else last.system_identifier,
        "timeline": None if last is None else last.timeline,
        "state": None if last is None else last.state.value,
        "last_run": None if last is None else last.finished_at.isoformat(),
        "stored_end_lsn": None if last is None else last.partial_lsn or last.end_lsn,
        "recoverable": None if standing.now is None else _window(standing.now),
        "windows": [_window(window) for window in standing.windows],
        "segments": standing.chain.segments,
        "gaps": [_gap(gap) for gap in standing.gaps],
        "rpo_seconds": None if standing.rpo_seconds is None else round(standing.rpo_seconds, 1),
        "slot": None
        if slot is None
        else {
            "name": slot.name,
            "lag_bytes": slot.lag_bytes,
            "wal_status": None if slot.wal_status is None else slot.wal_status.value,
            "safe_bytes": slot.safe_bytes,
            "max_slot_wal_keep_bytes": slot.limit_bytes,
        },
        "problems": list(standing.problems),
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "earliest": window.earliest.isoformat(),
        "latest": window.latest.isoformat(),
        "base_backup": window.base.backup_id,
        "proven": window.base.proven,
        "timeline": window.timeline,
        "end_lsn": format_lsn(window.end),
        "next_missing": window.missing.name,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {"first": gap.first.name, "last": gap.last.name, "segments": gap.segments}


def _lines(standing: WalStanding) -> Iterator[str]:
    now, last, slot = standing.now, standing.last, standing.slot
    if now is None:
        yield f"{standing.source} cannot be recovered up to now"
    else:
        yield f"{standing.source} can be recovered to any time from {now.earliest:{TIME}} to {now.latest:{TIME}} UTC"
        yield f"data loss if the source were lost now: {standing.rpo_seconds:.0f} s (RPO)"
    if last is not None:
        yield (
            f"stored: {standing.chain.segments} segments of cluster {last.system_identifier}, up to "
            f"{last.partial_lsn or last.end_lsn} of timeline {last.timeline}; last run {last.finished_at:{TIME}} UTC, "
            f"{last.state}"
        )
    if slot is not None:
        status = "missing" if slot.wal_status is None else slot.wal_status.value
        limit = "no limit" if slot.limit_bytes is None else f"{slot.limit_bytes} bytes at most"
        lag = "no WAL" if slot.lag_bytes is None else f"{slot.lag_bytes} bytes ({size_text(slot.lag_bytes)})"
        yield f"slot {slot.name}: {status}, keeps {lag}, {limit}"
    rows = [
        (window.base.backup_id, f"{window.earliest:{TIME}}", f"{window.latest:{TIME}}", window.missing.name)
        for window in standing.windows
    ]
    if rows:
        yield from columns(("base backup", "from (UTC)", "to (UTC)", "up to segment, without it"), rows)
    for gap in standing.gaps[:SHOWN_GAPS]:
        yield f"gap: {gap.segments} segments, {gap.first.name} to {gap.last.name}"
    if len(standing.gaps) > SHOWN_GAPS:
        yield f"and {len(standing.gaps) - SHOWN_GAPS} more gaps; --json has all of them"
    for problem in standing.problems:
        yield f"problem: {problem}"


# --- letting go --------------------------------------------------------------------------------------


def _release(session: Session) -> int:
    """Remove the slots of a source whose WAL is not to be stored any more."""
    arguments, name = session.arguments, session.arguments.source
    known = session.policy.sources.get(name)
    if known is not None and known.incremental is not None:
        raise RestoreRefusedError(
            f"{name} still has an incremental block in the policy, so its slot is needed; remove the block first"
        )
    keeper, store, last = _record_of(session, name)
    slots = (last.hold_slot, last.run_slot) if last is not None else (f"{name}_hold", f"{name}_run")
    connection = arguments.connection or (None if last is None else last.connection)
    if connection is None:
        raise UnknownSourceError(
            f"no store of the policy has a record of {name}; name the server's connection with --connection"
        )
    database: DatabaseConnection = session.database(connection)
    there = [slot.name for slot in slots_of(database, slots)]
    removed: tuple[str, ...] = ()
    if not arguments.dry_run:
        if not arguments.yes:
            raise ParameterError(f"this removes {', '.join(there) or 'nothing'}; add --yes, or --dry-run to only look")
        encryption = encryption_of(keeper, store)
        removed = release(store, database, names=slots, last=last, encryption=encryption, now=datetime.now(tz=UTC))
    document = {"source": name, "slots": list(slots), "found": there, "removed": list(removed)}
    done = f"removed {', '.join(removed)}" if removed else f"found {', '.join(there) or 'no slot'}; removed nothing"
    session.output.result("wal", document, [f"{name}: {done}"])
    return 0


def _record_of(session: Session, name: str) -> tuple[SourcePolicy, ObjectStore, RunRecord | None]:
    """Return the store that has records of a source, which need not be in the policy any more."""
    first: tuple[SourcePolicy, ObjectStore, None] | None = None
    for source in session.policy.sources.values():
        connection = StoreConnection.from_spec(session.connection(source.store.connection))
        store = open_store(source, connection)
        record = newest_record(store, name)
        if record is not None:
            return source, store, record
        first = first or (source, store, None)
    if first is None:
        raise UnknownSourceError("the policy has no acceptable source, and so no store that has records")
    return first
