"""The whole chain against real servers: source, store, scratch server."""

from __future__ import annotations

import json

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import CommandKilledError, ScratchError
from include.backup.proof.record import Level, Result
from include.backup.steps import restore_test, verify
from tests.support.contexts import ContextMaker, run_chain


def test_a_backup_is_stored_restored_and_every_row_is_identical(make_context: ContextMaker) -> None:
    ctx = make_context()
    reports = run_chain(ctx)

    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert proof.result is Result.PASSED
    assert proof.level is Level.COMPLETE
    assert proof.rows == manifest.rows == reports["compress"].rows > 5_000
    assert all(table.identical for table in proof.tables)
    assert proof.sequences >= 12
    assert proof.large_objects == 5
    assert not ctx.staging.exists()
    assert manifest.archive.encryption == "aws:kms"
    assert manifest.archive.kms_key_arn


@pytest.mark.postgres15
def test_a_postgresql_15_source_gives_the_same_layout(make_context: ContextMaker, source15: DatabaseConnection) -> None:
    ctx = make_context.on(source15)()
    run_chain(ctx)

    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert proof.result is Result.PASSED
    assert manifest.dump.server.major == 15
    assert manifest.fits.pg_restore_minimum <= 15
    assert all(m.name.endswith(".dat.zst") for m in manifest.members if m.table_data is not None)


def test_a_second_run_of_each_step_finds_what_it_did(make_context: ContextMaker) -> None:
    ctx = make_context()
    run_chain(ctx)
    before = ctx.store.head(ctx.archive_key)

    again = run_chain(ctx)

    assert again["preflight"].already_stored
    assert again["dump"] is None
    assert again["upload"].already_stored
    assert ctx.store.head(ctx.archive_key) == before
    assert len(ctx.catalog.proofs(ctx.backup_id)) == 2


def test_reports_are_small_plain_json_without_secrets(make_context: ContextMaker) -> None:
    ctx = make_context()
    reports = run_chain(ctx)
    text = json.dumps({name: report.to_dict() for name, report in reports.items()})
    assert len(text) < 5_000
    assert str(ctx.database.password) not in text


def test_a_restore_that_is_killed_writes_no_proof(make_context: ContextMaker) -> None:
    """A kill says nothing about the backup; only a finding about the archive may become a failed proof."""
    ctx = make_context()
    run_chain(ctx, until=verify)
    ctx.runner.kill()
    with pytest.raises((CommandKilledError, ScratchError)):
        restore_test.run(ctx)
    assert ctx.catalog.proofs(ctx.backup_id) == ()
