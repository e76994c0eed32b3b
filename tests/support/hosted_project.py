"""A server that looks like a new hosted Supabase project: what the provider makes, and a postgres that is no superuser.

After Supabase's image: roles, grants and default privileges of its init scripts, as far as they decide what a restore
may do. Not here: supautils (which lets postgres make policies on storage.objects and event triggers), pg_cron, pg_net.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.process import Command, Runner

SUPERUSER = "supabase_admin"
PASSWORD = "hosted-superuser"
ROLE_PASSWORD = "hosted-postgres"
PROJECT_SQL = Path(__file__).parent / "sql" / "hosted_project.sql"
MIGRATIONS = """
INSERT INTO auth.schema_migrations SELECT '2026' || lpad(n::text, 10, '0') FROM generate_series(1, 70) n;
INSERT INTO storage.migrations SELECT n, 'hosted-' || n, md5(n::text) FROM generate_series(0, 30) n;
ALTER TABLE auth.users ADD COLUMN added_since text;
REVOKE ALL ON auth.schema_migrations, storage.migrations FROM postgres, anon, authenticated, service_role;
REVOKE CREATE ON SCHEMA auth, storage FROM postgres, dashboard_user;
"""


@dataclass(kw_only=True)
class HostedProject:
    """One server; each test takes a new project, which is a copy of a template."""

    superuser: DatabaseConnection
    names: int = 0

    def new(self) -> DatabaseConnection:
        """Return a new project's database, as its role postgres reaches it."""
        self.names += 1
        name = f"project{self.names}"
        self.do("template1", f"CREATE DATABASE {name} TEMPLATE hosted OWNER postgres")
        self.do(name, f"GRANT ALL ON DATABASE {name} TO postgres")
        return replace(self.superuser, dbname=name, user="postgres", password=Secret(ROLE_PASSWORD))

    def session(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        parameters = {**self.superuser.libpq_parameters(), "dbname": database}
        return psycopg.connect("", **parameters, password=self.superuser.password, autocommit=True)  # type: ignore[arg-type]

    def do(self, database: str, statement: str) -> None:
        with self.session(database) as session:
            session.execute(statement.encode())

    def value(self, database: str, statement: str) -> object:
        with self.session(database) as session:
            row = session.execute(statement.encode()).fetchone()
        return None if row is None else row[0]


@contextmanager
def hosted_project(folder: Path, *, like: DatabaseConnection) -> Iterator[HostedProject]:
    """Run a server whose projects have the auth and storage of ``like``, migrated further than that."""
    user = source_user()
    folder.mkdir(parents=True, exist_ok=True)
    base = runtime_dir(folder, user)
    tools = find_tools(17, server=True)
    server = PostgresServer(
        ServerSpec(
            tools=tools,
            data=base / "data",
            socket_dir=base / "s",
            superuser=SUPERUSER,
            password=PASSWORD,
            user=user,
            settings={"fsync": "off", "wal_level": "logical", "max_connections": "60"},
        )
    )
    server.start()
    try:
        superuser = DatabaseConnection(
            host=str(base / "s"),
            port=5432,
            dbname="hosted",
            user=SUPERUSER,
            password=Secret(PASSWORD),
            sslmode="disable",
        )
        project = HostedProject(superuser=superuser)
        project.do("template1", "CREATE DATABASE hosted TEMPLATE template0 ENCODING 'UTF8'")
        project.do("hosted", PROJECT_SQL.read_text())
        _copy_provider_schemas(tools, like, superuser, folder)
        project.do("hosted", MIGRATIONS)
        yield project
    finally:
        server.stop()


def _copy_provider_schemas(
    tools: PostgresTools, like: DatabaseConnection, target: DatabaseConnection, folder: Path
) -> None:
    """Make auth and storage as the sample has them, without the customer's policies and triggers."""
    runner, dump, wanted = Runner(), folder / "provider.dump", folder / "provider.list"
    source = " ".join(f"{key}='{value}'" for key, value in like.libpq_parameters().items())
    runner.run(
        Command(
            argv=(tools.path("pg_dump"), "-Fc", "-s", "-n", "auth", "-n", "storage", "-f", str(dump), "-d", source),
            environment=like.environment(),
        )
    )
    listed: list[str] = []
    runner.run(Command(argv=(tools.path("pg_restore"), "-l", str(dump))), on_line=listed.append)
    kept = [
        line
        for line in listed
        if not any(f" {kind} " in line for kind in ("POLICY", "SCHEMA", "DEFAULT ACL"))
        and "COMMENT - SCHEMA" not in line
    ]
    wanted.write_text("\n".join(kept) + "\n")
    there = " ".join(f"{key}='{value}'" for key, value in target.libpq_parameters().items())
    runner.run(
        Command(
            argv=(tools.path("pg_restore"), "--exit-on-error", "-L", str(wanted), "-d", there, str(dump)),
            environment=target.environment(),
        )
    )
