"""Small databases of their own beside the sample, on the same server, for what a test of proofs needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.local.stack import Stack

SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A server, and how its superuser connects: only a superuser's backup holds every secret there is."""

    connection: DatabaseConnection

    @classmethod
    def of_stack(cls, stack: Stack) -> Site:
        login = conninfo_to_dict(stack.source.superuser_conninfo())
        return cls.of(stack.database_connection(), str(login["user"]), str(login["password"]))

    @classmethod
    def of(cls, connection: DatabaseConnection, user: str, password: str) -> Site:
        return cls(connection=replace(connection, user=user, password=Secret(password)))

    @contextmanager
    def session(self, dbname: str, *, obedient: bool = False) -> Iterator[psycopg.Connection]:
        """Open a session of the superuser in autocommit; hindering settings hinder only an ``obedient`` one."""
        options = {} if obedient else {"options": "-c default_transaction_read_only=off -c statement_timeout=0"}
        parameters = {**self.connection.libpq_parameters(), "dbname": dbname, **options}
        with psycopg.connect(**parameters, password=str(self.connection.password), autocommit=True) as connection:
            yield connection

    @contextmanager
    def database(self, name: str, *scripts: str | Path, encoding: str = "UTF8") -> Iterator[DatabaseConnection]:
        """Make a database by scripts, and take it and the roles that they made away again."""
        identifier = sql.Identifier(name)
        with self.session("postgres") as connection:
            before = made = _roles(connection)
            locale = sql.SQL("" if encoding == "UTF8" else f"ENCODING {encoding} LOCALE 'C'")
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(identifier, locale))
            try:
                for script in scripts:
                    with self.session(name) as inside:
                        inside.execute(script.read_bytes() if isinstance(script, Path) else script.encode())
                made = _roles(connection)
                yield replace(self.connection, dbname=name)
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
                for role in map(sql.Identifier, made - before):
                    connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
                    connection.execute(sql.SQL("DROP ROLE {}").format(role))


def _roles(connection: psycopg.Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}
