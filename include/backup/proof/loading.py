"""Load an archive into a scratch server, with as few rights as each part of it needs.

A restore runs the source users' code: a CHECK constraint of an ordinary role ran ``COPY … TO PROGRAM`` on the
restore host when a superuser restored it. So rows, constraints, indexes and refreshes are done by a role that is
no superuser; the superuser only makes the empty objects before any row is there, and what needs him after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.errors import CommandError, CommandKilledError, RestoreError, ScratchError
from include.backup.manifest import Manifest
from include.backup.postgres.commands import (
    pg_restore_command,
    psql_file_command,
)
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, TocEntry
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Runner
from include.backup.proof.gaps import Gaps, find_gaps
from include.backup.proof.globals import loadable_globals, superuser_statements
from include.backup.proof.scratch import ScratchRole, ScratchServer

# Post-data entries that only a superuser may make, and that run no code of other users when they are made.
ADMIN_ENTRIES = frozenset(
    {
        "ACL",
        "COMMENT",
        "DEFAULT ACL",
        "EVENT TRIGGER",
        "PUBLICATION",
        "PUBLICATION TABLE",
        "PUBLICATION TABLES IN SCHEMA",
        "SECURITY LABEL",
        "SUBSCRIPTION",
        "SUBSCRIPTION TABLE",
    }
)
MAINTENANCE_DATABASE = "template1"
OWN_LIMITS = ("No space left on device", "could not extend file", "out of memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A restored database; ``not_proven`` lists what the scratch server could not take."""

    database: str
    gaps: Gaps
    not_proven: tuple[str, ...]
    durations: dict[str, float]


