"""The whole chain against real servers: source, store, scratch server."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import CommandKilledError, ScratchError, StoreError
from include.backup.proof.record import Level, Result
from include.backup.steps import close_staging, dump_to_store, preflight, restore_test, upload, verify
from include.backup.steps.context import RunIdentity, StepContext, utc_now
from include.backup.store import ObjectStore
from tests.support.contexts import ContextMaker, make_run, run_chain


def test_a_backup_is_stored_restored_and_every_row_is_identical(make_context: ContextMaker) -> None:
    ctx = make_context()
    reports = run_chain(ctx)

    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert proof.result is Result.PASSED
    assert proof.level is Level.COMPLETE
    assert proof.rows == manifest.rows == reports["compress"].rows > 5_000
    assert all(table.identical for table in proof.tables)
    # The sample has partitions whose rows may land in others, so that they are compared as the one table they are.
    assert len(proof.tables) == manifest.tables == reports["compress"].tables < len(manifest.table_data)
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


OnAnotherWorker = Callable[[RunIdentity], StepContext]


@pytest.fixture
def worker(make_context: ContextMaker, tmp_path_factory: pytest.TempPathFactory) -> OnAnotherWorker:
    """The same run on another worker each time, whose folder nobody else sees; the policy says that none is shared."""
    source = replace(make_context.source, shares_staging=False)

    def elsewhere(run: RunIdentity) -> StepContext:
        return make_context(source=source, run=run, staging_root=tmp_path_factory.mktemp("worker"))

    return elsewhere


def left_behind(*contexts: StepContext) -> list[str]:
    return [path.name for ctx in contexts for path in ctx.staging.root.iterdir()]


def test_workers_that_share_no_folder_store_and_prove_the_same_archive(
    make_context: ContextMaker, worker: OnAnotherWorker
) -> None:
    run = make_run()
    steps = (preflight, dump_to_store, verify, restore_test, close_staging)
    contexts = [worker(run) for _ in steps]
    reports = [step.run(ctx) for step, ctx in zip(steps, contexts, strict=True)]

    ctx = contexts[-1]
    manifest = ctx.catalog.manifest(ctx.backup_id)
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert (proof.result, proof.level) == (Result.PASSED, Level.COMPLETE)
    assert proof.rows == manifest.rows == reports[1].rows > 5_000
    assert left_behind(*contexts) == []
    shared = make_context()
    run_chain(shared, until=upload)
    other = shared.catalog.manifest(shared.backup_id)
    assert [member.name for member in manifest.members] == [member.name for member in other.members]
    assert (manifest.toc_version, manifest.fits) == (other.toc_version, other.fits)
    again = dump_to_store.run(worker(run))
    assert (again.already_stored, again.size) == (True, manifest.archive.size)


def test_a_worker_that_is_lost_before_the_manifest_leaves_no_trap_for_the_next(
    worker: OnAnotherWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    lost = worker(run)
    put = ObjectStore.put_if_absent

    def vanish(store: ObjectStore, key: str, *arguments: Any, **options: Any) -> bool:
        if key == lost.manifest_key:
            raise ConnectionResetError
        return put(store, key, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "put_if_absent", vanish)
        with pytest.raises(ConnectionResetError):
            dump_to_store.run(lost)
    assert lost.store.head(lost.archive_key) is not None
    assert left_behind(lost) == [lost.backup_id]

    found = worker(run)
    # For all that it knows, the lost one still lives and its manifest is on the way.
    with pytest.raises(StoreError, match="another try, whose manifest may follow; try again in 10 minutes"):
        dump_to_store.run(found)
    found.clock = lambda: utc_now() + timedelta(minutes=11)
    assert dump_to_store.run(found).already_stored is False
    verify.run(found)
    restore_test.run(found)
    (proof,) = found.catalog.proofs(found.backup_id)
    assert proof.result is Result.PASSED
    # The lost one comes back: what is whole in the store is left as it is, and its folder goes.
    assert dump_to_store.run(lost).already_stored is True
    assert left_behind(lost, found) == []


def grown_old(folder: Path, ctx: StepContext) -> Path:
    """Make a staging folder in which nothing has changed for longer than the policy keeps it."""
    (folder / "dump").mkdir(parents=True, exist_ok=True)
    then = time.time() - 3600 * (ctx.source.keep_failed_hours + 1)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))
    return folder


@pytest.mark.parametrize(("shared", "step"), [(True, preflight), (False, dump_to_store)])
def test_what_dead_runs_left_goes_with_the_next_run_where_it_is_staged(
    make_context: ContextMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture, shared: bool, step: Any
) -> None:
    ctx = make_context(source=replace(make_context.source, shares_staging=shared), staging_root=tmp_path)
    tiers = ("weekly", "monthly", "hourly")
    beside = {tier: tmp_path / ctx.backup_id.replace("_daily_", f"_{tier}_") for tier in tiers}
    grown_old(beside["weekly"], ctx)
    # No lock can be taken in this one: a backup is taken all the same.
    (beside["monthly"] / "lock").mkdir(parents=True)
    grown_old(beside["monthly"], ctx)
    (beside["hourly"] / "dump").mkdir(parents=True)
    foreign = grown_old(tmp_path / ctx.backup_id.replace("pulse", "other"), ctx)
    own = {grown_old(ctx.staging.path, ctx).name} if shared else set()  # as a run that was cleared finds it
    with caplog.at_level("WARNING"):
        step.run(ctx)
    assert set(left_behind(ctx)) == {beside["monthly"].name, beside["hourly"].name, foreign.name} | own
    assert ctx.staging.dump.is_dir() is shared
    assert f"{beside['monthly']} was left by a dead run and cannot be removed" in caplog.text
