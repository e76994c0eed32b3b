"""The database that a restore fills: looked at first, made, and taken away again when the restore fails."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from include.backup.connections import DatabaseConnection
from include.backup.errors import ParameterError, RestoreError, RestoreRefusedError, TargetFullError
from include.backup.manifest import Manifest
from include.backup.postgres.finishing import finish
from include.backup.postgres.session import connect, query
from include.backup.postgres.toc import Toc
from include.backup.restore.statements import create_database_statement, database_properties

# PostgreSQL cuts a longer name without a word, so that the wrong database would be looked at.
LONGEST_NAME_BYTES = 63
RESERVED = ("template0", "template1")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
SHOWN = 5
NO_SPACE = "No space left on device"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What a server says of itself and of the database by the target's name; ``encoding`` None: not there."""

    version: str
    major: int
    role: str
    is_superuser: bool
    may_create_database: bool
    may_create_role: bool
    in_recovery: bool
    system_identifier: str | None
    roles: frozenset[str]
    extensions: frozenset[str]
    encoding: str | None
    objects: tuple[str, ...]

    @property
    def exists(self) -> bool:
        return self.encoding is not None


class Target:
    """One database of one server; ``connection`` leads to any other database of it."""

    def __init__(self, connection: DatabaseConnection, *, database: str) -> None:
        check_database_name(database)
        self.connection = connection
        self.database = database

    @property
    def endpoint(self) -> DatabaseConnection:
        """How to reach the target itself."""
        return replace(self.connection, dbname=self.database)

    def describe(self) -> str:
        return f"{self.database} on {self.connection.host}:{self.connection.port}"

    def inspect(self) -> TargetFacts:
        """Return what is there; raises SourceUnreachableError, SourceLoginError or SourceTlsError."""
        with connect(self.connection, settings={}) as session:
            row = query(session, "restore_target", {"database": self.database})[0]
            identifier = _system_identifier(session)
        return TargetFacts(
            **{name: row[name] for name in ("version", "major", "role", "in_recovery", "encoding")},
            **{name: row[name] for name in ("is_superuser", "may_create_database", "may_create_role")},
            system_identifier=identifier,
            roles=frozenset(row["roles"]),
            extensions=frozenset(row["extensions"]),
            objects=() if row["encoding"] is None else self._objects(),
        )

    def create(self, toc: Toc) -> None:
        """Make the database as the archive's was, but for its name, owner and settings."""
        try:
            with connect(self.connection, settings={}) as session:
                session.execute(create_database_statement(toc, name=self.database))
        except psycopg.errors.DuplicateDatabase as error:
            raise RestoreRefusedError(f"{self.describe()} was made by somebody else meanwhile; look who") from error
        except psycopg.errors.DiskFull as error:
            raise TargetFullError(disk_full(self.describe(), _one_line(error))) from error
        except psycopg.Error as error:
            raise RestoreRefusedError(
                f"{self.describe()} cannot be made as the archive's database was: {_one_line(error)}; "
                "make it by hand, empty, and leave --create out"
            ) from error

    def drop(self) -> None:
        """Remove the database with everything in it; only for one that this restore has made."""
        with connect(self.connection, settings={}) as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.database)))

    def make_roles(self, statements: Iterable[str]) -> None:
        """Run statements on roles, all or none; raises RestoreRefusedError with the server's words."""
        try:
            with connect(self.connection, settings={}) as session, session.transaction():
                for statement in statements:
                    session.execute(statement.encode())
        except psycopg.Error as error:
            raise RestoreRefusedError(f"the roles cannot be made as this role: {_one_line(error)}") from error

    def set_properties(self, toc: Toc, manifest: Manifest) -> tuple[str, ...]:
        """Give the new database the owner, grants, comment and settings of the old one; return what it refused."""
        server = manifest.dump.server
        properties = database_properties(toc, source=server.database, name=self.database)
        name, owner = sql.Identifier(self.database), sql.Identifier(server.owner)
        refused = [f"{statement} (left out: it is not about the database)" for statement in properties.left_out]
        with connect(self.endpoint, settings={}) as session:
            statements: list[sql.Composed | bytes] = [text.encode() for text in properties.statements]
            for statement in (*statements, sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, owner)):
                try:
                    session.execute(statement)
                except psycopg.Error as error:
                    refused.append(f"{_text(statement)} ({_one_line(error)})")
        return tuple(refused)

    def analyze(self, *, jobs: int) -> None:
        """Give the planner its statistics: a restore brings none."""
        try:
            finish(self.endpoint, jobs=jobs)
        except psycopg.Error as error:
            raise RestoreError(f"ANALYZE of {self.describe()} failed: {_one_line(error)}; run it again") from error

    def _objects(self) -> tuple[str, ...]:
        with connect(self.endpoint, settings={}) as session:
            return tuple(f"{row['kind']} {row['name']}" for row in query(session, "own_objects"))


def check_database_name(name: str) -> None:
    """Raise ParameterError for what cannot be a new database's name; any other character is quoted where it goes."""
    if not name or len(name.encode()) > LONGEST_NAME_BYTES or CONTROL_CHARACTER.search(name):
        raise ParameterError(
            f"{name!r} cannot be a database's name; use 1 to {LONGEST_NAME_BYTES} bytes without control characters"
        )
    if name in RESERVED:
        raise ParameterError(f"{name} is PostgreSQL's own; restore into another database")


def disk_full(what: str, said: str) -> str:
    """Return what a person is told when a server has no room; ``said`` are PostgreSQL's words."""
    return f"{what} is not restored: the target's disk is full ({said}); free space there, then try again"


def shown(names: Sequence[str], *, most: int = SHOWN) -> str:
    """Return some names, and how many more there are.

    >>> shown(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _system_identifier(session: psycopg.Connection[dict[str, object]]) -> str | None:
    try:
        row = session.execute("SELECT system_identifier::text AS id FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return str(row["id"]) if row else None


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _text(statement: sql.Composed | bytes) -> str:
    return statement.decode() if isinstance(statement, bytes) else statement.as_string(None)
