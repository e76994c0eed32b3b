"""Restores into allow-listed places without Airflow: small databases on the embedded server, and their policy."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.backup.approval import Approval
from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.in_use import backups_in_use
from include.backup.policy import Policy, load_policy
from include.backup.process import Runner
from include.backup.restore.context import RestoreContext
from include.backup.restore.kept import kept_databases
from include.backup.restore.order import RestoreOrder
from include.backup.restore.prepare import Wish, prepare
from include.backup.restore.sealed import keep_order
from include.backup.restore.words import Where
from include.backup.restore.work import compare, load
from include.backup.steps import compress, dump, preflight, restore_test, upload, verify
from include.backup.steps.context import Release, RunIdentity, StepContext
from include.backup.store import ObjectStore
from tests.support.small_sources import SmallSource, make_databases, write_policy

_RUNS = itertools.count(1)
BROKEN = "broken"
END_LOCK = (
    "SELECT bool_or(pg_terminate_backend(pid, 10000)) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND application_name LIKE 'pulse_restore {}%'"
)


class Quiet:
    """A progress that nobody looks at."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin nothing."""

    def at(self, done: int, size: int = 0) -> None:
        """Show nothing."""


QUIET = Quiet()


class Marks(Quiet):
    """A progress that looks which backups a cleanup is told to keep, until it sees any."""

    def __init__(self, store: ObjectStore, source: str) -> None:
        self._store = store
        self._source = source
        self.seen: dict[str, str] = {}

    def phase(self, name: str, total: int, unit: str) -> None:
        """Look at the marks."""
        self.at(0)

    def at(self, done: int, size: int = 0) -> None:
        """Look at the marks."""
        self.seen = self.seen or dict(backups_in_use(self._store, self._source, datetime.now(UTC)))


class EndsTheLock(Quiet):
    """A progress that ends the session of the target's lock once, as a server or a network may in hours."""

    def __init__(self, lab: RestoreLab, restore_id: str) -> None:
        self._lab = lab
        self._statement = END_LOCK.format(restore_id)
        self.ended = False

    def at(self, done: int, size: int = 0) -> None:
        self.ended = self.ended or bool(self._lab.value("postgres", self._statement))


