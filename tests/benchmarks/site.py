"""What a benchmark runs on: a source with the sample, a store, and a server to restore into."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.postgres.commands import pg_dumpall_globals_command, psql_file_command
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.process import Runner
from include.local.sample import load_sample
from include.local.sample.summary import SampleSummary
from tests.benchmarks.rclone import rclone_store

POSTGRES_MAJOR = 17
DATABASE = "pulse_messages"
SUPERUSER = "supabase_admin"
BACKUP_ROLE = "pulse_backup"
# Of the source and of the server that is restored into; all else is PostgreSQL's default.
SETTINGS = {
    "fsync": "off",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place to measure at. ``source`` is read as the backup role; ``target`` is written as a superuser."""

    folder: Path
    tools: PostgresTools
    source: DatabaseConnection
    target: DatabaseConnection
    store: StoreConnection
    sample: SampleSummary

    def work(self, name: str) -> Path:
        """Return a new, empty folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


@contextmanager
def open_site(*, size_mb: int, base: Path, major: int = POSTGRES_MAJOR) -> Iterator[Site]:
    """Make servers, sample and store in a new folder below ``base``; end and remove them after."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    folder.chmod(0o711)
    try:
        # One password, since copying the roles copies the superuser's too.
        superuser, password = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
        with (
            _server(folder / "source", superuser, major) as source,
            _server(folder / "target", superuser, major) as target,
            rclone_store(folder / "store") as store,
        ):
            _create_database(source)
            sample = load_sample(login(source), size_mb=size_mb, backup_password=password)
            _copy_roles(source, target, folder / "globals.sql", major)
            yield Site(
                folder=folder,
                tools=find_tools(major),
                source=replace(source, user=BACKUP_ROLE, password=Secret(password)),
                target=target,
                store=store,
                sample=sample,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def recreate_target(site: Site) -> None:
    """Make the target's database anew, empty; the write-back of what it held is not measured."""
    _create_database(site.target)


def login(connection: DatabaseConnection, *, dbname: str | None = None) -> str:
    """Return a conninfo string with the password, for psycopg."""
    parameters = {**connection.libpq_parameters(), "dbname": dbname or connection.dbname}
    return psycopg.conninfo.make_conninfo("", **parameters, password=str(connection.password))


@contextmanager
def _server(folder: Path, password: str, major: int) -> Iterator[DatabaseConnection]:
    user = source_user()
    base = runtime_dir(folder, user)
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(major, server=True),
            data=base / "data",
            socket_dir=base / "s",
            superuser=SUPERUSER,
            password=password,
            user=user,
            settings=SETTINGS,
        )
    )
    server.start()
    try:
        yield DatabaseConnection(
            host=str(base / "s"),
            port=server.spec.port,
            dbname=DATABASE,
            user=SUPERUSER,
            password=Secret(password),
            sslmode="disable",
        )
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


def _create_database(superuser: DatabaseConnection) -> None:
    name = sql.Identifier(superuser.dbname)
    with psycopg.connect(login(superuser, dbname="postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        connection.execute("CHECKPOINT")


def _copy_roles(source: DatabaseConnection, target: DatabaseConnection, script: Path, major: int) -> None:
    tools = find_tools(major)
    runner = Runner()
    runner.run(pg_dumpall_globals_command(tools, source, target=script, role_passwords=True))
    # The superuser is on both sides already, which is the one error that there is.
    runner.run(psql_file_command(tools, replace(target, dbname="postgres"), script=script, stop=False))
