"""Restore schemas into the database that is there, in one transaction: for where databases cannot be renamed.

pg_restore drops and makes anew what the archive has of these schemas, and nothing else. Whatever stands in the way (an
object of another schema that hangs on them, a lock that somebody holds) rolls everything back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import psycopg

from include.backup.approval import Approval
from include.backup.archive.reader import ArchiveReader, member_path, unpack_for_old_pg_restore
from include.backup.errors import (
    CommandError,
    CommandKilledError,
    RestoreDiffersError,
    RestoreError,
    RestoreRefusedError,
    SourceError,
    TargetFullError,
)
from include.backup.in_use import reading
from include.backup.manifest import Manifest
from include.backup.postgres.commands import ZSTD_SINCE, pg_restore_command
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, TocEntry, read_toc
from include.backup.postgres.tools import PostgresTools
from include.backup.proof.large_objects import archived_large_objects
from include.backup.proof.masking import findings
from include.backup.restore.compare import RestoreComparer
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination
from include.backup.restore.loaded import Loaded, keep_begun, keep_loaded, read_loaded
from include.backup.restore.order import RestoreOrder, Strategy
from include.backup.restore.plan import TOC_MEMBER, tools_for_target
from include.backup.restore.progress import Progress
from include.backup.restore.safety import require_safety_backup
from include.backup.restore.survey import database_facts
from include.backup.restore.target import NO_SPACE, Target, disk_full, shown
from include.backup.restore.target_lock import target_lock
from include.backup.restore.unsaved import check_unsaved
from include.backup.restore.work import read_backup, record_restore
from include.backup.restore.work_folder import work_folder

# Somebody's open transaction ends the restore, not the other way round. pg_restore sets lock_timeout to 0 itself.
LOCK_SECONDS = 30.0
POLL_SECONDS = 0.5
_WAITING = (
    "SELECT l.pid, pg_catalog.pg_blocking_pids(l.pid) AS blockers FROM pg_catalog.pg_locks l"
    " JOIN pg_catalog.pg_stat_activity a USING (pid)"
    " WHERE NOT l.granted AND a.datname = %s AND a.application_name = %s"
    "   AND l.waitstart < clock_timestamp() - make_interval(secs => %s)"
)
NOT_OF_A_SCHEMA = frozenset({"DATABASE", "DATABASE PROPERTIES", "EXTENSION", "EVENT TRIGGER", "SUBSCRIPTION"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceReport:
    """What was restored in place.

    ``unsaved`` is what was written after the safety backup, and given up; ``large_objects_left`` only the backup has.
    """

    schemas: tuple[str, ...]
    tables: int
    rows: int
    unsaved: tuple[str, ...] = ()
    large_objects_left: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    def line(self) -> str:
        lost = f"; given up, since no copy has it: {shown(self.unsaved)}" if self.unsaved else ""
        if self.large_objects_left:
            lost += f"; {self.large_objects_left} large objects of the backup were neither restored nor compared"
        return (
            f"the schemas {', '.join(self.schemas)} were dropped and made anew in one transaction: "
            f"{self.tables} tables, {self.rows} rows, every row identical{lost}"
        )


def own_schemas(toc: Toc, *, may_own: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the schemas of an archive all of whose objects belong to roles that ``may_own`` is true of.

    A provider's schemas belong to roles of its own; they stay as they are.
    """
    owners: dict[str, set[str]] = {}
    for entry in toc.entries:
        schema = entry.tag if entry.desc == "SCHEMA" else entry.namespace
        if schema and entry.owner and entry.desc not in NOT_OF_A_SCHEMA:
            owners.setdefault(schema, set()).add(entry.owner)
    return tuple(sorted(schema for schema, roles in owners.items() if all(may_own(role) for role in roles)))


def entries_of(toc: Toc, schemas: tuple[str, ...]) -> Iterator[TocEntry]:
    """Yield what the archive has of these schemas."""
    for entry in toc.entries:
        schema = entry.tag if entry.desc == "SCHEMA" else entry.namespace
        if schema in schemas and entry.desc not in NOT_OF_A_SCHEMA:
            yield entry


def part_of(manifest: Manifest, schemas: tuple[str, ...]) -> Manifest:
    """Return a manifest that speaks of these schemas' rows only."""
    members = tuple(
        member for member in manifest.members if member.table_data is not None and member.table_data.schema in schemas
    )
    return replace(manifest, members=members)


