"""A server whose log is stored, and copies of it that are recovered from nothing but the store."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.policy import SourcePolicy
from include.backup.postgres.account import give
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.session import connection_string
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.process import Command, Runner
from include.backup.steps.context import RunIdentity
from include.backup.wal.context import WalContext
from include.backup.wal.fetch import Fetched, fetch_wal
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.stored import read_chain
from include.local.ports import free_port_base

SUPERUSER, PASSWORD, BACKUP_PASSWORD = "wal_admin", "test-superuser", "test-backup"
DATABASE = "shop"
SETTINGS = {
    "fsync": "off",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "max_slot_wal_keep_size": "4096MB",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
}
_RUNS = count(1)


@dataclass(kw_only=True)
class WalSource:
    """One small server, the role that backs it up, and the policy of its source."""

    server: PostgresServer
    base: Path
    source: SourcePolicy
    store: StoreConnection
    staging_root: Path
    port: int
    copies: list[PostgresServer] = field(default_factory=list)

    @property
    def tools(self) -> PostgresTools:
        return self.server.spec.tools

    @property
    def database(self) -> DatabaseConnection:
        """How the backup role reaches it, by TCP."""
        return DatabaseConnection(
            host="127.0.0.1",
            port=self.port,
            dbname=DATABASE,
            user="pulse_backup",
            password=Secret(BACKUP_PASSWORD),
            sslmode="disable",
        )

    def session(self, server: PostgresServer | None = None, **more: Any) -> psycopg.Connection[Any]:
        """Return a superuser's session, by the socket."""
        spec = (server or self.server).spec
        return psycopg.connect(
            host=str(spec.socket_dir), port=spec.port, user=SUPERUSER, password=PASSWORD, dbname=DATABASE,
            autocommit=True, **more,
        )  # fmt: skip

    def one(self, statement: str, server: PostgresServer | None = None) -> Any:
        """Return the only value that a statement gives."""
        with self.session(server) as session:
            row = session.execute(statement.encode()).fetchone()
            return None if row is None else row[0]

    def execute(self, statement: str) -> None:
        with self.session() as session:
            session.execute(statement.encode())

    def context(self, **overrides: Any) -> WalContext:
        """Return the context of a new run."""
        now = datetime.now(tz=UTC)
        values: dict[str, Any] = {
            "source": self.source,
            "run": RunIdentity(dag_id="test", run_id=f"wal__{next(_RUNS)}", run_after=now, run_type="manual"),
            "database": self.database,
            "store_connection": self.store,
            "staging_root": self.staging_root,
            "runner": Runner(),
            "log": logging.getLogger("tests.wal"),
        }
        return WalContext(**{**values, **overrides})

    @property
    def system_identifier(self) -> str:
        return str(self.one("SELECT system_identifier FROM pg_control_system()"))

    @property
    def keys(self) -> ClusterKeys:
        return ClusterKeys(system_identifier=self.system_identifier)

    # --- base backups and recovery, as plain as PostgreSQL has them ----------------------------------------

    def base_backup(self, name: str) -> Path:
        """Copy the data folder; its WAL has to come from the store."""
        folder = self.base / name
        superuser = replace(self.database, user=SUPERUSER, password=Secret(PASSWORD))
        argv = (
            self.tools.path("pg_basebackup"), f"--pgdata={folder}", "--wal-method=none", "--checkpoint=fast",
            f"--dbname={connection_string(superuser)}",
        )  # fmt: skip
        folder.mkdir()
        give(folder, self.server.spec.user)
        folder.chmod(0o700)
        Runner().run(Command(argv=argv, environment=superuser.environment(), user=self.server.spec.user, folder=folder))
        return folder

    def fetch(self, folder: Path) -> Fetched:
        """Fetch the WAL that a base backup needs, from where its label says, as far as the stored chain goes."""
        label = (folder / "backup_label").read_text()
        lsn = label.split("START WAL LOCATION: ")[1].split()[0]
        timeline = int(label.split("START TIMELINE: ")[1].split()[0])
        high, low = lsn.split("/")
        wal = folder.with_name(f"{folder.name}-wal")
        wal.mkdir()
        store = self.context().store
        size = self.context_segment_size()
        found = fetch_wal(
            store,
            self.keys,
            read_chain(store, self.keys, size=size),
            wal,
            start=int(high, 16) << 32 | int(low, 16),
            timeline=timeline,
        )
        for path in (wal, *wal.iterdir()):
            give(path, self.server.spec.user)
        return found

    def context_segment_size(self) -> int:
        return int(self.one("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"))

    @contextmanager
    def standby(self, name: str) -> Iterator[PostgresServer]:
        """Run a standby that streams from this server, as ``pg_basebackup --write-recovery-conf`` makes it."""
        folder = self.base / name
        superuser = replace(self.database, user=SUPERUSER, password=Secret(PASSWORD))
        argv = (
            self.tools.path("pg_basebackup"), f"--pgdata={folder}", "--wal-method=stream", "--checkpoint=fast",
            "--write-recovery-conf", f"--dbname={connection_string(superuser)}",
        )  # fmt: skip
        folder.mkdir()
        give(folder, self.server.spec.user)
        folder.chmod(0o700)
        Runner().run(Command(argv=argv, environment=superuser.environment(), user=self.server.spec.user, folder=folder))
        server = PostgresServer(
            replace(
                self.server.spec,
                data=folder,
                socket_dir=self.base / f"s-{name}",
                port=free_port_base(),
                log_file=folder.with_name(f"{name}.log"),
            )
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()

    @contextmanager
    def recovered(self, folder: Path) -> Iterator[PostgresServer]:
        """Start a base backup, recover it to the end of the fetched WAL, and promote it."""
        (folder / "recovery.signal").touch()
        give(folder / "recovery.signal", self.server.spec.user)
        spec = replace(
            self.server.spec,
            data=folder,
            socket_dir=self.base / f"s-{folder.name}",
            port=5432,
            listen=(),
            log_file=folder.with_name(f"{folder.name}.log"),
            settings={
                **self.server.spec.settings,
                "restore_command": f"cp {folder.with_name(folder.name + '-wal')}/%f %p",
                "recovery_target_timeline": "latest",
                "recovery_target_action": "promote",
                "archive_mode": "off",
            },
        )
        server = PostgresServer(spec)
        server.start()
        try:
            deadline = time.monotonic() + 120
            while self.one("SELECT pg_is_in_recovery()", server):
                assert time.monotonic() < deadline, server.log_tail()
                time.sleep(0.1)
            yield server
        finally:
            server.stop()


@contextmanager
def wal_source(
    folder: Path, *, major: int, source: SourcePolicy, store: StoreConnection, settings: dict[str, str] | None = None
) -> Iterator[WalSource]:
    """Run a server of one major version with a small database and a role that may replicate."""
    user = source_user()
    folder.mkdir(parents=True, exist_ok=True)
    base = runtime_dir(folder, user)
    port = free_port_base()
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(major, server=True),
            data=base / "data",
            socket_dir=base / "s",
            port=port,
            listen=("127.0.0.1",),
            superuser=SUPERUSER,
            password=PASSWORD,
            user=user,
            settings={**SETTINGS, **(settings or {})},
        )
    )
    server.start()
    staging = folder / "staging"
    staging.mkdir()
    give(base, user)
    try:
        with psycopg.connect(
            host=str(base / "s"), port=port, user=SUPERUSER, password=PASSWORD, dbname="postgres", autocommit=True
        ) as session:
            session.execute(f"CREATE DATABASE {DATABASE}")
            session.execute(f"CREATE ROLE pulse_backup LOGIN REPLICATION PASSWORD '{BACKUP_PASSWORD}'")
        found = WalSource(server=server, base=base, source=source, store=store, staging_root=staging, port=port)
        found.execute("CREATE TABLE public.events (id bigint PRIMARY KEY, filler text)")
        found.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO pulse_backup")
        yield found
    finally:
        server.stop()


