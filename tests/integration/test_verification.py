"""Verification with the real verifier: it proves what is stored, and is caught when it would pass damage."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from include.backup.errors import ProofFailedError, VerifierBrokenError
from include.backup.evidence import open_ledger
from include.backup.inventory import Standing, read_standing
from include.backup.process import Runner
from include.backup.proof.record import Result
from include.backup.proof.times import newest_proofs
from include.backup.steps import verify as verify_step
from include.backup.steps.context import StepContext, encryption_of, utc_now
from include.backup.verification.control import ControlContext, control_prefix, negative_control, real_prover
from include.backup.verification.verify import VerificationContext, verify, work_list
from include.backup.verification.work import OWN_RUN
from tests.support.contexts import ContextMaker, run_chain

LOG = logging.getLogger("tests.verification")


def context(ctx: StepContext) -> VerificationContext:
    policy = ctx.source.verification
    assert policy is not None
    return VerificationContext(
        source=ctx.source,
        policy=policy,
        store=ctx.store,
        scratch_root=ctx.scratch_root,
        runner=Runner(),
        log=LOG,
        actor="test",
        seed="run",
        # Later than any run that proves its own backup would have begun with that.
        clock=lambda: utc_now() + OWN_RUN,
    )


def test_backups_that_nobody_proved_are_proven_and_not_read_again(make_context: ContextMaker) -> None:
    taken = [make_context() for _ in range(2)]
    for ctx in taken:
        run_chain(ctx, until=verify_step)
    ctx = taken[0]
    waiting = {work.backup_id for work in work_list(context(ctx)).work}
    assert {one.backup_id for one in taken} <= waiting
    report = verify(context(ctx))
    assert {one.backup_id for one in report.proofs} == waiting
    assert report.failed == ()
    assert all(read_standing(ctx.catalog, one.backup_id) is Standing.PROVEN for one in taken)
    assert verify(context(ctx)).proofs == ()


def test_a_backup_that_was_damaged_in_the_store_is_red_and_the_others_are_proven(make_context: ContextMaker) -> None:
    bad, good = make_context(), make_context()
    for ctx in (bad, good):
        run_chain(ctx, until=verify_step)
    key, store = bad.archive_key, bad.store
    content = bytearray(store.get(key))
    member = max((one for one in bad.catalog.manifest(bad.backup_id).members if one.table_data), key=_stored_length)
    content[member.offset + member.stored_length // 2] ^= 0xFF
    store.s3.put_object(Bucket=store.bucket, Key=key, Body=bytes(content))
    with pytest.raises(ProofFailedError, match=bad.backup_id):
        verify(context(bad))
    assert read_standing(bad.catalog, bad.backup_id) is Standing.FAILED
    proofs = newest_proofs(store, bad.source.name)
    assert [proofs[one.backup_id].failed for one in (bad, good)] == [True, False]
    assert read_standing(good.catalog, good.backup_id) is Standing.PROVEN


def _stored_length(member: Any) -> int:
    return int(member.stored_length)


def test_the_real_verifier_refuses_damaged_copies_and_nothing_of_them_is_left(make_context: ContextMaker) -> None:
    ctx = make_context()
    run_chain(ctx, until=verify_step)
    control = negative_control(control_context(ctx), ctx.backup_id)
    assert set(control.found) == {"a flipped byte", "other rows"}
    assert "TABLE DATA" in control.found["other rows"] or "rows" in control.found["other rows"]
    planted = f"{control_prefix(ctx.source.name)}planted/"
    assert list(ctx.store.list(planted)) == []
    assert list(ctx.store.rewritten(planted)) == []
    # The copies were proven under the backup's id, and no proof of them was written.
    assert ctx.catalog.proofs(ctx.backup_id) == ()


def test_a_verifier_that_looks_at_nothing_is_found_out(make_context: ContextMaker) -> None:
    ctx = make_context()
    run_chain(ctx, until=verify_step)
    real = control_context(ctx)

    def careless(request: Any) -> Any:
        return replace(real.prover(request), result=Result.PASSED, differences=())

    with pytest.raises(VerifierBrokenError, match="a flipped byte"):
        negative_control(replace(real, prover=careless), ctx.backup_id)


def control_context(ctx: StepContext) -> ControlContext:
    return ControlContext(
        source=ctx.source,
        store=ctx.store,
        ledger=open_ledger(ctx.source, ctx.store),
        encryption=encryption_of(ctx.source, ctx.store),
        scratch_root=ctx.scratch_root,
        log=LOG,
        actor="test",
        prover=real_prover(Runner(), LOG),
    )
