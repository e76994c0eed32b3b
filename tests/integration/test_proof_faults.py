"""Whatever differs in a restored copy makes the proof red, and is named: one fault at a time, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from threading import Event

import pytest

from include.backup.archive.reader import ArchiveReader
from include.backup.errors import ScratchError
from include.backup.postgres.session import connect
from include.backup.proof.globals import NOT_CARRIED
from include.backup.proof.loading import Loaded
from include.backup.proof.recomputed import RECOMPUTED_COLUMNS, RECOMPUTED_VIEWS
from include.backup.proof.record import Level, Method, Proof, Result
from include.backup.proof.scratch import ScratchServer
from tests.support.proofs import KeptRestore, StoredBackup, fault_after_load, run_sql

pytest_plugins = ["tests.support.proof_fixtures"]


@dataclass(frozen=True)
class Fault:
    """SQL that changes a restored copy, and what the proof must name: kinds and names, all of them."""

    sql: str
    named: frozenset[tuple[str, str]]
    undo: str = ""


def fault(sql: str, *named: tuple[str, str], undo: str = "") -> Fault:
    return Fault(sql, frozenset(named), undo)


ORDERS = ("rows", "shop.orders")
FAULTS = {
    "one row changed": fault("UPDATE shop.orders SET quantity = quantity + 1 WHERE id = 7", ORDERS),
    "one letter of one row changed": fault(
        "UPDATE shop.there SET what = 'There 77' WHERE id = 77", ("rows", "shop.there")
    ),
    "one value became null": fault("UPDATE shop.orders SET took = NULL WHERE id = 9", ORDERS),
    "one row dropped": fault("DELETE FROM shop.orders WHERE id = 300", ORDERS),
    "one row added": fault("INSERT INTO shop.empty VALUES (1, 'a')", ("rows", "shop.empty")),
    "one row duplicated": fault("INSERT INTO shop.twins VALUES (1)", ("rows", "shop.twins")),
    "one of many equal rows dropped": fault(
        "DELETE FROM shop.twins WHERE ctid = (SELECT min(ctid) FROM shop.twins)", ("rows", "shop.twins")
    ),
    "two equal rows became two other equal rows": fault(
        "UPDATE shop.twins SET value = 1 WHERE ctid IN (SELECT ctid FROM shop.twins WHERE value = 0 LIMIT 2)",
        ("rows", "shop.twins"),
    ),
    "two rows swapped between tables": fault(
        "UPDATE shop.here SET what = 'there 5' WHERE id = 5; UPDATE shop.there SET what = 'here 5' WHERE id = 5",
        ("rows", "shop.here"),
        ("rows", "shop.there"),
    ),
    "two values swapped between rows": fault(
        "UPDATE shop.here SET what = 'here ' || CASE id WHEN 5 THEN 6 ELSE 5 END WHERE id IN (5, 6)",
        ("rows", "shop.here"),
    ),
    "all rows gone": fault("TRUNCATE shop.days", ("rows", "shop.days_2024")),
    "one row of a partitioned table changed": fault(
        "UPDATE shop.moods SET note = 1000 WHERE note = 10", ("rows", "shop.moods")
    ),
    "one row of a partitioned table dropped": fault("DELETE FROM shop.moods WHERE note = 10", ("rows", "shop.moods")),
    "table gone": fault("DROP TABLE shop.empty", ("rows", "shop.empty"), ("TABLE", "shop.empty")),
    "table added": fault(
        "CREATE TABLE shop.extra (); ALTER TABLE shop.extra OWNER TO proof_owner", ("TABLE", "shop.extra")
    ),
    "table has another owner": fault("ALTER TABLE shop.empty OWNER TO proof_app", ("TABLE", "shop.empty")),
    "table belongs to whoever restored it": fault(
        "ALTER TABLE shop.sizes OWNER TO pulse_scratch_admin", ("TABLE", "shop.sizes")
    ),
    "column added": fault("ALTER TABLE shop.empty ADD COLUMN more integer", ("TABLE", "shop.empty")),
    "sequence at another value": fault("SELECT setval('shop.numbers', 255)", ("SEQUENCE", "shop.numbers")),
    "sequence that was never called was called": fault(
        "SELECT nextval('shop.untouched')", ("SEQUENCE", "shop.untouched")
    ),
    "sequence of an identity column at another value": fault(
        "SELECT setval('shop.customers_id_seq', 1)", ("SEQUENCE", "shop.customers_id_seq")
    ),
    "sequence has another step": fault("ALTER SEQUENCE shop.numbers INCREMENT 6", ("SEQUENCE", "shop.numbers")),
    "sequence gone": fault("DROP SEQUENCE shop.untouched", ("SEQUENCE", "shop.untouched")),
    "index gone": fault("DROP INDEX shop.customers_name", ("INDEX", "shop.customers_name")),
    "index on another expression": fault(
        "DROP INDEX shop.customers_name; CREATE INDEX customers_name ON shop.customers (upper(name))",
        ("INDEX", "shop.customers_name"),
    ),
    "index without its condition": fault(
        "DROP INDEX shop.orders_placed; CREATE INDEX orders_placed ON shop.orders (placed)",
        ("INDEX", "shop.orders_placed"),
    ),
    "index not valid": fault(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_placed'::regclass",
        ("INDEX", "shop.orders_placed"),
        ("check", "common/indexes_are_valid"),
    ),
    "policy gone": fault("DROP POLICY readers ON shop.customers", ("POLICY", "shop.customers readers")),
    "policy lets more through": fault(
        "ALTER POLICY readers ON shop.customers USING (true)", ("POLICY", "shop.customers readers")
    ),
    "row security off": fault(
        "ALTER TABLE shop.customers DISABLE ROW LEVEL SECURITY", ("ROW SECURITY", "shop.customers")
    ),
    "row security not forced": fault(
        "ALTER TABLE shop.customers NO FORCE ROW LEVEL SECURITY", ("TABLE", "shop.customers")
    ),
    "grant gone": fault("REVOKE SELECT ON shop.orders FROM proof_reader", ("ACL", "shop.TABLE orders")),
    "grant added": fault("GRANT DELETE ON shop.orders TO PUBLIC", ("ACL", "shop.TABLE orders")),
    "grant on a column gone": fault(
        "REVOKE UPDATE (quantity) ON shop.orders FROM proof_reader", ("ACL", "shop.COLUMN orders.quantity")
    ),
    "grant on a schema gone": fault("REVOKE USAGE ON SCHEMA shop FROM proof_reader", ("ACL", "SCHEMA shop")),
    "default privileges gone": fault(
        "ALTER DEFAULT PRIVILEGES FOR ROLE proof_owner IN SCHEMA shop REVOKE SELECT ON TABLES FROM proof_reader",
        ("DEFAULT ACL", "shop.DEFAULT PRIVILEGES FOR TABLES"),
    ),
    "function with another body": fault(
        "CREATE OR REPLACE FUNCTION shop.total(quantity integer, price shop.amount) RETURNS numeric"
        " LANGUAGE sql IMMUTABLE AS $$ SELECT quantity * price + 0 $$",
        ("FUNCTION", "shop.total(integer, shop.amount)"),
    ),
    "function runs with its owner's rights": fault(
        "ALTER FUNCTION shop.stamp() SECURITY DEFINER", ("FUNCTION", "shop.stamp()")
    ),
    "default changed": fault("ALTER TABLE shop.orders ALTER quantity SET DEFAULT 2", ("TABLE", "shop.orders")),
    "default of a serial column gone": fault(
        "ALTER TABLE shop.orders ALTER id DROP DEFAULT", ("DEFAULT", "shop.orders id")
    ),
    "not null gone": fault("ALTER TABLE shop.customers ALTER name DROP NOT NULL", ("TABLE", "shop.customers")),
    "comment changed": fault("COMMENT ON TABLE shop.orders IS 'Other'", ("COMMENT", "shop.TABLE orders")),
    "comment gone": fault("COMMENT ON COLUMN shop.orders.quantity IS NULL", ("COMMENT", "shop.COLUMN orders.quantity")),
    "trigger gone": fault("DROP TRIGGER stamp ON shop.customers", ("TRIGGER", "shop.customers stamp")),
    "trigger off": fault("ALTER TABLE shop.customers DISABLE TRIGGER stamp", ("TRIGGER", "shop.customers stamp")),
    "rule gone": fault("DROP RULE no_delete ON shop.here", ("RULE", "shop.here no_delete")),
    "foreign key gone": fault(
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_customer", ("FK CONSTRAINT", "shop.orders orders_customer")
    ),
    "foreign key not validated": fault(
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'orders_customer'",
        ("FK CONSTRAINT", "shop.orders orders_customer"),
    ),
    "primary key gone": fault(
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey", ("CONSTRAINT", "shop.orders orders_pkey")
    ),
    "check gone": fault("ALTER TABLE shop.customers DROP CONSTRAINT name_is_short", ("TABLE", "shop.customers")),
    "domain without its check": fault(
        "ALTER DOMAIN shop.amount DROP CONSTRAINT amount_is_not_negative", ("DOMAIN", "shop.amount")
    ),
    "label added to an enum": fault("ALTER TYPE shop.mood ADD VALUE 'angry'", ("TYPE", "shop.mood")),
    "view shows more": fault(
        "CREATE OR REPLACE VIEW shop.happy AS SELECT id, name FROM shop.customers", ("VIEW", "shop.happy")
    ),
    "materialized view not filled": fault(
        "REFRESH MATERIALIZED VIEW shop.totals WITH NO DATA", ("MATERIALIZED VIEW", "shop.totals")
    ),
    "materialized view filled": fault("REFRESH MATERIALIZED VIEW shop.later", ("MATERIALIZED VIEW", "shop.later")),
    "statistics gone": fault("DROP STATISTICS shop.orders_statistics", ("STATISTICS", "shop.orders_statistics")),
    "publication without its table": fault(
        "ALTER PUBLICATION feed DROP TABLE shop.orders", ("PUBLICATION TABLE", "shop.feed orders")
    ),
    "extension gone": fault(
        "DROP EXTENSION postgres_fdw CASCADE",
        ("EXTENSION", "postgres_fdw"),
        ("COMMENT", "EXTENSION postgres_fdw"),
        ("SERVER", "far"),
        ("USER MAPPING", "USER MAPPING proof_app SERVER far"),
    ),
    "password of a user mapping changed": fault(
        "ALTER USER MAPPING FOR proof_app SERVER far OPTIONS (SET password 'canary-other')",
        ("USER MAPPING", "USER MAPPING proof_app SERVER far"),
    ),
    "large object with other bytes": fault("SELECT lo_put(70001, 0, '\\x01')", ("large object", "70001")),
    "large object gone": fault(
        "SELECT lo_unlink(70002)", ("large object", "70002"), ("BLOB METADATA", "70002"), ("ACL", "LARGE OBJECT 70002")
    ),
    "large object added": fault(
        "SELECT lo_from_bytea(70003, 'x'); ALTER LARGE OBJECT 70003 OWNER TO proof_owner",
        ("large object", "70003"),
        ("BLOB METADATA", "70003"),
    ),
    "empty large object no longer empty": fault("SELECT lo_put(70002, 0, 'x')", ("large object", "70002")),
    "database setting changed": fault(
        "ALTER DATABASE proof_source SET work_mem = '16MB'", ("DATABASE PROPERTIES", "proof_source")
    ),
    "database setting with a secret changed": fault(
        "ALTER DATABASE proof_source SET \"app.jwt_secret\" = 'canary-other'",
        ("DATABASE PROPERTIES", "proof_source"),
    ),
    "database setting gone": fault(
        "ALTER DATABASE proof_source RESET work_mem", ("DATABASE PROPERTIES", "proof_source")
    ),
    "role's setting in the database gone": fault(
        "ALTER ROLE proof_app IN DATABASE proof_source RESET work_mem", ("DATABASE PROPERTIES", "proof_source")
    ),
    "grant on the database gone": fault(
        "REVOKE CONNECT ON DATABASE proof_source FROM proof_reader", ("ACL", "DATABASE proof_source")
    ),
    "comment on the database gone": fault(
        "COMMENT ON DATABASE proof_source IS NULL", ("COMMENT", "DATABASE proof_source")
    ),
    "membership gone": fault(
        "REVOKE proof_reader FROM proof_app",
        ("ROLE", "GRANT proof_reader TO proof_app WITH INHERIT TRUE"),
        undo="GRANT proof_reader TO proof_app",
    ),
    "setting of a role changed": fault(
        "ALTER ROLE proof_app SET statement_timeout = '8s'",
        ("ROLE", "ALTER ROLE proof_app SET statement_timeout TO '…'"),
        undo="ALTER ROLE proof_app SET statement_timeout = '7s'",
    ),
    "role may log in": fault(
        "ALTER ROLE proof_reader LOGIN",
        (
            "ROLE",
            "ALTER ROLE proof_reader WITH "
            "NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS",
        ),
        (
            "ROLE",
            "ALTER ROLE proof_reader WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS",
        ),
        undo="ALTER ROLE proof_reader NOLOGIN",
    ),
    "role added": fault(
        "CREATE ROLE proof_intruder",
        ("ROLE", "CREATE ROLE proof_intruder"),
        (
            "ROLE",
            "ALTER ROLE proof_intruder WITH "
            "NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS",
        ),
        undo="DROP ROLE proof_intruder",
    ),
}
# With 15, and through the whole path with its own scratch server; names that differ there are left to 17.
CORE = (
    "one row changed",
    "one row dropped",
    "two rows swapped between tables",
    "sequence at another value",
    "index gone",
    "policy lets more through",
    "grant gone",
    "function with another body",
    "default changed",
    "comment gone",
    "trigger off",
    "check gone",
    "database setting changed",
    "large object with other bytes",
)
WHOLE = ("one row changed", "policy gone")


def named(proof: Proof) -> frozenset[tuple[str, str]]:
    return frozenset((difference.what, difference.name) for difference in proof.differences)


def assert_red(proof: Proof, expected: Fault) -> None:
    assert proof.result is Result.FAILED
    assert named(proof) == expected.named, [str(difference) for difference in proof.differences]
    assert "canary" not in proof.to_json().decode()
    for table in proof.tables:
        assert table.identical == (("rows", table.table) not in expected.named)


def test_an_honest_copy_passes(kept: KeptRestore) -> None:
    for proof in (kept.honest, kept.prove()):
        assert [str(difference) for difference in proof.differences] == []
        assert proof.result is Result.PASSED
        assert proof.level is Level.COMPLETE
        assert set(proof.not_proven) == {NOT_CARRIED, RECOMPUTED_COLUMNS, RECOMPUTED_VIEWS}
        assert proof.rows == kept.backup.manifest.rows == sum(table.rows_expected for table in proof.tables)
        assert (proof.sequences, proof.large_objects) == (4, 2)
        assert {table.method for table in proof.tables} == {Method.STREAM, Method.MULTISET}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_copy_is_red_and_named(kept: KeptRestore, name: str) -> None:
    assert_red(kept.prove(FAULTS[name].sql, undo=FAULTS[name].undo), FAULTS[name])


@pytest.mark.postgres15
@pytest.mark.parametrize("name", CORE)
def test_a_fault_is_red_and_named_on_postgresql_15(kept15: KeptRestore, name: str) -> None:
    assert kept15.honest.result is Result.PASSED
    assert kept15.honest.server_version.startswith("15.")
    assert_red(kept15.prove(FAULTS[name].sql, undo=FAULTS[name].undo), FAULTS[name])


@pytest.mark.parametrize("name", WHOLE)
def test_a_fault_between_load_and_comparison_is_red_with_a_server_of_its_own(backup: StoredBackup, name: str) -> None:
    with fault_after_load(lambda scratch, database: run_sql(scratch, database, FAULTS[name].sql)):
        assert_red(backup.prove(), FAULTS[name])


BLOCKED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name = %s AND cardinality(pg_blocking_pids(pid)) > 0
"""


