"""Fixtures of the tests of table restores, for pytest_plugins: one proven-looking backup, and copies to damage."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from include.backup.cli.output import Phases
from include.backup.connections import DatabaseConnection
from include.backup.inventory import Standing
from include.backup.postgres.toc import Toc
from include.backup.process import Runner
from include.backup.restore.target import Target
from include.backup.steps.context import utc_now
from include.backup.table_restore import plan as plan_module
from include.backup.table_restore.blueprint import Blueprint, Drawing, draw
from include.backup.table_restore.names import ChosenTable, TableName
from include.backup.table_restore.plan import TablesRequest, plan_tables
from include.backup.table_restore.preview import Mode, TablesPreview
from include.backup.table_restore.work import TablesReport, TablesRestore
from tests.support.proof_source import SQL, Site
from tests.support.proofs import BackUp, StoredBackup

LOG = logging.getLogger("tests.table_restore")
DATABASE = "tables_source"
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy of the source's database that a test may damage, and restores into it."""

    site: Site
    backup: StoredBackup
    name: str
    work_root: Path
    connection: DatabaseConnection

    def run(self, statements: str) -> None:
        with self.site.session(self.name) as session:
            session.execute(statements.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.site.session(self.name) as session:
            return session.execute(query.encode()).fetchall()

    def contents(self, *, skip: tuple[str, ...] = ()) -> dict[str, list[bytes]]:
        """Return the lines of every table, by its name."""
        with self.site.session(self.name) as session:
            found = {}
            for schema, table in session.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            ).fetchall():
                query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(schema, table))
                if table not in skip:
                    with session.cursor().copy(query) as copy:
                        found[f"{schema}.{table}"] = sorted(b"".join(copy).splitlines())
            return found

    def request(self, *tables: str, mode: Mode, **options: Any) -> TablesRequest:
        backup = options.pop("backup", self.backup)
        values: dict[str, Any] = {
            "store": backup.store,
            "manifest": backup.manifest,
            "manifest_sha256": "0" * 64,
            "standing": Standing.PROVEN,
            "target": Target(self.connection, database=self.name),
            "scratch_root": self.backup.scratch_root,
            "now": utc_now(),
            "jobs": 2,
        }
        return TablesRequest(tables=tables, mode=mode, **{**values, **options})

    def restore(self, *tables: str, mode: Mode, **options: Any) -> tuple[TablesPreview, TablesReport]:
        with self.work(*tables, mode=mode, **options) as work:
            preview = work.preview()
            return preview, work.carry_out(preview, work_root=self.work_root, progress=Phases())

    def preview(self, *tables: str, mode: Mode, **options: Any) -> TablesPreview:
        with self.work(*tables, mode=mode, **options) as work:
            return work.preview()

    def work(self, *tables: str, mode: Mode, **options: Any) -> TablesRestore:
        plan = plan_tables(self.request(*tables, mode=mode, **options), runner=Runner(log=LOG), log=LOG)
        return TablesRestore(plan, runner=Runner(log=LOG), log=LOG, progress=Phases(), holder="a test")


@pytest.fixture(scope="module")
def tables_database(site: Site) -> Iterator[DatabaseConnection]:
    with site.database(DATABASE, SQL / "table_restore.sql") as database:
        yield database


@pytest.fixture(scope="module")
def tables_backup(tables_database: DatabaseConnection, back_up: BackUp) -> StoredBackup:
    return back_up(tables_database)


@pytest.fixture(scope="module")
def drawn() -> Callable[..., Blueprint]:
    """The real blueprints, each drawn once: they are of the archive alone."""
    keep: dict[tuple[Any, ...], Drawing] = {}

    @cache
    def by_key(key: tuple[Any, ...]) -> Blueprint:
        return draw(keep[key], runner=Runner(log=LOG), log=LOG)

    def drawing(wanted: Drawing, **_: Any) -> Blueprint:
        if wanted.schema is None:  # then only columns are looked at: those of all tables at once
            wanted = replace(wanted, tables=tuple(every_table(wanted.toc)))
        key = (wanted.manifest.dump.snapshot.time, tuple(table.name for table in wanted.tables), wanted.schema)
        keep[key] = wanted
        return by_key(key)

    return drawing


def every_table(toc: Toc) -> Iterator[ChosenTable]:
    for entry in toc.entries:
        if entry.desc == "TABLE":
            name = TableName(schema=entry.namespace, table=entry.tag)
            yield ChosenTable(name=name, entry=entry, parts=(entry,), members=())


@contextmanager
def new_copy(
    site: Site, database: DatabaseConnection, backup: StoredBackup, drawn: Callable[..., Blueprint], work_root: Path
) -> Iterator[Copy]:
    """Copy the source's database; it goes at the end."""
    name = f"tables_copy_{next(_NUMBERS)}"
    identifier = sql.Identifier(name)
    with site.session("postgres") as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER table_owner").format(identifier, sql.Identifier(DATABASE))
        )
    connection = replace(database, dbname="postgres")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan_module, "draw", drawn)
            yield Copy(site=site, backup=backup, name=name, work_root=work_root, connection=connection)
    finally:
        with site.session("postgres") as session:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@pytest.fixture
def copy(
    site: Site,
    tables_database: DatabaseConnection,
    tables_backup: StoredBackup,
    drawn: Callable[..., Blueprint],
    tmp_path: Path,
) -> Iterator[Copy]:
    """A copy for one test, which may damage it."""
    with new_copy(site, tables_database, tables_backup, drawn, tmp_path / "work") as made:
        yield made


@pytest.fixture(scope="module")
def shared_copy(
    site: Site,
    tables_database: DatabaseConnection,
    tables_backup: StoredBackup,
    drawn: Callable[..., Blueprint],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Copy]:
    """A copy for all tests of a module, which leave it as it was."""
    with new_copy(site, tables_database, tables_backup, drawn, tmp_path_factory.mktemp("work")) as made:
        yield made


def only_error(work: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        work()
    return str(caught.value)
