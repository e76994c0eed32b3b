"""What a scratch server cannot take: it is listed, the level says so, and where it counts the proof is red."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import ProofFailedError
from include.backup.postgres.session import connect, query
from include.backup.proof.globals import NOT_CARRIED
from include.backup.proof.loading import ScratchLoader
from include.backup.proof.makers import Makers
from include.backup.proof.record import Level, Proof, Result
from include.backup.steps.restore_test import check_passed
from tests.support.proof_source import Site
from tests.support.proofs import Arena, BackUp, KeptRestore, StoredBackup, run_sql

pytest_plugins = ["tests.support.proof_fixtures"]

# The extension is used by a policy, an index, a function's default and a view, but by no column.
WITHOUT_COLUMNS = """
CREATE SCHEMA extensions;
CREATE EXTENSION fuzzystrmatch SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
CREATE TABLE public.notes (id integer PRIMARY KEY, note text);
INSERT INTO public.notes SELECT n, 'note ' || n FROM generate_series(1, 20) AS n;
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY resembling ON public.notes USING (extensions.levenshtein(note, 'x') < 3);
CREATE INDEX by_trigram ON public.notes USING gin (note extensions.gin_trgm_ops);
CREATE VIEW public.near AS SELECT id FROM public.notes WHERE extensions.levenshtein(note, 'y') < 3;
"""
MISSING_TWO = {
    "EXTENSION fuzzystrmatch is not installed on the scratch server",
    "EXTENSION pg_trgm is not installed on the scratch server",
    "POLICY public.notes resembling depends on an extension that is not installed on the scratch server",
    "INDEX public.by_trigram depends on an extension that is not installed on the scratch server",
    "VIEW public.near depends on an extension that is not installed on the scratch server",
    "COMMENT EXTENSION fuzzystrmatch depends on an extension that is not installed on the scratch server",
    "COMMENT EXTENSION pg_trgm depends on an extension that is not installed on the scratch server",
}
# An extension's own table that pg_dump reads through a condition. An extension's script would make it; here the
# catalog is edited so that an installed extension looks like one that has such a table.
CONFIGURATION = """
CREATE EXTENSION hstore;
CREATE TABLE public.configuration (name text, builtin boolean);
INSERT INTO public.configuration VALUES ('of the extension', true), ('also', true);
ALTER EXTENSION hstore ADD TABLE public.configuration;
"""
OWN_ROWS = """
INSERT INTO public.configuration SELECT 'own ' || n, false FROM generate_series(1, 3) AS n;
UPDATE pg_extension SET extconfig = ARRAY['public.configuration'::regclass::oid],
    extcondition = ARRAY['WHERE NOT builtin'] WHERE extname = 'hstore';
"""


@contextmanager
def lacking(*extensions: str) -> Iterator[None]:
    """Let scratch servers look as if these extensions were not installed."""
    real = ScratchLoader._available_extensions

    def fewer(self: ScratchLoader) -> frozenset[str]:
        return real(self) - set(extensions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScratchLoader, "_available_extensions", fewer)
        yield


@pytest.fixture(scope="module")
def without_two(site: Site, back_up: BackUp) -> Iterator[KeptRestore]:
    """A restore into a server that lacks both extensions."""
    with site.database("proof_levels", WITHOUT_COLUMNS) as database:
        backup = back_up(database)
    with lacking("fuzzystrmatch", "pg_trgm"), KeptRestore.of(backup) as restore:
        yield restore


def gaps(proof: Proof) -> set[str]:
    return set(proof.not_proven) - {NOT_CARRIED}


def test_without_extensions_a_proof_is_of_the_data_and_lists_every_gap(without_two: KeptRestore) -> None:
    proof = without_two.prove(level=Level.DATA)
    assert gaps(proof) == MISSING_TWO
    assert (proof.result, proof.level) == (Result.PASSED, Level.DATA), [str(found) for found in proof.differences]
    (notes,) = proof.tables
    assert (notes.table, notes.rows_restored, notes.identical) == ("public.notes", 20, True)


def test_a_complete_level_is_red_for_each_gap_by_name(without_two: KeptRestore) -> None:
    proof = without_two.prove(level=Level.COMPLETE)
    assert (proof.result, proof.level) == (Result.FAILED, Level.DATA)
    assert {difference.detail for difference in proof.differences} == gaps(proof)
    assert {difference.what for difference in proof.differences} == {"not proven"}
    with pytest.raises(ProofFailedError, match=r"POLICY public\.notes resembling depends on an extension"):
        check_passed(proof)


def test_a_gap_that_the_policy_allows_is_not_red_but_any_other_is(without_two: KeptRestore) -> None:
    everything = tuple(sorted(MISSING_TWO))
    allowed = without_two.prove(allowed_gaps=everything)
    assert gaps(allowed) == MISSING_TWO
    assert (allowed.result, allowed.level) == (Result.PASSED, Level.DATA)
    for gap in everything[:2]:
        other = without_two.prove(allowed_gaps=tuple(set(everything) - {gap}))
        assert [difference.detail for difference in other.differences] == [gap]


def test_rows_that_could_not_be_restored_are_red_at_every_level(backup: StoredBackup, arena: Arena) -> None:
    """A column of the extension's type takes its table with it; nothing stands in for the type."""
    with lacking("hstore"):
        proof = arena.prove(backup, level=Level.DATA, allowed_gaps=("",))
    assert (proof.result, proof.level) == (Result.FAILED, Level.DATA)
    named = {(difference.what, difference.name) for difference in proof.differences}
    assert ("TABLE DATA", "TABLE DATA shop.customers") in named
    assert {name for what, name in named if what == "rows"} == {"shop.customers"}
    assert not next(table for table in proof.tables if table.table == "shop.customers").identical
    assert next(table for table in proof.tables if table.table == "shop.here").identical


