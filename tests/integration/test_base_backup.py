"""Base backups on the embedded source: what is refused, what a retry finds, and what makes the proof red."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from include.backup.base import preflight, store_wal, take, upload
from include.backup.base.context import build_base_context
from include.backup.base.plan import Wish
from include.backup.base.prove import BaseProofRequest, prove_base
from include.backup.errors import ReplicationRefusedError
from include.backup.inventory import Standing, read_standing
from include.backup.point_in_time.stored import read_stored
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.proof.record import Result
from include.backup.steps import close_staging, verify
from include.backup.steps.context import StepContext, utc_now
from include.backup.verification.verify import VerificationContext
from include.backup.verification.verify import verify as verification_of
from include.backup.verification.work import OWN_RUN
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, make_run
from tests.support.proofs import LOG, StoredBackup
from tests.support.source_sql import as_superuser, changed


@pytest.fixture
def ctx(make_context: ContextMaker) -> StepContext:
    """A new run."""
    return build_base_context(
        source=make_context.source,
        run=make_run(dag_id="pulse_messages.base_backup"),
        database=make_context.database,
        store=make_context.store,
        staging_root=make_context.staging_root,
        scratch_root=make_context.scratch_root,
        runner=Runner(log=LOG),
        log=LOG,
    )


def test_a_role_without_replication_is_told_what_to_do(stack: Stack, ctx: StepContext) -> None:
    undo = "ALTER ROLE pulse_backup REPLICATION"
    with (
        changed(stack, "ALTER ROLE pulse_backup NOREPLICATION", undo),
        pytest.raises(ReplicationRefusedError, match=f"run {undo}"),
    ):
        preflight.run(ctx)


def test_a_base_backup_that_nobody_proved_is_proven_by_the_verification_once_its_log_is_stored(
    ctx: StepContext,
) -> None:
    preflight.run(ctx, wish=Wish.FULL)
    take.run(ctx)
    upload.run(ctx)
    verification = ctx.source.verification
    assert verification is not None
    work = VerificationContext(
        source=ctx.source,
        policy=verification,
        store=ctx.store,
        scratch_root=ctx.scratch_root,
        runner=Runner(log=LOG),
        log=LOG,
        actor="test",
        seed="run",
        # Later than its own run would have begun with it.
        clock=lambda: utc_now() + OWN_RUN,
    )
    assert [one.backup_id for one in verification_of(work).left] == [ctx.backup_id]
    store_wal.run(ctx)
    assert [(one.backup_id, one.result) for one in verification_of(work).proofs] == [(ctx.backup_id, "passed")]
    assert read_standing(ctx.catalog, ctx.backup_id) is Standing.PROVEN


def test_a_retry_of_upload_sends_what_the_store_does_not_have(ctx: StepContext) -> None:
    preflight.run(ctx, wish=Wish.FULL)
    first = take.run(ctx)
    assert first is not None
    assert not first.reused
    again = take.run(ctx)
    assert again is not None
    assert again.reused
    assert again.stop_lsn == first.stop_lsn
    stored = upload.run(ctx)
    assert not stored.already_stored
    assert upload.run(ctx).already_stored
    assert take.run(ctx) is None
    assert verify.run(ctx).size == stored.size
    close_staging.run(ctx)
    assert not ctx.staging.exists()


def test_without_summaries_of_the_log_a_full_one_is_taken_and_says_why(
    stack: Stack, ctx: StepContext, caplog: pytest.LogCaptureFixture
) -> None:
    assert preflight.run(ctx, wish=Wish.INCREMENTAL).parent is not None
    off, on = "ALTER SYSTEM SET summarize_wal = off", "ALTER SYSTEM RESET summarize_wal"
    with changed(stack, off, on), changed(stack, "SELECT pg_reload_conf()", "SELECT 1"):
        report = take.run(ctx)
    with as_superuser(stack) as session:
        session.execute("SELECT pg_reload_conf()")
    assert report is not None
    assert report.parent is None
    assert "was impossible" in report.why
    assert "a full one is taken" in caplog.text


def test_a_changed_file_makes_the_proof_red(
    stack: Stack, policy_source: SourcePolicy, ctx: StepContext, tmp_path: Path
) -> None:
    preflight.run(ctx, wish=Wish.FULL)
    for step in (take, upload, store_wal):
        step.run(ctx)
    manifest = ctx.catalog.manifest(ctx.backup_id)
    honest = StoredBackup(store=ctx.store, manifest=manifest, scratch_root=ctx.scratch_root)
    forged = honest.repacked({"base.tar.zst": _with_a_flipped_byte(honest.stored("base.tar.zst"))}, rehashed=True)
    stored = read_stored(policy_source, ctx.store)
    bases = tuple(
        replace(base, manifest=forged.manifest) if base.backup_id == ctx.backup_id else base for base in stored.bases
    )
    request = BaseProofRequest(
        store=ctx.store,
        stored=replace(stored, bases=bases),
        manifest=forged.manifest,
        manifest_bytes=forged.manifest.to_json(),
        scratch_root=ctx.scratch_root,
        jobs=2,
    )
    proof = prove_base(request, runner=Runner(log=LOG), log=LOG, clock=utc_now)
    assert proof.result is Result.FAILED
    (difference,) = proof.differences
    assert "pg_verifybackup finds the base backup damaged" in difference.detail
    assert "checksum mismatch" in difference.detail


def _with_a_flipped_byte(stored: bytes) -> bytes:
    """Return the tar with one byte of a table's file changed, its length kept."""
    content = bytearray(zstd.decompress(stored))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        chosen = max((info for info in tar if info.name.startswith("base/")), key=lambda info: info.size)
    content[chosen.offset_data + 4096] ^= 1
    return zstd.compress(bytes(content))