class Writer:
    """Commits rows with rising ids; remembers the last that the server has acknowledged."""

    def __init__(self, source: WalSource, *, filler: int = 2000, pause: float = 0.001) -> None:
        self._source, self._filler, self._pause = source, filler, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.acknowledged = int(source.one("SELECT coalesce(max(id), 0) FROM events"))

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _write(self) -> None:
        with contextlib.suppress(psycopg.OperationalError), self._source.session() as session:
            while not self._stop.is_set():
                following = self.acknowledged + 1
                session.execute(
                    "INSERT INTO events SELECT %s, string_agg(md5(random()::text), '') FROM generate_series(1, %s)",
                    (following, self._filler // 32),
                )
                self.acknowledged = following
                self._stop.wait(self._pause)


def rows_of(source: WalSource, server: PostgresServer) -> tuple[int, int]:
    """Return how many events there are, and the last one's id: equal when none is missing."""
    with source.session(server) as session:
        row = session.execute("SELECT count(*), coalesce(max(id), 0) FROM events").fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def run_psql(source: WalSource, statement: str) -> None:
    """Run a statement that may not be in a transaction."""
    subprocess.run(
        [source.tools.path("psql"), "-X", "-h", str(source.base / "s"), "-p", str(source.port), "-U", SUPERUSER,
         "-d", DATABASE, "-c", statement],
        check=True, env={"PGPASSWORD": PASSWORD}, capture_output=True,
    )  # fmt: skip
