"""dump: read the source once, under one snapshot of pg_dump's own, into staging."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from include.backup.errors import CommandError, SourceLockedError, StagingFullError, TableRewrittenError
from include.backup.manifest import DumpFacts, Extension, ServerFacts, SnapshotFacts
from include.backup.not_carried import NotCarried, Seen, not_carried
from include.backup.postgres.commands import pattern, pg_dump_command, pg_dumpall_globals_command
from include.backup.postgres.lock import source_lock
from include.backup.postgres.session import connect, effective_settings, query
from include.backup.postgres.table_selection import TableSelection
from include.backup.postgres.toc import Toc, read_toc
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command
from include.backup.records import from_json, to_json
from include.backup.staging import FULL_DISK_BYTES, full_disk_named, make_durable
from include.backup.steps.context import StepContext
from include.backup.steps.preflight import selected_tables, tools_for

FACTS_FILE = "facts.json"
GLOBALS_FILE = "globals.sql"
DATA_FOLDER = "data"
SCHEMA_KIND = "schema"
FORMAT_VERSION = 1
REWRITE_ATTEMPTS = 3
PROGRESS_SECONDS = 10.0
_COPYING = "dumping contents of table"


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpReport:
    """What dump did; sizes in bytes."""

    backup_id: str
    reused: bool
    staged_bytes: int
    seconds: float
    snapshot_time: datetime
    lsn: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "snapshot_time": self.snapshot_time.isoformat()}

    def line(self) -> str:
        how = "was taken by an earlier try and is reused" if self.reused else "was taken"
        return (
            f"dump of {self.backup_id} {how}: {self.staged_bytes} bytes in {self.seconds:.1f} s, "
            f"data as of {self.snapshot_time:%Y-%m-%dT%H:%M:%SZ} (LSN >= {self.lsn})"
        )


def run(ctx: StepContext) -> DumpReport | None:
    """Dump the source, unless the store or staging already holds this backup's data."""
    if ctx.manifest_is_stored():
        ctx.log.info("%s is stored already; nothing is dumped", ctx.backup_id)
        return None
    with ctx.staging.locked():
        reused = ctx.staging.dump.is_dir()
        if not reused:
            _dump(ctx)
        facts = read_facts(ctx)
    return DumpReport(
        backup_id=ctx.backup_id,
        reused=reused,
        staged_bytes=folder_bytes(ctx.staging.dump),
        seconds=facts.seconds,
        snapshot_time=facts.snapshot.time,
        lsn=facts.snapshot.lsn_before,
    )


def read_facts(ctx: StepContext) -> DumpFacts:
    """Return the facts of the published dump; raises StagingMissingError."""
    content = ctx.staging.need(f"dump/{FACTS_FILE}", "dump")
    return from_json(DumpFacts, content, format_version=FORMAT_VERSION, name=str(ctx.staging.dump / FACTS_FILE))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _dump(ctx: StepContext) -> None:
    with (
        connect(ctx.database) as connection,
        source_lock(
            connection,
            ctx.source.name,
            wait_seconds=ctx.source.lock_wait_seconds,
            on_wait=lambda text: ctx.log.info("%s", text),
        ),
    ):
        for attempt in range(1, REWRITE_ATTEMPTS + 1):
            try:
                _attempt(ctx, connection)
            except TableRewrittenError as error:
                if attempt == REWRITE_ATTEMPTS:
                    raise
                ctx.log.warning("%s; dumping again (%d of %d)", error, attempt + 1, REWRITE_ATTEMPTS)
            else:
                return


