"""One table through several COPY streams, against a real server: whole, or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from psycopg import sql

from include.backup.archive.reader import ArchiveReader
from include.backup.cli.output import Phases
from include.backup.connections import DatabaseConnection
from include.backup.errors import ArchiveError, BackupError, MemberHashError, RestoreError
from include.backup.manifest import Member
from include.backup.postgres.finishing import finish
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest, multiset_digest
from include.backup.proof.record import Method
from include.backup.proof.rows import RowComparer
from include.backup.restore import tables as tables_module
from include.backup.restore.progress import Counter
from include.backup.restore.tables import TableLoader, archive_tasks
from tests.support.proof_source import Site
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]

LARGE = "shop.here"
TARGET = "streamed"


@pytest.fixture
def empty(
    site: Site, proof_database: DatabaseConnection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseConnection]:
    """A database with the tables of the source and no rows; even small tables are split."""
    monkeypatch.setattr(tables_module, "SPLIT_BYTES", 1)
    with site.session("postgres") as session:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(TARGET), sql.Identifier(proof_database.dbname)
            )
        )
    try:
        with site.session(TARGET) as session:
            session.execute("TRUNCATE shop.here, shop.there")
        yield replace(proof_database, dbname=TARGET)
    finally:
        with site.session("postgres") as session:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(TARGET)))


def load(backup: StoredBackup, target: DatabaseConnection, *, jobs: int = 3) -> dict[str, MultisetDigest]:
    digests: dict[str, MultisetDigest] = {}
    wanted = backup.data_member(LARGE)
    tasks = archive_tasks(backup.manifest, backup.toc, target)
    TableLoader(
        reader=ArchiveReader(backup.store, backup.manifest),
        endpoint=target,
        manifest=backup.manifest,
        tasks=[task for task in tasks if task.member.name == wanted.name],
        jobs=jobs,
        counter=Counter(Phases()),
        digests=digests,
    ).load()
    return digests


def rows(site: Site) -> MultisetDigest:
    with site.session(TARGET) as session, session.cursor().copy(f"COPY {LARGE} TO STDOUT") as copy:
        return multiset_digest(bytes(chunk) for chunk in copy)


def test_the_rows_are_those_that_were_dumped_in_whatever_order(
    backup: StoredBackup, empty: DatabaseConnection, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.restore.streams.TURN_BYTES", 1000)
    digests = load(backup, empty)
    assert rows(site) == digests[backup.data_member(LARGE).name]
    assert rows(site).rows == 5000


@pytest.mark.parametrize("fault", ["hash", "end", "rows", "lines", "value"])
def test_a_table_that_is_not_right_is_not_there_at_all(
    backup: StoredBackup, empty: DatabaseConnection, site: Site, fault: str
) -> None:
    name = backup.data_member(LARGE).name
    whole = backup.stored(name)
    forged: StoredBackup
    kind: type[BackupError]
    if fault == "hash":
        forged, kind = backup.with_member(name, stored_sha256="0" * 64), MemberHashError
    elif fault == "end":
        forged, kind = backup.repacked({name: whole[:-20]}, rehashed=True), ArchiveError
    elif fault == "rows":
        table = replace(backup.data_member(LARGE).table_data, rows=4999)  # type: ignore[type-var]
        forged, kind = backup.with_member(name, table_data=table), RestoreError
    elif fault == "lines":
        table = replace(backup.data_member(LARGE).table_data, content_sha256="0" * 64)  # type: ignore[type-var]
        forged, kind = backup.with_member(name, table_data=table), MemberHashError
    else:
        with site.session(TARGET) as session:
            session.execute("ALTER TABLE shop.here ADD CHECK (id < 4990)")
        forged, kind = backup, RestoreError
    with pytest.raises(kind) as caught:
        load(forged, empty)
    assert "4990" not in str(caught.value)
    assert rows(site).rows == 0
    assert sessions(site) == 0


def sessions(site: Site) -> int:
    with site.session("postgres") as session:
        row = session.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = %s AND state <> 'idle' AND backend_type = 'client backend'",
            (TARGET,),
        ).fetchone()
    return int(row[0]) if row else 0


def test_nothing_is_left_running_when_the_loading_is_stopped(
    backup: StoredBackup, empty: DatabaseConnection, site: Site
) -> None:
    """Another session holds the table, so that every stream waits."""
    wanted = backup.data_member(LARGE)
    with site.session(TARGET) as other, other.transaction():
        other.execute("LOCK TABLE shop.here IN ACCESS EXCLUSIVE MODE")
        loader = TableLoader(
            reader=ArchiveReader(backup.store, backup.manifest),
            endpoint=empty,
            manifest=backup.manifest,
            tasks=[t for t in archive_tasks(backup.manifest, backup.toc, empty) if t.member.name == wanted.name],
            jobs=3,
            counter=Counter(Phases()),
        )
        with pytest.raises(RuntimeError, match="left early"), loader.loading():
            raise RuntimeError("left early")
    assert rows(site).rows == 0


def compared(backup: StoredBackup, target: DatabaseConnection, digests: dict[str, MultisetDigest]) -> list[str]:
    """Compare the loaded table as a restore does, and return what differs; the archive is not read."""

    def unread(_: Member) -> Iterator[bytes]:
        raise AssertionError("the archive was read again")

    wanted = backup.data_member(LARGE)
    comparer = RowComparer(
        runner=Runner(),
        tools=find_tools(17),
        endpoint=target,
        manifest=replace(backup.manifest, members=(wanted,)),
        content=unread,
        jobs=1,
        digests=digests,
    )
    (proof,), differences = comparer.compare(log=lambda _: None)
    assert (proof.method, proof.rows_restored) == (Method.MULTISET, 5000)
    return [difference.detail for difference in differences]


def test_a_table_in_streams_is_compared_by_what_was_read_while_it_was_loaded(
    backup: StoredBackup, empty: DatabaseConnection, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.restore.streams.TURN_BYTES", 1000)
    digests = load(backup, empty)
    assert compared(backup, empty, digests) == []
    with site.session(TARGET) as session:
        session.execute("UPDATE shop.here SET id = -id WHERE id = (SELECT max(id) FROM shop.here)")
    assert compared(backup, empty, digests) == ["all 5000 rows are there but at least one has other content"]


def test_every_table_has_statistics_whatever_its_kind_and_name(empty: DatabaseConnection, site: Site) -> None:
    with site.session(TARGET) as session:
        session.execute("""
            CREATE TABLE public."a ""b" AS SELECT generate_series(1, 9) AS n;
            CREATE TABLE public.parted (n int) PARTITION BY LIST (n);
            CREATE TABLE public.part PARTITION OF public.parted FOR VALUES IN (1);
            INSERT INTO public.parted SELECT 1 FROM generate_series(1, 7);
            CREATE MATERIALIZED VIEW public.viewed AS SELECT * FROM public.parted;
        """)
    finish(empty, jobs=2)
    with site.session(TARGET) as session:
        found = session.execute(
            "SELECT relname, reltuples::int FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relname IN ('a \"b', 'parted', 'part', 'viewed') ORDER BY 1"
        ).fetchall()
        columns = session.execute(
            "SELECT DISTINCT tablename, inherited FROM pg_stats WHERE schemaname = 'public' ORDER BY 1, 2"
        ).fetchall()
    assert found == [('a "b', 9), ("part", 7), ("parted", 7), ("viewed", 7)]
    assert columns == [('a "b', False), ("part", False), ("parted", True), ("viewed", False)]