class ScratchLoader:
    """One restore into one scratch server."""

    def __init__(self, *, scratch: ScratchServer, tools: PostgresTools, runner: Runner, dump: Path, jobs: int) -> None:
        self._scratch = scratch
        self._tools = tools
        self._runner = runner
        self._dump = dump
        self._jobs = jobs
        self._durations: dict[str, float] = {}

    def load(self, manifest: Manifest, toc: Toc, globals_sql: Path, *, log: Callable[[str], None]) -> Loaded:
        """Restore roles, database, objects, rows; raises RestoreError with pg_restore's own words."""
        database = manifest.dump.server.database
        roles = globals_sql.read_text()
        not_proven = []
        gaps = find_gaps(toc, available_extensions=self._available_extensions())
        entries = [entry for entry in toc.entries if entry.dump_id not in gaps.skipped]
        self._timed("roles", lambda: self._load_roles(roles))
        if not self._make_database(manifest, toc):
            not_proven.append(
                f"the database's locale {manifest.dump.server.collate} is not installed on the scratch server; "
                "it was restored with C.UTF-8"
            )
        self._timed("pre_data", lambda: self._pre_data(database, entries))
        log("objects made; loading rows")
        self._ownership("GRANT {} TO {}")
        self._timed("data", lambda: self._data(database, entries))
        log("rows loaded; making indexes and constraints")
        self._timed("post_data", lambda: self._post_data(database, entries))
        self._ownership("REVOKE {} FROM {}")
        self._admin_statements(superuser_statements(roles))
        self._special(database, entries)
        self._restore_properties(toc)
        return Loaded(database=database, gaps=gaps, not_proven=(*not_proven, *gaps.reasons), durations=self._durations)

    def _admin(self, database: str = MAINTENANCE_DATABASE) -> ScratchRole:
        return self._scratch.admin.on(database)

    def _timed(self, name: str, action: Callable[[], None]) -> None:
        started = time.monotonic()
        action()
        self._durations[name] = round(time.monotonic() - started, 3)

    def _available_extensions(self) -> frozenset[str]:
        with connect(self._admin(), settings={}) as connection:
            rows = connection.execute("SELECT name FROM pg_catalog.pg_available_extensions").fetchall()
        return frozenset(str(row["name"]) for row in rows)

    def _load_roles(self, text: str) -> None:
        script = self._dump.parent / "globals.loadable.sql"
        script.write_text(loadable_globals(text))
        try:
            command = psql_file_command(self._tools, self._admin(), script=script)
            self._blaming_archive(command, "the roles of globals.sql cannot be restored")
        finally:
            script.unlink()

    def _make_database(self, manifest: Manifest, toc: Toc) -> bool:
        """Make the database as it was; return False when its locale had to be replaced.

        Not by ``pg_restore --create``: whatever --use-list says, it also sets the database's properties, and
        those would change the restore's own sessions.
        """
        server = manifest.dump.server
        name, owner = sql.Identifier(server.database), sql.Identifier(server.owner)
        with connect(self._admin(), settings={}) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
            try:
                for entry in toc.entries:
                    if entry.desc == "DATABASE":
                        connection.execute(entry.definition.encode())
            except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue):
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C.UTF-8'").format(
                        name, sql.Literal(server.encoding)
                    )
                )
                return False
            finally:
                connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner))
        return True

    def _pre_data(self, database: str, entries: Sequence[TocEntry]) -> None:
        self._restore(database, entries, "--section=pre-data", "--no-tablespaces")

    def _ownership(self, statement: str) -> None:
        """Let the loader act as the owner of any table while it makes indexes and constraints, and no longer."""
        loader = sql.Identifier(self._scratch.loader.user)
        with connect(self._admin(), settings={}) as connection:
            roles = connection.execute(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper AND rolname <> %s",
                (self._scratch.loader.user,),
            ).fetchall()
            for row in roles:
                connection.execute(sql.SQL(statement).format(sql.Identifier(row["rolname"]), loader))

    def _data(self, database: str, entries: Sequence[TocEntry]) -> None:
        self._restore(database, entries, "--section=data", loader=True)

    def _post_data(self, database: str, entries: Sequence[TocEntry]) -> None:
        ordinary = [entry for entry in entries if entry.desc not in ADMIN_ENTRIES]
        self._restore(database, ordinary, "--section=post-data", "--no-tablespaces", "--no-owner", loader=True)

    def _special(self, database: str, entries: Sequence[TocEntry]) -> None:
        """Make what needs a superuser; by now the source's superusers are superusers again."""
        special = [entry for entry in entries if entry.desc in ADMIN_ENTRIES]
        self._restore(database, special, "--section=post-data")
        self._own_post_data(database, entries)

    def _own_post_data(self, database: str, entries: Sequence[TocEntry]) -> None:
        """Give extended statistics to their owners: pg_restore as an ordinary role leaves them its own."""
        statements = [
            sql.SQL("ALTER STATISTICS {}.{} OWNER TO {}").format(
                sql.Identifier(entry.namespace), sql.Identifier(entry.tag), sql.Identifier(entry.owner)
            )
            for entry in entries
            if entry.desc == "STATISTICS"
        ]
        if statements:
            with connect(self._admin(database), settings={}) as connection:
                for statement in statements:
                    connection.execute(statement)

    def _restore_properties(self, toc: Toc) -> None:
        """Restore the database's grants and comment, ALTER DATABASE … SET and the like, last."""
        definitions = [
            entry.definition.encode()
            for entry in toc.entries
            if entry.desc == "DATABASE PROPERTIES" or entry.tag.startswith("DATABASE ")
        ]
        with connect(self._admin(), settings={}) as connection:
            for definition in definitions:
                connection.execute(definition)

    def _admin_statements(self, statements: Iterable[str]) -> None:
        with connect(self._admin(), settings={}) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _restore(self, database: str, entries: Iterable[TocEntry], *options: str, loader: bool = False) -> None:
        endpoint = self._scratch.loader.on(database) if loader else self._admin(database)
        use_list = self._dump.parent / "restore.list"
        use_list.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
        command = pg_restore_command(
            self._tools,
            endpoint,
            dump=self._dump,
            jobs=1 if "--section=pre-data" in options else self._jobs,
            use_list=use_list,
            options=options,
        )
        self._blaming_archive(command, "the archive does not restore")

    def _blaming_archive(self, command: Command, finding: str) -> None:
        """Run a restore; what fails is a finding about the archive, but for a kill and for this machine's limits."""
        try:
            self._runner.run(command)
        except CommandKilledError:
            raise
        except CommandError as error:
            if any(text in str(error) for text in OWN_LIMITS):
                raise ScratchError(
                    f"the scratch server ran out of space: {error}; free space or set BACKUP_SCRATCH_DIR, then retry"
                ) from error
            raise RestoreError(f"{finding}: {error}") from error