def restore_in_place(
    ctx: RestoreContext,
    order: RestoreOrder,
    seal: str,
    *,
    approve: Callable[[], Approval],
    progress: Progress,
) -> InPlaceReport:
    """Drop and make anew the order's schemas; raises RestoreError when it could not: then nothing was changed.

    Raises RestoreDiffersError when what is there afterwards is not what was dumped.
    """
    destination = ctx.destination(order)
    if order.strategy is not Strategy.IN_PLACE or order.dry_run or order.target is None:
        raise RestoreRefusedError(f"order {seal} asks for nothing in place; nothing was changed")
    loaded = read_loaded(ctx, order, seal)
    approval = _approved(order, destination, seal, approve) if loaded is None else loaded.approval
    target = Target(destination.connection, database=order.database)
    with target_lock(destination.connection, order.database, holder=ctx.holder) as session, ExitStack() as stack:
        facts = database_facts(session, order.database)
        if facts is None or facts.oid != order.target.oid:
            raise RestoreRefusedError(f"{order.database} is another database than the preview saw; trigger a new run")
        manifest, _ = read_backup(ctx, order)
        stack.enter_context(reading(ctx.store, manifest, what=f"a restore into {target.describe()}", clock=ctx.clock))
        reader = ArchiveReader(ctx.store, manifest)
        toc = read_toc(reader.read(TOC_MEMBER))
        tools = tools_for_target(manifest, target.inspect())
        if loaded is None:
            require_safety_backup(ctx, destination)
            check_unsaved(ctx, order, destination.connection, entries_of(toc, order.schemas))
            lost = _load(ctx, order, seal, manifest, toc, tools)
            loaded = Loaded(seal=seal, approval=approval, unsaved=lost)
            keep_loaded(ctx, order, loaded)
        else:
            ctx.log.info("an earlier try has loaded %s; it is compared", order.backup_id)
        unanalyzed = _analyze(ctx, target)
        part = part_of(manifest, order.schemas)
        found = RestoreComparer(
            target=target,
            manifest=part,
            toc=replace(toc, entries=tuple(entries_of(toc, order.schemas))),
            reader=reader,
            tools=tools,
            jobs=ctx.jobs,
        ).compare(runner=ctx.runner, progress=progress)
    rows = [difference for difference in found.differences if difference.what != "large object"]
    if rows:
        raise RestoreDiffersError(
            f"{target.describe()} differs from what was dumped: {shown([str(row) for row in rows])}; restore the "
            "safety backup of this run"
        )
    report = InPlaceReport(
        schemas=order.schemas,
        tables=found.tables,
        rows=found.rows,
        unsaved=loaded.unsaved,
        large_objects_left=len(archived_large_objects(manifest)),
    )
    record_restore(ctx, order, {**report.to_dict(), **({} if approval is None else approval.to_dict())})
    if unanalyzed is not None:
        raise unanalyzed
    return report


def _approved(
    order: RestoreOrder, destination: Destination, seal: str, approve: Callable[[], Approval]
) -> Approval | None:
    """Return the yes to exactly this order, where it needs one; what is loaded needs none again."""
    approval = approve() if order.needs_approval or destination.production else None
    if approval is not None:
        approval.require(seal)
    return approval


def _analyze(ctx: RestoreContext, target: Target) -> RestoreError | None:
    """Analyze what is production by now; a failure is told after the comparison, which matters more."""
    try:
        target.analyze(jobs=ctx.jobs)
    except RestoreError as error:
        ctx.log.warning("%s; what was restored is compared all the same", error)
        return error
    return None


@contextmanager
def _never_waiting_long(target: Target, said: list[str], log: logging.Logger) -> Iterator[None]:
    """Cancel the restore's session when it has waited too long for a lock, and say who holds it.

    Who cannot watch does not begin. A session that is lost later is replaced: what it watches may have committed.
    """
    ended = threading.Event()
    first = connect(target.connection, settings={})

    def watch() -> None:
        session, lost = first, False
        while not ended.wait(POLL_SECONDS):
            try:
                if session.closed:
                    session = connect(target.connection, settings={})
                _cancel_long_waits(session, target, said)
                lost = False
            except (psycopg.Error, SourceError) as error:
                session.close()
                if not lost:
                    log.warning("nobody watches for how long the restore waits for locks: %s; trying again", error)
                lost = True
        session.close()

    with first, ThreadPoolExecutor(1, thread_name_prefix="locks") as pool:
        _cancel_long_waits(first, target, said)
        watching = pool.submit(watch)
        try:
            yield
        finally:
            ended.set()
            watching.result()


def _cancel_long_waits(session: psycopg.Connection[dict[str, Any]], target: Target, said: list[str]) -> None:
    parameters = (target.database, target.connection.application_name, LOCK_SECONDS)
    for row in session.execute(_WAITING, parameters).fetchall():
        blockers = ", ".join(str(pid) for pid in row["blockers"])
        said.append(f"a lock was not to be had in {LOCK_SECONDS:.0f} s, held by the sessions {blockers}")
        session.execute("SELECT pg_cancel_backend(%s)", (row["pid"],))


def _load(
    ctx: RestoreContext, order: RestoreOrder, seal: str, manifest: Manifest, toc: Toc, tools: PostgresTools
) -> tuple[str, ...]:
    """Drop and make anew in one transaction; return what was written since the safety backup began, and given up."""
    target = Target(ctx.destination(order).connection, database=order.database)
    reader = ArchiveReader(ctx.store, manifest)
    entries = list(entries_of(toc, order.schemas))
    names = [TOC_MEMBER, *(member.name for member in part_of(manifest, order.schemas).members)]
    needed = sum(manifest.member(name).stored_length for name in names)
    with work_folder(ctx.staging_root, needed_bytes=needed) as folder:
        reader.fetch(names, folder)
        dump = member_path(folder, TOC_MEMBER).parent
        if tools.major < ZSTD_SINCE:
            unpack_for_old_pg_restore(dump)
        chosen = folder / "in_place.list"
        chosen.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
        command = pg_restore_command(
            tools,
            target.endpoint,
            dump=dump,
            jobs=1,
            use_list=chosen,
            options=("--single-transaction", "--clean", "--if-exists", "--no-tablespaces"),
        )
        said: list[str] = []
        # Once more: to fetch the archive may have taken hours.
        lost = check_unsaved(ctx, order, target.connection, entries)
        keep_begun(ctx, order, seal)
        try:
            with _never_waiting_long(target, said, ctx.log):
                ctx.runner.run(command, on_line=lambda text: said.extend(findings(text)))
        except CommandKilledError:
            raise
        except CommandError as error:
            text = "; ".join(said[:3]) or str(error).partition(":")[0]
            if NO_SPACE in text:
                raise TargetFullError(f"{disk_full(order.backup_id, text)}; it was rolled back") from None
            raise RestoreError(
                f"{order.backup_id} does not restore in place: {text}; it was rolled back, nothing was changed"
            ) from None
    return lost
