"""What may differ without being a fault: settings of the source, the order of rows, leaves of hash partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from psycopg import sql

from include.backup.proof.record import Method, Proof, Result
from tests.support.proof_source import Site
from tests.support.proofs import Arena, BackUp, KeptRestore, StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]

# The first five change the text of timestamps, bytea, intervals and floats; the others hinder whoever obeys them.
SETTINGS = {
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "escape_string_warning": "off",
    "search_path": "shop",
    "statement_timeout": "100ms",
}


@contextmanager
def settings_of(site: Site, target: sql.Composable) -> Iterator[None]:
    """Set them for a database or a role, and reset them afterwards."""
    with site.session("postgres") as connection:
        for name, value in SETTINGS.items():
            connection.execute(sql.SQL("ALTER {} SET {} = {}").format(target, sql.Identifier(name), sql.Literal(value)))
        try:
            yield
        finally:
            for name in SETTINGS:
                connection.execute(sql.SQL("ALTER {} RESET {}").format(target, sql.Identifier(name)))


def shown(site: Site) -> object:
    """Return a row as a session sees it that obeys the settings."""
    with site.session("proof_source", obedient=True) as connection:
        return connection.execute("SELECT placed::text, raw::text, took::text FROM shop.orders WHERE id = 7").fetchone()


def contents(backup: StoredBackup) -> dict[str, str]:
    return {f"{table.schema}.{table.table}": table.content_sha256 for table in backup.manifest.table_data}


def assert_green(proof: Proof) -> None:
    assert [str(difference) for difference in proof.differences] == []
    assert proof.result is Result.PASSED


@pytest.mark.parametrize("of", ["DATABASE proof_source", "ROLE {}", "ROLE {} IN DATABASE proof_source"])
def test_settings_of_the_source_change_neither_dump_nor_proof(
    site: Site, back_up: BackUp, backup: StoredBackup, arena: Arena, of: str
) -> None:
    target = sql.SQL(of).format(sql.Identifier(site.connection.user))
    with settings_of(site, target):
        other = back_up(replace(site.connection, dbname="proof_source"))
        changed = shown(site)
    assert shown(site) != changed
    assert contents(other) == contents(backup)
    assert other.manifest.dump.session == backup.manifest.dump.session
    assert_green(arena.prove(other))


def method(proof: Proof, table: str) -> Method:
    (found,) = (item.method for item in proof.tables if item.table == table)
    return found


def test_rows_in_another_order_are_no_fault(kept: KeptRestore) -> None:
    proof = kept.prove(
        "CREATE TEMP TABLE rows AS SELECT * FROM shop.here ORDER BY id DESC;"
        "ALTER TABLE shop.here DISABLE RULE no_delete; TRUNCATE shop.here;"
        "INSERT INTO shop.here SELECT * FROM rows; ALTER TABLE shop.here ENABLE RULE no_delete"
    )
    assert_green(proof)
    assert method(proof, "shop.here") is Method.MULTISET
    assert method(proof, "shop.there") is Method.STREAM


def test_rows_of_very_different_size_that_moved_are_no_fault(kept: KeptRestore) -> None:
    """A small row fills the room that a big one left on an earlier page."""
    proof = kept.prove(
        "UPDATE shop.sizes SET id = id WHERE length(filling) > 100; UPDATE shop.sizes SET id = id WHERE id < 20"
    )
    assert_green(proof)
    assert method(proof, "shop.sizes") is Method.MULTISET


def test_equal_rows_count_each(kept: KeptRestore) -> None:
    """With a sum every one counts; with XOR a pair of equal rows would vanish."""
    proof = kept.prove("UPDATE shop.twins SET value = 2 - value WHERE value <> 1")
    assert_green(proof)
    assert method(proof, "shop.twins") is Method.MULTISET


def test_leaves_of_a_hash_partitioned_table_are_compared_at_their_root(kept: KeptRestore) -> None:
    """The hash of an enum's value is that of its number, which every restore gives anew."""
    assert method(kept.honest, "shop.moods") is Method.MULTISET
    assert {table.table for table in kept.honest.tables if "moods" in table.table} == {"shop.moods"}
    (moods,) = (table for table in kept.honest.tables if table.table == "shop.moods")
    assert moods.rows_expected == moods.rows_restored == 60
    assert method(kept.honest, "shop.days_2024") is Method.STREAM


@pytest.mark.postgres15
def test_leaves_of_a_hash_partitioned_table_on_postgresql_15(kept15: KeptRestore) -> None:
    assert method(kept15.honest, "shop.moods") is Method.MULTISET
    assert_green(kept15.honest)