@dataclass(kw_only=True)
class RestoreLab:
    """Sources of one policy, their server as its superuser, and a store."""

    policy: Policy
    superuser: DatabaseConnection
    backup_user: DatabaseConnection
    store: StoreConnection
    folder: Path
    extra_connections: dict[str, DatabaseConnection] = field(default_factory=dict)

    def connection(self, conn_id: str) -> DatabaseConnection:
        """Return a connection of the policy by its id."""
        if conn_id in self.extra_connections:
            return self.extra_connections[conn_id]
        if conn_id == "pulse_messages_restore":
            return self.superuser
        return replace(self.backup_user, dbname=conn_id.removesuffix("_db"))

    def session(self, database: str) -> psycopg.Connection[Any]:
        """Return a session of the superuser."""
        parameters = {**self.superuser.libpq_parameters(), "dbname": database, "application_name": "somebody"}
        return psycopg.connect("", **parameters, password=self.superuser.password, autocommit=True)

    def value(self, database: str, statement: str) -> Any:
        with self.session(database) as session:
            row = session.execute(statement.encode()).fetchone()
        return None if row is None else row[0]

    def do(self, database: str, statement: str) -> None:
        with self.session(database) as session:
            session.execute(statement.encode())

    def databases(self) -> set[str]:
        with self.session("postgres") as session:
            return {str(row[0]) for row in session.execute("SELECT datname FROM pg_database").fetchall()}

    def drop(self, database: str) -> None:
        with self.session("postgres") as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def state(self, source: str) -> dict[str, Any]:
        """Return what a person would call production: which database it is, whether it takes connections, its rows."""
        with self.session("postgres") as session:
            row = session.execute(
                "SELECT oid::bigint, datallowconn FROM pg_database WHERE datname = %s", (source,)
            ).fetchone()
        assert row is not None
        return {
            "oid": row[0],
            "open": row[1],
            "orders": self.value(source, "SELECT count(*) FROM orders"),
            "notes": self.value(source, "SELECT md5(string_agg(note, ',' ORDER BY id)) FROM orders"),
        }

    def backup(self, source: str, *, release: Release | None = None, prove: bool = False) -> str:
        """Take a backup; return its id."""
        run = self.run("backup")
        policy = self.policy.source(source)
        ctx = StepContext(
            source=policy,
            tier=policy.tier("pre_deployment" if release else "daily"),
            run=run,
            database=self.connection(policy.connection),
            store_connection=self.store,
            staging_root=self.folder / "staging",
            scratch_root=self.folder / "scratch",
            runner=Runner(),
            log=logging.getLogger("tests.backup"),
            release=release,
        )
        for step in (preflight, dump, compress, upload, verify, *((restore_test,) if prove else ())):
            step.run(ctx)
        return ctx.backup_id

    def run(self, name: str, *, by: str | None = "al") -> RunIdentity:
        return RunIdentity(
            dag_id=f"tests.{name}",
            run_id=f"test__{next(_RUNS)}",
            run_after=datetime.now(tz=UTC),
            run_type="manual",
            triggered_by=by,
        )

    def context(self, name: str, /, **changes: Any) -> RestoreContext:
        """Return the context of a new restore."""
        values: dict[str, Any] = {
            "policy": self.policy,
            "source": self.policy.source(name),
            "connections": self.connection,
            "store_connection": self.store,
            "run": self.run("restore_database"),
            "staging_root": self.folder / "staging",
            "scratch_root": self.folder / "scratch",
            "runner": Runner(),
            "log": logging.getLogger("tests.backup"),
            "jobs": 2,
        }
        return RestoreContext(**{**values, **changes})

    def ordered(self, ctx: RestoreContext, **wishes: Any) -> tuple[RestoreOrder, str]:
        """Return the order of a restore into production, and its seal."""
        order = prepare(ctx, wish(**wishes))
        return order, keep_order(ctx.store, order, encryption=ctx.encryption)

    def loaded(self, ctx: RestoreContext, **wishes: Any) -> tuple[RestoreOrder, str]:
        """Return the order of a restore that has come as far as the comparison."""
        order, seal = self.ordered(ctx, **wishes)
        load(ctx, order, progress=QUIET)
        compare(ctx, order, seal, progress=QUIET)
        return order, seal


def wish(**changes: Any) -> Wish:
    values: dict[str, Any] = {
        "where": Where.PRODUCTION,
        "unproven": True,
        "dry_run": False,
        "end_sessions": True,
        "reason": "a test",
    }
    return Wish(**{**values, **changes})


def yes(seal: str) -> Approval:
    """Return the yes of another person."""
    return Approval(requested_by="al", approved_by="bea", approved_at=datetime.now(tz=UTC), seal=seal)


def make_lab(
    sources: Mapping[str, SmallSource],
    *,
    superuser: DatabaseConnection,
    backup_user: DatabaseConnection,
    store: StoreConnection,
    folder: Path,
    conninfo: Any,
) -> RestoreLab:
    """Make the databases and the policy."""
    folder.mkdir(parents=True)
    write_policy(folder / "policy.yaml", sources.values(), broken=BROKEN)
    make_databases(sources.values(), conninfo)
    return RestoreLab(
        policy=load_policy(folder / "policy.yaml"),
        superuser=replace(superuser, password=Secret(str(superuser.password))),
        backup_user=backup_user,
        store=store,
        folder=folder,
    )


def kept_names(ctx: RestoreContext, source: str) -> set[str]:
    """Return the databases that the store says are kept beside a source."""
    return {kept.database for _, kept in kept_databases(ctx.store, source)}