def _attempt(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]]) -> None:
    folder = ctx.staging.new_try()
    server = query(connection, "server")[0]
    tools = tools_for(ctx, server["major"])
    roles = query(connection, "roles")[0]
    before = _lsn(connection, in_recovery=server["in_recovery"])
    snapshot_time = connection.execute("SELECT clock_timestamp() AS now").fetchall()[0]["now"]
    watch = None if ctx.kind == SCHEMA_KIND else _RewriteWatch(connection)
    globals_command = pg_dumpall_globals_command(
        tools, ctx.database, target=folder / GLOBALS_FILE, role_passwords=roles["passwords_readable"]
    )
    _run(ctx, globals_command)
    started = time.monotonic()
    progress = _Progress(ctx, watch)
    selection = selected_tables(ctx, connection)
    _run(ctx, _pg_dump(ctx, tools, folder, server["encoding"], selection), on_line=progress.line)
    if watch is not None:
        watch.finish()
    toc = read_toc((folder / DATA_FOLDER / "toc.dat").read_bytes())
    _check_selection(toc, selection)
    facts = DumpFacts(
        snapshot=SnapshotFacts(
            time=snapshot_time,
            lsn_before=before,
            lsn_after=_lsn(connection, in_recovery=server["in_recovery"]),
        ),
        server=server_facts(connection, server),
        pg_dump_version=tools.version,
        session=effective_settings(connection),
        extensions=tuple(_of_dump(toc, extensions(connection))),
        roles=tuple(roles["roles"]),
        role_passwords=roles["passwords_readable"],
        invalid_indexes=tuple(row["name"] for row in query(connection, "invalid_indexes")),
        seconds=round(time.monotonic() - started, 3),
        tables=() if selection is None else tuple(map(str, selection.tables)),
        not_carried=_not_carried(ctx, connection, roles),
    )
    (folder / FACTS_FILE).write_bytes(to_json(facts, format_version=FORMAT_VERSION))
    with full_disk_named(folder):
        make_durable(folder)
    folder.rename(ctx.staging.dump)


def _of_dump(toc: Toc, found: Iterable[Extension]) -> Iterator[Extension]:
    """Yield the extensions of the dump: one that was made after its snapshot is not in it.

    It does not name plpgsql, which every new database has.
    """
    dumped = {"plpgsql", *(entry.tag for entry in toc.entries if entry.desc == "EXTENSION")}
    return (extension for extension in found if extension.name in dumped)


def _not_carried(
    ctx: StepContext, connection: psycopg.Connection[dict[str, Any]], roles: Mapping[str, Any]
) -> tuple[NotCarried, ...]:
    found = query(connection, "not_carried")[0]
    seen = Seen(roles=roles["roles"], role_passwords=roles["passwords_readable"], **found)
    return not_carried(ctx.source, seen)


def _selection_options(selection: TableSelection | None) -> tuple[str, ...]:
    """Return pg_dump's options for some tables' rows with the whole schema: types, functions and keys they need."""
    if selection is None:
        return ()
    left_out = (f"--exclude-table-data={pattern(name.schema, name.name)}" for name in selection.without_data)
    return ("--no-blobs", *left_out)


def _check_selection(toc: Toc, selection: TableSelection | None) -> None:
    """Raise TableRewrittenError when a table was dropped, renamed or made while pg_dump took its snapshot."""
    if selection is None:
        return
    changes = list(selection.differences(toc))
    if changes:
        raise TableRewrittenError(f"{'; '.join(changes[:10])} while the dump began")


def _pg_dump(
    ctx: StepContext, tools: PostgresTools, folder: Path, encoding: str, selection: TableSelection | None
) -> Command:
    return pg_dump_command(
        tools,
        ctx.database,
        target=folder / DATA_FOLDER,
        jobs=ctx.source.jobs,
        compression_level=ctx.source.compression_level,
        lock_timeout_seconds=ctx.source.lock_timeout_seconds,
        encoding=encoding,
        excluded_schemas=ctx.source.excluded_schemas,
        excluded_tables=ctx.source.excluded_tables,
        options=("--schema-only",) if ctx.kind == SCHEMA_KIND else _selection_options(selection),
    )