def end_first(scratch: ScratchServer, database: str, locking: str, name: str, locked: Event) -> None:
    """Hold a lock until a session of this name waits for it, and end that session, as an impatient administrator."""
    deadline = time.monotonic() + 60
    admin = scratch.admin.on(database)
    with connect(admin) as watcher, connect(admin) as holder, holder.transaction(force_rollback=True):
        holder.execute(locking.encode())
        locked.set()
        while not watcher.execute(BLOCKED, (name,)).fetchall() and time.monotonic() < deadline:
            time.sleep(0.02)


@contextmanager
def ended(kept: KeptRestore, monkeypatch: pytest.MonkeyPatch, name: str, locking: str) -> Iterator[None]:
    """Let the next comparison's first session of a tool that needs what is locked be ended."""
    locked, real = Event(), kept.copy
    with ThreadPoolExecutor(1) as pool:

        def copy(fault: str) -> Loaded:
            loaded = real(fault)
            pool.submit(end_first, kept._scratch, loaded.database, locking, name, locked)
            assert locked.wait(30)
            return loaded

        monkeypatch.setattr(kept, "copy", copy)
        yield


@pytest.mark.parametrize(
    ("name", "locking"),
    [("psql", "LOCK TABLE shop.sizes IN ACCESS EXCLUSIVE MODE"), ("pg_dump", "DROP VIEW shop.happy")],
)
def test_a_server_that_fails_under_the_comparison_says_nothing_of_the_backup(
    kept: KeptRestore, monkeypatch: pytest.MonkeyPatch, name: str, locking: str
) -> None:
    with ended(kept, monkeypatch, name, locking), pytest.raises(ScratchError, match="retry"):
        kept.prove()


def test_a_full_disk_under_the_archive_says_nothing_of_the_backup(
    kept: KeptRestore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(ArchiveReader, "fetch_all", full)
    with pytest.raises(ScratchError, match="No space left on device"):
        kept.prove()
