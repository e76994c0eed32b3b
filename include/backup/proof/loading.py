"""Load an archive into a scratch server, with as few rights as each part of it needs.

A restore runs the source users' code: a CHECK constraint of an ordinary role ran ``COPY … TO PROGRAM`` on the
restore host when a superuser restored it, and so did a default that is a constant of the role's domain, in a table
without rows. So whatever holds an expression is made by a role that is no superuser, while no restored role can
become one; ``makers`` says what is left for the superuser.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.errors import CommandError, CommandKilledError, RestoreError
from include.backup.manifest import Manifest
from include.backup.postgres.commands import (
    pg_restore_command,
    psql_file_command,
)
from include.backup.postgres.finishing import finish
from include.backup.postgres.foreign_keys import KEY_SETTINGS, add_unchecked, split_keys
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, TocEntry
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command, Runner
from include.backup.proof.gaps import Gaps, find_gaps
from include.backup.proof.globals import guarded_globals, released_statements
from include.backup.proof.makers import Makers, ServerLimits, assign_makers, is_property, owner_statements
from include.backup.proof.masking import findings
from include.backup.proof.own_faults import blaming_archive, run_on_scratch
from include.backup.proof.partial import is_partial, keys_to_absent_rows, rows_left_out
from include.backup.proof.scratch import ScratchRole, ScratchServer

MAINTENANCE_DATABASE = "template1"
SHOWN = 6


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
        """Restore roles, database, objects, rows.

        Raises RestoreError with PostgreSQL's own words, ScratchError when this machine failed.
        """
        with blaming_archive("the archive does not restore"):
            return self._load(manifest, toc, globals_sql, log=log)

    def make_objects(self, manifest: Manifest, toc: Toc, *, after: Collection[int]) -> Gaps:
        """Make all objects that come before the rows, and of those after them only ``after``; no rows, no grants.

        Roles are names only. Raises RestoreError with PostgreSQL's own words, ScratchError when this machine failed.
        """
        database = manifest.dump.server.database
        gaps = find_gaps(toc, available_extensions=self._available_extensions())
        entries = [entry for entry in toc.entries if entry.dump_id not in gaps.skipped]
        with blaming_archive("the archive's objects cannot be made"):
            names = {*manifest.dump.roles, *(entry.owner for entry in toc.entries if entry.owner)}
            self._admin_statements(
                MAINTENANCE_DATABASE,
                (
                    sql.SQL("CREATE ROLE {}").format(sql.Identifier(name))
                    for name in sorted(names)
                    if not name.startswith("pg_")
                ),
            )
            self._make_database(manifest, toc)
            makers = assign_makers(entries, self._limits())
            self._membership("GRANT {} TO {}")
            for by_superuser, run in makers.objects:
                if not by_superuser:
                    self._open_schemas(database)
                self._restore(database, run, "--no-tablespaces", loader=not by_superuser)
            wanted = [entry for entry in makers.indexes if entry.dump_id in after]
            self._restore(database, wanted, "--no-tablespaces", "--no-owner", loader=True)
        return gaps

    def _load(self, manifest: Manifest, toc: Toc, globals_sql: Path, *, log: Callable[[str], None]) -> Loaded:
        database = manifest.dump.server.database
        roles = globals_sql.read_text()
        not_proven = [rows_left_out(manifest)] if is_partial(manifest) else []
        gaps = find_gaps(
            toc,
            available_extensions=self._available_extensions(),
            absent_rows=keys_to_absent_rows(toc, manifest) if is_partial(manifest) else {},
        )
        entries = [entry for entry in toc.entries if entry.dump_id not in gaps.skipped]
        self._timed("roles", lambda: self._load_roles(roles))
        if not self._make_database(manifest, toc):
            not_proven.append(
                f"the database's locale {manifest.dump.server.collate} is not installed on the scratch server; "
                "it was restored with C.UTF-8"
            )
        makers = assign_makers(entries, self._limits())
        self._membership("GRANT {} TO {}")
        self._timed("pre_data", lambda: self._pre_data(database, makers))
        log("objects made; loading rows")
        self._timed("data", lambda: self._restore(database, makers.rows, loader=True, jobs=self._jobs))
        log("rows loaded; making indexes and constraints")
        self._timed("post_data", lambda: self._post_data(database, makers))
        self._membership("REVOKE {} FROM {}")
        self._admin_statements(MAINTENANCE_DATABASE, released_statements(roles))
        self._timed("last", lambda: self._last(database, entries, makers))
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
        script.write_text(guarded_globals(text))
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

    def _limits(self) -> ServerLimits:
        with connect(self._admin(), settings={}) as connection:
            languages = connection.execute(
                "SELECT lanname::text AS name FROM pg_catalog.pg_language WHERE lanpltrusted"
                " UNION SELECT name::text FROM pg_catalog.pg_available_extension_versions WHERE trusted"
            ).fetchall()
            settings = connection.execute("SELECT name FROM pg_catalog.pg_settings WHERE context <> 'user'").fetchall()
        return ServerLimits(
            languages=frozenset(str(row["name"]) for row in languages),
            superuser_settings=frozenset(str(row["name"]).lower() for row in settings),
        )

    def _membership(self, statement: str) -> None:
        """Let the loader act as any owner while it makes objects, indexes and constraints, and no longer."""
        loader = sql.Identifier(self._scratch.loader.user)
        with connect(self._admin(), settings={}) as connection:
            roles = connection.execute(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper AND rolname <> %s",
                (self._scratch.loader.user,),
            ).fetchall()
            for row in roles:
                connection.execute(sql.SQL(statement).format(sql.Identifier(row["rolname"]), loader))

    def _pre_data(self, database: str, makers: Makers) -> None:
        opened: set[str] = set()
        for by_superuser, entries in makers.objects:
            if not by_superuser:
                opened |= self._open_schemas(database)
            self._restore(database, entries, "--no-tablespaces", loader=not by_superuser)
        closing = (sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(sql.Identifier(name)) for name in opened)
        self._admin_statements(database, closing)
        self._restore(database, makers.grants)

    def _open_schemas(self, database: str) -> set[str]:
        """Let everybody make objects: an owner needs that in the schema of an object that is given to it."""
        with connect(self._admin(database), settings={}) as connection:
            rows = connection.execute(
                "SELECT nspname::text AS name FROM pg_catalog.pg_namespace"
                " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS ("
                "   SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner)))"
                "    WHERE grantee = 0 AND privilege_type = 'CREATE')"
            ).fetchall()
            for row in rows:
                connection.execute(sql.SQL("GRANT CREATE ON SCHEMA {} TO PUBLIC").format(sql.Identifier(row["name"])))
        return {str(row["name"]) for row in rows}

    def _post_data(self, database: str, makers: Makers) -> None:
        def make(entries: Sequence[TocEntry]) -> None:
            self._restore(database, entries, "--no-tablespaces", "--no-owner", loader=True, jobs=self._jobs)

        split = split_keys((*(entry for _, run in makers.objects for entry in run), *makers.indexes))
        make(split.first)
        loader = self._scratch.loader.on(database)
        with connect(loader, settings=KEY_SETTINGS) as session:
            keys, refused = add_unchecked(session, split.keys)
        finish(loader, jobs=self._jobs, keys=keys, statistics=False)
        make((*refused, *split.last))

    def _last(self, database: str, entries: Sequence[TocEntry], makers: Makers) -> None:
        """Make what needs a superuser; by now the source's superusers are superusers again.

        Event triggers come at the very end: no statement of ours may set one off.
        """
        self._restore(database, makers.last)
        self._admin_statements(
            database,
            (
                sql.SQL("ALTER {} {} OWNER TO {}").format(
                    sql.SQL(kind), sql.SQL(".").join(map(sql.Identifier, name)), sql.Identifier(owner)
                )
                for kind, name, owner in owner_statements(entries)
            ),
        )
        self._restore(database, makers.event_triggers)

    def _restore_properties(self, toc: Toc) -> None:
        """Restore the database's grants and comment, ALTER DATABASE … SET and the like, last."""
        properties = (entry.definition for entry in toc.entries if is_property(entry))
        self._admin_statements(MAINTENANCE_DATABASE, properties)

    def _admin_statements(self, database: str, statements: Iterable[str | sql.Composed]) -> None:
        with connect(self._admin(database), settings={}) as connection:
            for statement in statements:
                connection.execute(statement.encode() if isinstance(statement, str) else statement)

    def _restore(
        self, database: str, entries: Sequence[TocEntry], *options: str, loader: bool = False, jobs: int = 1
    ) -> None:
        """Make exactly these entries, as superuser or as the loader."""
        if not entries:
            return
        use_list = self._dump.parent / "restore.list"
        use_list.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
        command = pg_restore_command(
            self._tools,
            self._scratch.loader.on(database) if loader else self._admin(database),
            dump=self._dump,
            jobs=jobs,
            use_list=use_list,
            options=options,
        )
        self._blaming_archive(command, "the archive does not restore")

    def _blaming_archive(self, command: Command, finding: str) -> None:
        """Run a restore; what fails is a finding about the archive, but for a kill and for this machine's faults.

        The rest of the output, so the cause, stays out of the finding: it shows statements with their passwords.
        """
        said: list[str] = []
        try:
            run_on_scratch(
                self._runner, command, folder=self._dump.parent, on_line=lambda line: said.extend(findings(line))
            )
        except CommandKilledError:
            raise
        except CommandError:
            raise RestoreError(f"{finding}: {'; '.join(said[-SHOWN:]) or f'{command.name} failed'}") from None
