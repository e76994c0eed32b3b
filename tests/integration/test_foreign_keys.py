"""Foreign keys come back as they were: checked if they were checked, though none waits for another to be read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.backup.connections import DatabaseConnection
from include.backup.errors import RestoreError
from include.backup.inventory import Standing
from include.backup.postgres.finishing import finish
from include.backup.postgres.foreign_keys import KEY_SETTINGS, add_unchecked, split_keys
from include.backup.postgres.session import connect
from include.backup.postgres.side_by_side import Session, side_by_side
from include.backup.process import Runner
from include.backup.proof.record import Result
from include.backup.restore.plan import RestoreRequest, plan_restore
from include.backup.restore.progress import LogProgress
from include.backup.restore.restore import RestoreReport, restore
from include.backup.restore.target import Target
from tests.support.proof_source import SQL, Site
from tests.support.proofs import BackUp, StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]

LOG = logging.getLogger("tests.foreign_keys")
COPY = "keyed_copy"
UNCHECKED = ["stays_unchecked"]
KEYS = """
SELECT conname, conrelid::regclass::text, convalidated, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
  FROM pg_constraint WHERE contype = 'f' ORDER BY 2, 1
"""


@pytest.fixture(scope="module")
def keyed(site: Site) -> Iterator[DatabaseConnection]:
    with site.database("keyed", SQL / "foreign_keys.sql") as database:
        yield database


@pytest.fixture(scope="module")
def keyed_backup(keyed: DatabaseConnection, back_up: BackUp) -> StoredBackup:
    return back_up(keyed)


@pytest.fixture
def copy(site: Site, keyed: DatabaseConnection) -> Iterator[Target]:
    """Where a restore may make its database; it goes afterwards."""
    target = Target(replace(keyed, dbname="postgres"), database=COPY)
    try:
        yield target
    finally:
        target.drop()


def bring_back(backup: StoredBackup, target: Target, folder: Path, *, compare: bool = True) -> RestoreReport:
    request = RestoreRequest(
        store=backup.store,
        manifest=backup.manifest,
        standing=Standing.PROVEN,
        proofs=(),
        target=target,
        sources=(),
        create=True,
        with_roles=False,
        unproven=False,
        compare=compare,
        jobs=2,
    )
    return restore(plan_restore(request), runner=Runner(log=LOG), log=LOG, progress=LogProgress(LOG), work_root=folder)


def keys(site: Site, database: str) -> list[Any]:
    with site.session(database) as session:
        return session.execute(KEYS).fetchall()


def test_every_key_of_a_restored_copy_is_as_it_was(
    site: Site, keyed: DatabaseConnection, keyed_backup: StoredBackup, copy: Target, tmp_path: Path
) -> None:
    report = bring_back(keyed_backup, copy, tmp_path)
    assert report.compared is not None
    found = keys(site, COPY)
    assert found == keys(site, keyed.dbname)
    assert [name for name, _, checked, _, _ in found if not checked] == UNCHECKED
    assert "A remark on a key" in [remark for *_, remark in found]


def test_no_key_sets_an_event_trigger_off(site: Site, keyed_backup: StoredBackup, copy: Target, tmp_path: Path) -> None:
    bring_back(keyed_backup, copy, tmp_path)
    with site.session(COPY) as session:
        assert session.execute("SELECT command FROM keyed.noticed").fetchall() == []
        session.execute("CREATE TABLE keyed.new ()")
        assert session.execute("SELECT command FROM keyed.noticed").fetchall() == [("CREATE TABLE",)]


def test_a_proof_finds_the_keys_equal(keyed_backup: StoredBackup) -> None:
    proof = keyed_backup.prove()
    assert (proof.result, proof.differences) == (Result.PASSED, ())


def test_rows_that_break_a_key_are_found_and_no_row_is_told(
    site: Site, keyed: DatabaseConnection, back_up: BackUp, copy: Target, tmp_path: Path
) -> None:
    with site.session(keyed.dbname) as session:
        session.execute("SET session_replication_role = replica")
        session.execute("UPDATE keyed.rooms SET owner = 4711 WHERE id = 3")
        try:
            broken = back_up(keyed)
        finally:
            session.execute("UPDATE keyed.rooms SET owner = 3 WHERE id = 3")
    with pytest.raises(RestoreError, match=r'table "rooms" violates foreign key constraint') as caught:
        bring_back(broken, copy, tmp_path, compare=False)
    assert "4711" not in str(caught.value)
    proof = broken.prove()
    assert proof.result is Result.FAILED
    assert 'table "rooms" violates foreign key constraint' in str(proof.differences)


def test_keys_of_one_referenced_table_are_checked_side_by_side(
    site: Site, keyed_backup: StoredBackup, keyed: DatabaseConnection
) -> None:
    """Whoever reads one table's rows for one key keeps no other table's key from being checked."""
    with site.database("keyed_again", SQL / "foreign_keys.sql") as database:
        with site.session(database.dbname) as session:
            session.execute("DROP EVENT TRIGGER keyed_notice")
            for name, table, checked, definition, _ in keys(site, database.dbname):
                if checked and not definition.startswith("FOREIGN KEY (day)") and "days" not in table:
                    session.execute(
                        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.SQL(table), sql.Identifier(name))
                    )
        wanted = split_keys(keyed_backup.toc.entries).keys
        with connect(database, settings=KEY_SETTINGS) as session:
            found, refused = add_unchecked(session, wanted)
        assert (len(found), refused) == (len(wanted), ())
        with psycopg.connect(**database.libpq_parameters(), password=str(database.password)) as busy:
            # What VALIDATE of a key of users holds while it reads: all others have to get by.
            busy.execute("LOCK TABLE ONLY keyed.users IN SHARE UPDATE EXCLUSIVE MODE")
            busy.execute("LOCK TABLE ONLY keyed.rooms IN ROW SHARE MODE")
            mine = [key for key in found if "keyed.users " not in key.check]
            finish(database, jobs=2, keys=mine, statistics=False, settings={"lock_timeout": "5s"})
        unchecked = {name for name, _, checked, _, _ in keys(site, database.dbname) if not checked}
    assert unchecked == {*UNCHECKED, "users_favourite_fkey"}


def test_a_key_whose_parts_would_stay_unchecked_is_left_to_be_made_checked(
    site: Site, keyed_backup: StoredBackup
) -> None:
    (entry,) = (
        entry for entry in keyed_backup.toc.entries if "to_parted" in entry.tag and entry.desc == "FK CONSTRAINT"
    )
    assert entry not in split_keys(keyed_backup.toc.entries).keys
    with site.database("keyed_parted", SQL / "foreign_keys.sql") as database:
        with site.session(database.dbname) as session:
            session.execute("ALTER TABLE keyed.visits DROP CONSTRAINT to_parted")
        before = keys(site, database.dbname)
        with connect(database, settings=KEY_SETTINGS) as session:
            assert add_unchecked(session, [entry]) == ((), (entry,))
        assert keys(site, database.dbname) == before


def test_the_first_work_that_fails_ends_the_others_at_once(keyed: DatabaseConnection) -> None:
    began = threading.Barrier(2)
    ended: list[str] = []

    def sleep(session: Session) -> None:
        began.wait()
        try:
            session.execute("SELECT pg_sleep(300)")
        except psycopg.errors.QueryCanceled:
            ended.append("cancelled")
            raise

    def fail(session: Session) -> None:
        began.wait()
        session.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        side_by_side(keyed, [sleep, fail], jobs=2, settings=KEY_SETTINGS)
    assert ended == ["cancelled"]


def test_what_depends_on_a_key_and_event_triggers_come_last(keyed_backup: StoredBackup) -> None:
    split = split_keys(keyed_backup.toc.entries)
    assert [entry.tag for entry in split.last if entry.desc == "EVENT TRIGGER"] == ["keyed_notice"]
    assert sorted(entry.desc for entry in split.last) == ["COMMENT", "COMMENT", "EVENT TRIGGER"]
    names = ['"table its "parent', '"table room_key', "rooms_owner_fkey", "users_favourite_fkey"]
    assert sorted(entry.tag.partition(" ")[2] for entry in split.keys) == names
