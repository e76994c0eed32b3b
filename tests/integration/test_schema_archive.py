"""The archive of the schema alone: what is in it, and that its proof sees what is wrong with it."""

from __future__ import annotations

from include.backup.proof.record import Result
from tests.support.contexts import ContextMaker, run_chain


def test_a_schema_archive_holds_every_object_and_no_row_and_is_proven(make_context: ContextMaker) -> None:
    ctx = make_context(kind="schema")
    reports = run_chain(ctx)

    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert proof.result is Result.PASSED, proof.differences
    assert manifest.kind == "schema"
    assert [member.name for member in manifest.members] == ["README.txt", "globals.sql", "dump/toc.dat"]
    assert (manifest.rows, proof.rows, proof.tables) == (0, 0, ())
    assert proof.schema_lines > 1000
    assert "row" not in reports["restore_test"].line()
