"""The embedded source: PostgreSQL over TLS, holding the sample database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.backup.postgres.server import PostgresServer, ServerSpec, TlsFiles, runtime_dir, source_user
from include.backup.postgres.tools import find_tools
from include.local import ports
from include.local.credentials import load_credentials
from include.local.errors import StackError
from include.local.layout import HOST, Layout
from include.local.processes import processes_naming, wait_until
from include.local.sample import DEFAULT_SEED, load_sample
from include.local.sample.summary import loaded_size_and_seed

DATABASE = "pulse_messages"
# Supabase's name: there ``postgres`` is an ordinary role, and the sample makes it one.
SUPERUSER = "supabase_admin"
SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # What base backups, the streaming of WAL and incremental base backups need.
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "max_slot_wal_keep_size": "4GB",
    "summarize_wal": "on",
    "log_min_duration_statement": "5s",
    "log_connections": "off",
    "timezone": "UTC",
}
INITDB_ENDS_SECONDS = 20.0
# It and the server processes that it feeds.
INITDB = ("/initdb ", " --boot ", " --single ")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleState:
    """What the sample database holds after ``start``; ``seconds`` is 0.0 when it was there before."""

    size_mb: int
    seconds: float


class Source:
    """The server of one stack."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def folder(self) -> Path:
        """Return where the server's files lie; as root that may be where another user can reach them."""
        return runtime_dir(self._layout.source, source_user())

    def server(self, password: str = "") -> PostgresServer:
        """Return the server, running or not; only a first start needs the superuser's password."""
        layout, user, folder = self._layout, source_user(), self.folder()
        return PostgresServer(
            ServerSpec(
                tools=find_tools(17, server=True),
                data=folder / "data",
                # A socket's path may have 107 bytes at most, and a project may lie deep.
                socket_dir=folder / "s",
                superuser=SUPERUSER,
                password=password,
                port=layout.source_port,
                listen=(HOST,),
                user=user,
                settings=SETTINGS,
                tls=TlsFiles(certificate=layout.certificate, key=layout.key),
                log_file=folder / "server.log",
                outlives_parent=True,
            )
        )

    def start(self) -> bool:
        """Start the server; return whether this call started it."""
        server = self.server(load_credentials(self._layout.credentials).source_superuser_password)
        started = not server.is_running()
        if started:
            ports.require_free("source", self._layout.source_port)
        server.start()
        return started

    def running(self) -> bool:
        return self._layout.source.exists() and self.server().is_running()

    def healthy(self) -> bool:
        """Return whether the backup role's server takes connections."""
        try:
            with psycopg.connect(self.superuser_conninfo("postgres"), connect_timeout=3):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """Stop the server, if there ever was one, and wait for the end of what a killed start was making.

        Raises StackError when that does not end.
        """
        if not self._layout.source.exists():
            return
        self.server().stop()
        if not wait_until(lambda: not self._initializing(), INITDB_ENDS_SECONDS):
            raise StackError(f"initdb of {self.folder()} does not end; kill it: {self._initializing()}")

    def _initializing(self) -> list[int]:
        """Return the pids of initdb and its children; the kernel told it to end when who started it died."""
        return [pid for pid, command in processes_naming(self.folder()) if any(word in command for word in INITDB)]

    def superuser_conninfo(self, dbname: str = DATABASE) -> str:
        """Return how the superuser connects; it holds a password."""
        credentials = load_credentials(self._layout.credentials)
        return make_conninfo(
            host="localhost",
            port=self._layout.source_port,
            user=SUPERUSER,
            password=credentials.source_superuser_password,
            dbname=dbname,
            sslmode="verify-full",
            sslrootcert=str(self._layout.ca),
            passfile="/dev/null",
            connect_timeout=10,
        )

    def load_sample(self, size_mb: int, on_progress: Callable[[str], None] | None = None) -> SampleState:
        """Load the sample unless there is one; one of another size stays as it is."""
        try:
            return self._load_sample(size_mb, on_progress)
        except psycopg.Error as error:
            log = self.server().spec.log
            raise StackError(f"the sample cannot be loaded: {error}; see {log}".replace("\n", " ")) from error

    def _load_sample(self, size_mb: int, on_progress: Callable[[str], None] | None) -> SampleState:
        self._ensure_database()
        with psycopg.connect(self.superuser_conninfo()) as connection:
            found = loaded_size_and_seed(connection)
        started = time.monotonic()
        size, seed = found or (size_mb, DEFAULT_SEED)
        load_sample(
            self.superuser_conninfo(),
            size_mb=size,
            seed=seed,
            backup_password=load_credentials(self._layout.credentials).source_backup_password,
            on_progress=on_progress,
        )
        return SampleState(size_mb=size, seconds=0.0 if found else time.monotonic() - started)

    def _ensure_database(self) -> None:
        with psycopg.connect(self.superuser_conninfo("postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if there is None:
                name = sql.Identifier(DATABASE)
                connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(name))
