"""A small server of its own, with a second tablespace: base backups are of whole clusters, and tests destroy it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from include.backup.base import preflight, take, upload
from include.backup.base.context import build_base_context
from include.backup.base.plan import Wish
from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.manifest import Manifest
from include.backup.point_in_time.choose import Stored
from include.backup.point_in_time.stored import read_stored
from include.backup.policy import SourcePolicy
from include.backup.postgres.account import give, runtime_dir, source_user, usable_tools
from include.backup.postgres.server import PostgresServer, ServerSpec
from include.backup.postgres.tools import find_tools
from include.backup.process import Command, Runner
from include.backup.proof.record import Proof
from include.backup.steps import close_staging, verify
from include.backup.steps.context import StepContext, open_store
from include.backup.steps.restore_test import StoredBackup, prove_stored
from include.backup.store import ObjectStore
from tests.support.contexts import make_run
from tests.support.wal_shipper import WalShipper

LOG = logging.getLogger("tests.physical")
DATABASE = "pulse_messages"
SUPERUSER = "supabase_admin"
PASSWORD = "test-superuser"
BACKUP_PASSWORD = "test-backup"
SETTINGS = {"fsync": "off", "wal_level": "replica", "max_wal_senders": "10", "shared_buffers": "32MB"}
SQL = """
CREATE ROLE pulse_backup LOGIN REPLICATION BYPASSRLS PASSWORD 'test-backup';
GRANT pg_read_all_data, pg_monitor TO pulse_backup;
GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_show_all_file_settings(), pg_hba_file_rules() TO pulse_backup;
GRANT SELECT ON pg_file_settings, pg_hba_file_rules TO pulse_backup;
CREATE TABLE public.events (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL, payload text);
CREATE TABLE public.elsewhere (id int PRIMARY KEY, note text NOT NULL) TABLESPACE second;
CREATE UNLOGGED TABLE public.volatile (id int);
INSERT INTO public.events (note, payload) SELECT 'old ' || n, repeat(md5(n::text), 20) FROM generate_series(1, 2000) n;
INSERT INTO public.elsewhere SELECT n, 'old ' || n FROM generate_series(1, 500) n;
INSERT INTO public.volatile SELECT generate_series(1, 10);
"""
ROWS = """
SELECT 'events', id, note FROM public.events UNION ALL SELECT 'elsewhere', id, note FROM public.elsewhere ORDER BY 1, 2
"""


@dataclass(kw_only=True)
class PhysicalSource:
    """One server, what backs it up, and where its backups go."""

    major: int
    server: PostgresServer
    base: Path
    connection: DatabaseConnection
    policy: SourcePolicy
    store_connection: StoreConnection
    scratch_root: Path
    folder: Path
    shipper: WalShipper = field(init=False)

    @property
    def superuser(self) -> DatabaseConnection:
        return replace(self.connection, user=SUPERUSER, password=Secret(PASSWORD))

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        parameters = self.superuser.libpq_parameters()
        with psycopg.connect("", **parameters, password=PASSWORD, autocommit=True) as session:  # type: ignore[arg-type]
            yield session

    @property
    def store(self) -> ObjectStore:
        return open_store(self.policy, self.store_connection)

    def context(self) -> StepContext:
        """Return the context of a new run."""
        return build_base_context(
            source=self.policy,
            run=make_run(dag_id="pulse_messages.base_backup"),
            database=self.connection,
            store=self.store_connection,
            staging_root=self.folder / "staging",
            scratch_root=self.scratch_root,
            runner=Runner(log=LOG),
            log=LOG,
        )

    def back_up(self, wish: Wish = Wish.FULL) -> StepContext:
        """Take a base backup with the real steps."""
        ctx = self.context()
        preflight.run(ctx, wish=wish)
        for step in (take, upload, verify, close_staging):
            step.run(ctx)
        return ctx

    def manifest(self, ctx: StepContext) -> Manifest:
        return ctx.catalog.manifest(ctx.backup_id)

    def prove(self, ctx: StepContext) -> Proof:
        stored = StoredBackup(
            backup_id=ctx.backup_id,
            source=ctx.source,
            store=ctx.store,
            catalog=ctx.catalog,
            scratch_root=ctx.scratch_root,
        )
        return prove_stored(stored, runner=Runner(log=LOG), log=LOG)

    def stored(self) -> Stored:
        """Return what the store holds of this cluster."""
        return read_stored(self.policy, self.store, system_identifier=self.shipper.keys.system_identifier)

    def insert(self, note: str) -> None:
        with self.session() as session, session.transaction():
            session.execute("INSERT INTO public.events (note) VALUES (%s)", (note,))
            session.execute("INSERT INTO public.elsewhere SELECT max(id) + 1, %s FROM public.elsewhere", (note,))

    def rows(self) -> Sequence[Any]:
        with self.session() as session:
            return session.execute(ROWS).fetchall()

    def value(self, query: str) -> Any:
        with self.session() as session:
            row = session.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def ship(self) -> None:
        with self.session() as session:
            self.shipper.ship(session)

    def destroy(self) -> None:
        """Lose the server with all its files."""
        self.server.stop()
        shutil.rmtree(self.base)


@contextmanager
def physical_source(
    folder: Path,
    *,
    major: int,
    policy: SourcePolicy,
    store: StoreConnection,
    scratch_root: Path,
    settings: dict[str, str] | None = None,
) -> Iterator[PhysicalSource]:
    """Run a small server with a second tablespace, and receive its WAL."""
    user = source_user()
    folder.mkdir(parents=True)
    base = runtime_dir(folder / "server", user)
    extra = {"summarize_wal": "on"} if major >= 17 else {}
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(major),
            data=base / "data",
            socket_dir=base / "s",
            superuser=SUPERUSER,
            password=PASSWORD,
            user=user,
            settings={**SETTINGS, **extra, **(settings or {})},
        )
    )
    server.start()
    server.stop()
    tools = usable_tools(find_tools(major), user)
    argv = (tools.path("pg_checksums"), "--enable", "--no-sync", f"--pgdata={base / 'data'}")
    Runner(log=LOG).run(Command(argv=argv, user=user, folder=base / "data"))
    server.start()
    try:
        connection = DatabaseConnection(
            host=str(base / "s"),
            port=5432,
            dbname=DATABASE,
            user="pulse_backup",
            password=Secret(BACKUP_PASSWORD),
            sslmode="disable",
        )
        source = PhysicalSource(
            major=major,
            server=server,
            base=base,
            connection=connection,
            policy=policy,
            store_connection=store,
            scratch_root=scratch_root,
            folder=folder,
        )
        _fill(source)
        with WalShipper.of(connection, source.store, folder / "wal", major=major) as shipper:
            source.shipper = shipper
            yield source
    finally:
        server.stop()


def _fill(source: PhysicalSource) -> None:
    place = source.base / "second"
    place.mkdir(mode=0o700)
    give(place, source.server.spec.user)
    login = f"host={source.connection.host} user={SUPERUSER} password={PASSWORD}"
    with psycopg.connect(f"{login} dbname=postgres", autocommit=True) as session:
        session.execute(f"CREATE TABLESPACE second LOCATION '{place}'".encode())
        session.execute(f"CREATE DATABASE {DATABASE}".encode())
    with psycopg.connect(f"{login} dbname={DATABASE}") as session:
        session.execute(SQL)
