"""Make tables of an archive in a schema of their own, beside what is there.

The archive's text is run by a role that is made for it and can do nothing else: neither its constraints nor its
index expressions get the rights of whoever restores. What comes out belongs to no superuser either, since
PostgreSQL's own maintenance runs index expressions as the owner.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.archive.reader import ArchiveReader
from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    CommandError,
    CommandKilledError,
    RestoreDiffersError,
    RestoreError,
    RestoreRefusedError,
    SourceError,
    TargetFullError,
)
from include.backup.manifest import Manifest
from include.backup.postgres.commands import psql_file_command
from include.backup.postgres.session import connect
from include.backup.postgres.toc import parse_copy
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.proof.digest import LineDigest, MultisetDigest
from include.backup.proof.masking import findings
from include.backup.restore.progress import Counter
from include.backup.restore.tables import TableLoader, TableTask, loading_settings
from include.backup.restore.target import NO_SPACE, Target, TargetFacts, disk_full
from include.backup.table_restore.blueprint import Scripts
from include.backup.table_restore.catalog import Session
from include.backup.table_restore.names import ChosenTable, TableName, parse_table_name
from include.backup.table_restore.refusals import full, said
from include.backup.table_restore.sql_parts import names

ROLE_PREFIX = "pulse_restore_"
ROLE_DAYS = 2
SHOWN_FINDINGS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One restore of tables into a new schema."""

    target: Target
    facts: TargetFacts
    manifest: Manifest
    tables: Sequence[ChosenTable]
    scripts: Scripts
    reader: ArchiveReader
    jobs: int
    now: datetime

    def make(self, *, runner: Runner, counter: Counter, work_root: Path) -> str:
        """Make the schema with its tables and rows; return who owns it. On a failure it is gone again.

        Raises RestoreRefusedError when the target cannot take the definitions, RestoreDiffersError when what was
        loaded is not what was dumped.
        """
        work_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with connect(self.target.endpoint, settings={}) as admin, self._worker(admin) as worker:
            with tempfile.TemporaryDirectory(dir=work_root, prefix="tables-") as folder:
                self._script(worker, Path(folder), self.scripts.before_rows, runner)
                expected = self._load(worker, counter)
                self._script(worker, Path(folder), self.scripts.after_rows, runner)
            with connect(worker, settings=loading_settings(self.manifest)) as session:
                self._finish(session, expected)
            log.info("every row in %s is as it was dumped", self.scripts.schema)
            return self._hand_over(admin, worker.user)

    @contextmanager
    def _worker(self, admin: Session) -> Iterator[DatabaseConnection]:
        """Give a role that owns the new, empty schema; take both away when the restore does not get to the end."""
        own = self._may_part(admin)
        worker = self._new_role(admin) if own else self.target.endpoint
        made = False
        try:
            self._new_schema(admin, worker.user)
            made = True
            if own:
                self._let_in(admin, worker.user)
            yield worker
        except BaseException:
            self._remove(admin, worker.user if own else None, schema=made)
            raise

    def _may_part(self, admin: Session) -> bool:
        """Say whether a role of its own can be made for the archive's code, and can be let in to what that names."""
        if self.facts.is_superuser or not self.facts.may_create_role:
            return self.facts.is_superuser
        for name in self._schemas_in_use(admin):
            row = admin.execute(
                "SELECT pg_catalog.has_schema_privilege(%s, 'USAGE WITH GRANT OPTION') AS may", (name,)
            ).fetchone()
            if row is None or not row["may"]:
                log.warning("%s may let nobody into the schema %s: the backup's code runs as it", self.facts.role, name)
                return False
        return True

    def _new_role(self, admin: Session) -> DatabaseConnection:
        name, password = f"{ROLE_PREFIX}{secrets.token_hex(4)}", secrets.token_urlsafe(24)
        # The server's log may show statements: it gets what a password is checked with, not the password.
        verifier = admin.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        _run(
            admin,
            "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {} VALID UNTIL {}",
            sql.Identifier(name),
            sql.Literal(verifier),
            sql.Literal((self.now + timedelta(days=ROLE_DAYS)).isoformat()),
        )
        if not self.facts.is_superuser:
            _run(admin, "GRANT {} TO CURRENT_USER", sql.Identifier(name))
        return replace(self.target.endpoint, user=name, password=Secret(password))

    def _new_schema(self, admin: Session, role: str) -> None:
        schema = sql.Identifier(self.scripts.schema)
        try:
            _run(admin, "CREATE SCHEMA {} AUTHORIZATION {}", schema, sql.Identifier(role))
        except psycopg.errors.DuplicateSchema:
            raise RestoreRefusedError(
                f"{self.target.describe()} has a schema {self.scripts.schema} already; look what is in it, then drop "
                "it or give another name"
            ) from None
        except psycopg.errors.DiskFull as error:
            raise full(error, f"the schema {self.scripts.schema}") from None
        except psycopg.Error as error:
            raise RestoreRefusedError(f"the schema cannot be made: {said(error)}; use another role") from None

    def _let_in(self, admin: Session, role: str) -> None:
        """Let the role connect and see what the definitions name, as far as this session may grant that."""
        who = sql.Identifier(role)
        grants = [sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(self.target.database), who)]
        for name in self._schemas_in_use(admin):
            grants.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(name), who))
        for grant in grants:
            with suppress(psycopg.errors.InsufficientPrivilege):  # who needs it is told by PostgreSQL itself
                admin.execute(grant)

    def _schemas_in_use(self, admin: Session) -> list[str]:
        """Return where the definitions may look for types and functions."""
        rows = admin.execute(
            "SELECT n.nspname::text AS name FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_'"
            " AND n.nspname <> 'information_schema' AND n.nspname <> 'public'"
        ).fetchall()
        return [row["name"] for row in rows if f"{row['name']}." in self.scripts.before_rows + self.scripts.after_rows]

    def _script(self, worker: DatabaseConnection, folder: Path, text: str, runner: Runner) -> None:
        script = folder / "script.sql"
        script.write_text(text)
        found: list[str] = []
        command = psql_file_command(find_tools(self.facts.major), worker, script=script)
        try:
            runner.run(command, on_line=lambda line: found.extend(findings(line)))
        except CommandKilledError:
            raise
        except CommandError:
            # The rest of the output stays out: it may show statements with their values.
            text = "; ".join(found[:SHOWN_FINDINGS]) or "psql failed"
            if NO_SPACE in text:
                raise TargetFullError(disk_full(f"the schema {self.scripts.schema}", text)) from None
            raise RestoreRefusedError(
                f"{self.target.describe()} cannot take these definitions as they were: {text}; nothing was left there, "
                "restore the whole backup into a database beside it"
            ) from None

    def _load(self, worker: DatabaseConnection, counter: Counter) -> dict[str, MultisetDigest]:
        tasks, digests = list(self._tasks()), dict[str, MultisetDigest]()
        loader = TableLoader(
            reader=self.reader,
            endpoint=worker,
            manifest=self.manifest,
            tasks=tasks,
            jobs=self.jobs,
            counter=counter,
            digests=digests,
        )
        with loader.loading() as loaded:
            loaded.result()
        expected: dict[str, MultisetDigest] = {}
        for task in tasks:
            total = expected.get(task.target, MultisetDigest(0, 0))
            expected[task.target] = total + digests[task.member.name]
        return expected

    def _tasks(self) -> Iterator[TableTask]:
        for table in self.tables:
            for member in table.members:
                if member.table_data is not None:
                    _, name = parse_table_name(parse_copy(member.table_data.copy_statement).relation)
                    relation = TableName(schema=self.scripts.schema, table=name).quoted
                    yield TableTask(member=member, table=member.table_data, freeze=False, relation=relation)

    def _finish(self, session: Session, expected: dict[str, MultisetDigest]) -> None:
        try:
            for sequence in self.scripts.sequences:
                session.execute(
                    "SELECT pg_catalog.setval(%s::regclass, %s, %s)",
                    (sequence.name, sequence.value.value, sequence.value.is_called),
                )
            for task in self._tasks():
                if task.target in expected:
                    self._compare(session, task, expected.pop(task.target))
        except psycopg.errors.DiskFull as error:
            raise full(error, f"the schema {self.scripts.schema}") from None
        except psycopg.Error as error:
            raise RestoreError(f"the restored tables cannot be read back: {said(error)}") from None

    def _compare(self, session: Session, task: TableTask, wanted: MultisetDigest) -> None:
        columns = next(table.columns for table in self.tables if task.member in table.members)
        _, name = parse_table_name(task.target)
        relation = sql.Identifier(self.scripts.schema, name)
        session.execute(sql.SQL("ANALYZE {}").format(relation))
        digest = LineDigest()
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(names(columns), relation)
        with session.cursor().copy(query) as copy:
            for chunk in copy:
                digest.add(bytes(chunk))
        if digest.result() != wanted:
            raise RestoreDiffersError(
                f"{task.table.schema}.{task.table.table} came back with {digest.result().rows} rows that are not the "
                f"{wanted.rows} of {self.manifest.backup_id}; it was removed again, report this"
            )

    def _hand_over(self, admin: Session, role: str) -> str:
        """Give the schema to who owned the table, if that is an ordinary role here; else its maker keeps it, locked."""
        if role == self.facts.role:
            return role
        owner = self._owner(admin)
        own = sql.Identifier(role)
        if owner is None:
            _run(admin, "ALTER ROLE {} NOLOGIN PASSWORD NULL", own)
            return role
        _run(admin, "GRANT ALL ON SCHEMA {} TO {}", sql.Identifier(self.scripts.schema), sql.Identifier(owner))
        _run(admin, "REASSIGN OWNED BY {} TO {}", own, sql.Identifier(owner))
        _run(admin, "DROP OWNED BY {}", own)
        _run(admin, "DROP ROLE {}", own)
        return owner

    def _owner(self, admin: Session) -> str | None:
        row = admin.execute(
            "SELECT r.rolname::text AS name FROM pg_catalog.pg_roles r WHERE NOT r.rolsuper"
            " AND r.rolname IN (%s, current_user) AND pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')"
            " ORDER BY r.rolname = current_user LIMIT 1",
            (self.tables[0].entry.owner,),
        ).fetchone()
        return None if row is None else str(row["name"])

    def _remove(self, admin: Session, role: str | None, *, schema: bool) -> None:
        """Take away what this restore has made; it is new, so that nothing else hangs on it."""
        try:
            if schema:
                _run(admin, "DROP SCHEMA {} CASCADE", sql.Identifier(self.scripts.schema))
            if role is not None:
                _run(admin, "DROP OWNED BY {}", sql.Identifier(role))
                _run(admin, "DROP ROLE {}", sql.Identifier(role))
        except (psycopg.Error, SourceError) as error:
            log.warning("%s and its role %s are left and can be dropped: %s", self.scripts.schema, role, error)


def _run(session: Session, statement: str, *parts: sql.Composable) -> None:
    session.execute(sql.SQL(statement).format(*parts))