def _run(ctx: StepContext, command: Command, *, on_line: Any = None) -> None:
    try:
        ctx.runner.run(command, on_line=on_line)
    except CommandError as error:
        text = str(error)
        # pg_dump does not always say so: closing a compressed file may fail with "Success".
        if "No space left on device" in text or ctx.staging.free_bytes() < FULL_DISK_BYTES:
            raise StagingFullError(
                f"the disk of {ctx.staging.path} became full during {command.name}; free space or set "
                "BACKUP_STAGING_DIR to a larger disk, then retry"
            ) from error
        if "timeout" in text and "LOCK TABLE" in text:
            raise SourceLockedError(
                f"pg_dump could not lock every table within {ctx.source.lock_timeout_seconds} s; "
                f"look for a long ALTER or VACUUM FULL, then retry: {text}"
            ) from error
        raise


class _RewriteWatch:
    """Notices a name whose table or file is another when pg_dump holds its locks than before it started.

    A TRUNCATE that commits after pg_dump's snapshot and before its lock makes the table look empty in the snapshot,
    with exit code 0. So does another table that is renamed into its place: pg_dump finds tables by their oids, and
    locks and reads them by their names. Once pg_dump copies, it holds its locks and neither can happen.
    """

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection
        self._before = self._files()
        self._checked = False

    def locks_are_held(self) -> None:
        if self._checked:
            return
        self._checked = True
        now = self._files()
        changed = sorted(name for name in self._before.keys() & now.keys() if self._before[name] != now[name])
        if changed:
            raise TableRewrittenError(
                f"{', '.join(changed[:10])} was truncated, rewritten or replaced while the dump began, so that it may "
                "look empty in the dump"
            )

    def finish(self) -> None:
        """Check a database without table data, of which pg_dump never says that it copies."""
        self.locks_are_held()

    def _files(self) -> dict[str, tuple[int, int]]:
        return {row["name"]: (row["oid"], row["filenode"]) for row in query(self._connection, "relation_files")}


class _Progress:
    """Turns pg_dump's messages into a log line per table, but at most one in some seconds."""

    def __init__(self, ctx: StepContext, watch: _RewriteWatch | None) -> None:
        self._ctx = ctx
        self._watch = watch
        self._tables = 0
        self._next = time.monotonic()

    def line(self, text: str) -> None:
        if _COPYING not in text:
            if "warning" in text or "error" in text:
                self._ctx.log.warning("%s", text)
            return
        if self._watch is not None:
            self._watch.locks_are_held()
        self._tables += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_SECONDS
            name = text.split(_COPYING, 1)[1].strip(' "')
            self._ctx.log.info("reading table %d: %s", self._tables, name)


def server_facts(connection: psycopg.Connection[dict[str, Any]], server: Mapping[str, Any]) -> ServerFacts:
    """Return the source server and database as the manifest records them; ``server`` is what server.sql says."""
    return ServerFacts(
        version=server["version"],
        major=server["major"],
        system_identifier=_system_identifier(connection),
        database=server["database"],
        owner=server["owner"],
        encoding=server["encoding"],
        locale_provider=server["locale_provider"],
        collate=server["collate"],
        ctype=server["ctype"],
        collation_version=server["collation_version"],
        other_databases=tuple(server["other_databases"]),
    )


def extensions(connection: psycopg.Connection[dict[str, Any]]) -> tuple[Extension, ...]:
    """Return the extensions of the session's database."""
    return tuple(
        Extension(name=row["name"], version=row["version"], schema=row["schema"], conditions=row["conditions"])
        for row in query(connection, "extensions")
    )


def _system_identifier(connection: psycopg.Connection[dict[str, Any]]) -> str | None:
    try:
        row = connection.execute("SELECT system_identifier::text AS id FROM pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return row["id"] if row else None


def _lsn(connection: psycopg.Connection[dict[str, Any]], *, in_recovery: bool) -> str:
    function = "pg_last_wal_replay_lsn" if in_recovery else "pg_current_wal_insert_lsn"
    row = connection.execute(f"SELECT {function}()::text AS lsn").fetchone()
    return str(row["lsn"]) if row else ""
