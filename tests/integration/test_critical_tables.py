"""Critical tables: the rows of some tables in one snapshot, with what they need, and none passed over in silence."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.backup.archive.reader import ArchiveReader
from include.backup.connections import DatabaseConnection
from include.backup.copies.look import look_at_copies
from include.backup.errors import CriticalTableMissingError, ProofFailedError, RestoreRefusedError
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.postgres import table_selection
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, read_toc
from include.backup.proof.record import Level, Proof, Result
from include.backup.restore.plan import _check_backup
from include.backup.steps import compress, dump, preflight, upload
from include.backup.steps.context import StepContext
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, run_chain
from tests.support.proof_source import SQL, Site
from tests.support.proofs import StoredBackup, fault_after_load, run_sql

pytest_plugins = ["tests.support.proof_fixtures"]

DATABASE = "critical"
SCRIPT = SQL / "critical_tables.sql"
TABLES = ('Sales Dept.Order "Lines"', "public.events", "public.notes")


@pytest.fixture(scope="module")
def database(site: Site) -> Iterator[DatabaseConnection]:
    with site.database(DATABASE, SCRIPT) as made:
        yield made


@pytest.fixture
def hourly(make_context: ContextMaker, policy_source: SourcePolicy, database: DatabaseConnection) -> Any:
    """Return a function that makes a context for tables of the small database."""
    maker = make_context.on(database)
    return lambda *tables: maker(tier="hourly", source=replace(policy_source, critical_tables=tables or TABLES))


def stored(ctx: StepContext) -> tuple[Manifest, Toc, Proof]:
    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    return manifest, read_toc(ArchiveReader(ctx.store, manifest).read("dump/toc.dat")), proof


def rows(manifest: Manifest) -> dict[str, int]:
    return {f"{item.schema}.{item.table}": item.rows for item in manifest.table_data}


def test_the_policys_tables_are_stored_and_proven_with_what_they_need(make_context: ContextMaker) -> None:
    ctx = make_context(tier="hourly")
    run_chain(ctx)
    manifest, _, proof = stored(ctx)
    assert manifest.archive.key == f"tables/{ctx.backup_id}.tar"
    assert (manifest.kind, manifest.tier, manifest.dump.tables) == ("tables", "hourly", ctx.source.critical_tables)
    assert set(rows(manifest)) == {*ctx.source.critical_tables}
    assert all(rows(manifest).values())
    assert (proof.result, proof.level, proof.differences) == (Result.PASSED, Level.DATA, ())
    assert {table.table for table in proof.tables} == set(ctx.source.critical_tables)
    assert all(table.identical for table in proof.tables)
    keys = "FK CONSTRAINT public.users users_id_fkey refers to auth.users, whose rows are not in this archive"
    assert keys in proof.not_proven
    assert any("the rows of all tables but public.users, public.messages" in text for text in proof.not_proven)
    assert proof.schema_lines > 500


def test_children_odd_names_and_sequences_are_in_it_and_nothing_else(hourly: Any) -> None:
    ctx = hourly()
    run_chain(ctx)
    manifest, toc, proof = stored(ctx)
    assert rows(manifest) == {
        'Sales Dept.Order "Lines"': 400,
        "public.events_2025_0": rows(manifest)["public.events_2025_0"],
        "public.events_2025_1": rows(manifest)["public.events_2025_1"],
        "public.events Rest": 240,
        "public.notes": 20,
        "public.pinned_notes": 10,
    }
    assert sum(rows(manifest).values()) == 400 + 300 + 30
    sequences = {entry.tag for entry in toc.entries if entry.desc == "SEQUENCE SET"}
    assert sequences == {'Order "Lines"_id_seq', "shared_numbers"}
    assert not any(entry.is_large_objects or entry.desc == "MATERIALIZED VIEW DATA" for entry in toc.entries)
    assert (proof.result, proof.sequences, proof.rows) == (Result.PASSED, 2, 730)
    foreign = [text for text in proof.not_proven if text.startswith("FK CONSTRAINT")]
    assert foreign == [
        'FK CONSTRAINT Sales Dept.Order "Lines" Order "Lines"_region_fkey refers to public.regions, '
        "whose rows are not in this archive"
    ]


def test_one_row_of_difference_is_red(hourly: Any) -> None:
    ctx = hourly("public.notes")
    with (
        fault_after_load(lambda scratch, name: run_sql(scratch, name, "DELETE FROM public.pinned_notes WHERE id = 25")),
        pytest.raises(ProofFailedError, match=r"10 rows in the archive, 9 after the restore"),
    ):
        run_chain(ctx)


def test_an_object_that_the_tables_do_not_name_is_compared_too(hourly: Any) -> None:
    ctx = hourly("public.notes")
    with (
        fault_after_load(lambda scratch, name: run_sql(scratch, name, "DROP SEQUENCE public.unrelated")),
        pytest.raises(ProofFailedError, match=r"SEQUENCE public\.unrelated"),
    ):
        run_chain(ctx)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("public.orders", "the critical table public.orders does not exist"),
        ("public.Events", r"public\.Events does not exist \(there is public\.events"),
        ('Sales Dept."Order ""Lines"""', r'there is Sales Dept\.Order "Lines"\)'),
        ('sales dept.order "lines"', r'there is Sales Dept\.Order "Lines"\)'),
        ("public.open_lines", "public.open_lines is a view, no table"),
        ("public.totals", "public.totals is a materialized view, no table"),
        ("public.shared_numbers", "public.shared_numbers is a sequence, no table"),
        ("nowhere.events", r"nowhere\.events does not exist \(there is public\.events"),
    ],
)
def test_a_table_that_is_not_there_is_an_error_that_names_it(hourly: Any, table: str, words: str) -> None:
    ctx = hourly("public.notes", table)
    with pytest.raises(CriticalTableMissingError, match=words) as caught:
        preflight.run(ctx)
    assert "Nothing was backed up: correct critical_tables in the policy" in str(caught.value)
    with pytest.raises(CriticalTableMissingError, match=words):
        dump.run(ctx)
    assert not ctx.manifest_is_stored()