def test_an_extension_of_another_version_is_not_complete(kept: KeptRestore) -> None:
    dump = kept.backup.manifest.dump
    extensions = tuple(replace(item, version="0.1") if item.name == "hstore" else item for item in dump.extensions)
    proof = kept.prove_forged(kept.backup.saying(dump=replace(dump, extensions=extensions)))
    assert proof.level is Level.DATA
    (difference,) = proof.differences
    assert difference.detail.startswith("EXTENSION hstore 0.1 was restored as ")


def test_an_extension_that_the_copy_lacks_is_red(kept: KeptRestore) -> None:
    dump = kept.backup.manifest.dump
    extra = replace(dump.extensions[0], name="absent")
    proof = kept.prove_forged(kept.backup.saying(dump=replace(dump, extensions=(*dump.extensions, extra))))
    assert [(found.what, found.name) for found in proof.differences] == [("EXTENSION", "absent")]


def test_a_locale_that_is_not_installed_is_replaced_and_said(backup: StoredBackup, arena: Arena) -> None:
    content = backup.content("dump/toc.dat")
    assert content.count(b"LOCALE = 'C.UTF-8'") == 1
    forged = backup.repacked(
        {"dump/toc.dat": content.replace(b"LOCALE = 'C.UTF-8'", b"LOCALE = 'xx_XX.8'")}, rehashed=True
    )
    proof = arena.prove(forged)
    (difference,) = proof.differences
    assert difference.what == "not proven"
    assert "locale" in difference.detail
    assert "is not installed on the scratch server" in difference.detail
    assert proof.level is Level.DATA
    assert all(table.identical for table in proof.tables)


def test_a_role_whose_name_is_not_ascii_beside_a_database_of_another_encoding(
    site: Site, back_up: BackUp, arena: Arena
) -> None:
    """Names of roles are shared by databases of all encodings; the text of globals.sql is UTF-8."""
    text = "CREATE TABLE t AS SELECT 1 AS one"
    with site.session("postgres") as admin, site.database("proof_latin1", text, encoding="LATIN1") as database:
        admin.execute('CREATE ROLE "jos\u00e9"')
        try:
            backup = back_up(database)
        finally:
            admin.execute('DROP ROLE "jos\u00e9"')
    proof = arena.prove(backup)
    assert [str(difference) for difference in proof.differences] == []
    assert proof.result is Result.PASSED


@contextmanager
def extension_script() -> Iterator[None]:
    """Do in each copy what the script of such an extension would do: make its table, with its own rows."""
    real = ScratchLoader._pre_data

    def with_extensions(self: ScratchLoader, database: str, makers: Makers) -> None:
        real(self, database, makers)
        run_sql(self._scratch, database, CONFIGURATION.replace("CREATE EXTENSION hstore;", ""))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScratchLoader, "_pre_data", with_extensions)
        yield


def test_a_configuration_table_of_an_extension_is_compared_through_its_condition(
    site: Site, back_up: BackUp, arena: Arena
) -> None:
    with site.database("proof_configuration", CONFIGURATION, OWN_ROWS) as database:
        backup = back_up(database)
    (table,) = backup.manifest.table_data
    assert (table.table, table.rows) == ("configuration", 3)
    extensions: tuple[Any, ...] = backup.manifest.dump.extensions
    assert [dict(item.conditions) for item in extensions if item.conditions] == [
        {"public.configuration": "WHERE NOT builtin"}
    ]
    with extension_script():
        proof = arena.prove(backup)
        unaware = tuple(replace(item, conditions={}) for item in extensions)
        without = arena.prove(backup.saying(dump=replace(backup.manifest.dump, extensions=unaware)))
    assert [str(difference) for difference in proof.differences] == []
    assert [str(difference) for difference in without.differences] == [
        "rows public.configuration: 3 rows in the archive, 5 after the restore"
    ]


def test_options_of_user_mappings_that_the_role_may_not_read_are_counted(proof_database: DatabaseConnection) -> None:
    with connect(proof_database) as session:
        (row,) = query(session, "not_carried")
        assert (row["superuser"], row["mappings_without_options"]) == (True, 0)
        session.execute("SET ROLE proof_reader")
        (row,) = query(session, "not_carried")
        assert (row["superuser"], row["mappings_without_options"], row["subscriptions"]) == (False, 1, 0)


def test_an_empty_large_object_is_a_member_of_no_bytes(kept: KeptRestore) -> None:
    """pg_dump 17 writes it as a .zst of 0 bytes, which is no zstd frame."""
    member = kept.backup.manifest.member("dump/blob_70002.dat.zst")
    assert (member.stored_length, member.length) == (0, 0)
    assert kept.honest.large_objects == 2
    assert kept.honest.result is Result.PASSED