def test_all_that_is_missing_is_named_at_once(hourly: Any) -> None:
    with pytest.raises(CriticalTableMissingError, match=r"public\.gone_a does not.*public\.gone_b does not"):
        preflight.run(hourly("public.gone_a", "public.notes", "public.gone_b"))


def test_a_table_that_is_renamed_after_preflight_is_named(
    hourly: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename commits between the look at the catalogue and pg_dump's snapshot; the second look finds it."""
    ctx = hourly("public.noise", "public.notes")
    preflight.run(ctx)
    real, calls = table_selection.select_tables, []

    def select(*arguments: Any) -> Any:
        found = real(*arguments)
        if not calls:
            with site.session(DATABASE) as session:
                session.execute("ALTER TABLE public.noise RENAME TO noise_v2")
        calls.append(found)
        return found

    monkeypatch.setattr(preflight, "select_tables", select)
    try:
        with pytest.raises(CriticalTableMissingError, match=r"noise does not exist \(there is public\.noise_v2"):
            dump.run(ctx)
        assert len(calls) == 1
        assert not ctx.staging.dump.exists()
    finally:
        with site.session(DATABASE) as session:
            session.execute("ALTER TABLE public.noise_v2 RENAME TO noise")


def test_a_table_that_is_made_meanwhile_is_not_taken_along(
    hourly: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = hourly("public.notes")
    preflight.run(ctx)
    real, calls = table_selection.select_tables, []

    def select(*arguments: Any) -> Any:
        found = real(*arguments)
        if not calls:
            with site.session(DATABASE) as session:
                session.execute("CREATE TABLE public.newcomer AS SELECT 1 AS n")
        calls.append(found)
        return found

    monkeypatch.setattr(preflight, "select_tables", select)
    try:
        for step in (dump, compress, upload):
            step.run(ctx)
        assert len(calls) == 2
        assert set(rows(ctx.catalog.manifest(ctx.backup_id))) == {"public.notes", "public.pinned_notes"}
    finally:
        with site.session(DATABASE) as session:
            session.execute("DROP TABLE public.newcomer")


def test_nobody_takes_it_for_a_full_backup(hourly: Any) -> None:
    ctx = hourly("public.notes")
    run_chain(ctx, until=upload)
    manifest = ctx.catalog.manifest(ctx.backup_id)
    archive = ctx.store.get(manifest.archive.key)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        readme = tar.extractfile("README.txt")
        assert readme is not None
        text = readme.read().decode()
    assert text.index("THIS IS NOT A FULL BACKUP") < text.index("This is a plain tar file")
    assert "rows of these tables alone:\n  public.notes\n" in text
    backup = StoredBackup(store=ctx.store, manifest=manifest, scratch_root=ctx.scratch_root)
    with pytest.raises(RestoreRefusedError, match="of the kind tables; only full backups restore here"):
        _check_backup(_Request(backup.manifest))  # type: ignore[arg-type]


def test_what_the_policy_leaves_out_is_not_in_the_archive_and_said_by_everything_that_describes_it(
    make_context: ContextMaker, policy_source: SourcePolicy, database: DatabaseConnection, stack: Stack
) -> None:
    source = replace(policy_source, excluded_schemas=("scrap",), excluded_tables=("public.noise",))
    ctx = make_context.on(database)(source=source)
    reports = run_chain(ctx)
    manifest, toc, proof = stored(ctx)
    assert (manifest.excluded_schemas, manifest.excluded_tables) == (("scrap",), ("public.noise",))
    assert manifest.left_out == "partial: without schema scrap, table public.noise"
    assert not [entry for entry in toc.entries if "scrap" in (entry.namespace, entry.tag) or entry.tag == "noise"]
    assert "public.notes" in rows(manifest)
    assert (proof.result, proof.differences) == (Result.PASSED, ())
    assert manifest.left_out in reports["verify"].line()
    (readme,) = [member for member in manifest.members if member.name == "README.txt"]
    text = b"".join(ctx.store.read(manifest.archive.key, readme.offset, readme.stored_length)).decode()
    assert text.index("THIS IS NOT A FULL BACKUP") < text.index("This is a plain tar file")
    assert "  schema scrap\n  table public.noise\n" in text
    copies = look_at_copies(
        source=source,
        catalog=ctx.catalog,
        connection=stack.store_connection(),
        open_project=lambda: None,
        now=ctx.clock(),
    )
    assert copies.copies[-1].proof.endswith(manifest.left_out)


class _Request:
    """What the check looks at before anything else."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest


@pytest.mark.postgres15
def test_postgres_15_gives_the_same(site15: Site, make_context: ContextMaker, policy_source: SourcePolicy) -> None:
    with site15.database(DATABASE, SCRIPT) as database15:
        source = replace(policy_source, critical_tables=TABLES)
        ctx = make_context.on(database15)(tier="hourly", source=source)
        run_chain(ctx)
        manifest, _, proof = stored(ctx)
        assert (sum(rows(manifest).values()), proof.result) == (730, Result.PASSED)
        with connect(database15) as session:
            assert session.execute("SELECT count(*) AS n FROM public.events").fetchall() == [{"n": 300}]
