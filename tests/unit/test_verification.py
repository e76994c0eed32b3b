"""A verification of a store in memory: what it reads, what it leaves, and that one failure ends nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.backup.base.stored import base_prefix
from include.backup.catalog import archive_key, manifest_key, proof_prefix
from include.backup.errors import (
    BackupError,
    CommandKilledError,
    ObjectColdError,
    ProofFailedError,
    ScratchError,
    StoreUnreachableError,
    VerifierBrokenError,
    WalSegmentMissingError,
)
from include.backup.evidence.check import check_ledger
from include.backup.manifest import fingerprint
from include.backup.process import Runner
from include.backup.proof.record import Difference, Result
from include.backup.steps.restore_test import StoredBackup
from include.backup.verification.control import (
    ControlContext,
    control_prefix,
    last_control,
    negative_control,
    smallest_proven,
)
from include.backup.verification.verify import VerificationContext, verify, work_list
from tests.support.aged_bucket import NOW, PLAIN, Bucket
from tests.support.bases import make_stored_base
from tests.support.builders import make_proof


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr("include.backup.verification.verify.encryption_of", lambda *_: PLAIN)
    return Bucket(tmp_path)


class Verifier:
    """In place of the restore test: passes what it is given, unless a test says otherwise."""

    def __init__(self) -> None:
        self.proven: list[str] = []
        self.failing: set[str] = set()

    def __call__(self, stored: StoredBackup, **_: Any) -> Any:
        self.proven.append(stored.backup_id)
        failed = stored.backup_id in self.failing
        proof = make_proof(
            proof_id=f"{NOW:%Y%m%dT%H%M%SZ}_abcdef",
            backup_id=stored.backup_id,
            manifest_sha256=fingerprint(stored.catalog.manifest_bytes(stored.backup_id)),
            result=Result.FAILED if failed else Result.PASSED,
            differences=(Difference(what="rows", name="public.users", detail="one is gone"),) if failed else (),
        )
        stored.store.put_if_absent(
            f"{proof_prefix(stored.backup_id)}{proof.proof_id}.json", proof.to_json(), encryption=PLAIN
        )
        return proof


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Verifier:
    found = Verifier()
    monkeypatch.setattr("include.backup.verification.verify.prove_stored", found)
    return found


def context(bucket: Bucket) -> VerificationContext:
    policy = bucket.source.verification
    assert policy is not None
    return VerificationContext(
        source=bucket.source,
        policy=policy,
        store=bucket.store,
        scratch_root=Path("/nowhere"),
        runner=Runner(),
        log=logging.getLogger("tests.verification"),
        actor="test",
        seed="run",
        clock=lambda: NOW,
    )


def test_all_backups_without_a_proof_are_proven_whatever_woke_the_run(bucket: Bucket, verifier: Verifier) -> None:
    missed = [bucket.backup(age, proven=False) for age in (1, 2, 3)]
    bucket.backup(2.5)
    report = verify(context(bucket))
    assert verifier.proven == missed
    assert report.to_dict()["passed"] == 3
    assert "of the strategy's 300 s" in report.line()
    (key,) = (key for key in bucket.s3.visible() if key.startswith("audit/pulse_messages/verification/2026/06/01/"))
    kept = json.loads(bucket.store.get(key))
    assert (len(kept["proofs"]), kept["target_seconds"]) == (3, 300)


def test_a_second_run_reads_no_archive_and_no_manifest(bucket: Bucket, verifier: Verifier) -> None:
    for age in (1, 2, 3):
        bucket.backup(age, proven=False)
    verify(context(bucket))
    verifier.proven.clear()
    bucket.s3.calls.clear()
    assert verify(context(bucket)).proofs == ()
    assert verifier.proven == []
    assert set(bucket.s3.calls) == {"list"}


def test_one_that_fails_ends_nothing_else_and_the_run_is_red(bucket: Bucket, verifier: Verifier) -> None:
    first, bad, last = (bucket.backup(age, proven=False) for age in (1, 2, 3))
    verifier.failing.add(bad)
    with pytest.raises(ProofFailedError, match=f"{bad} .*one is gone.*Do not rely on it"):
        verify(context(bucket))
    assert verifier.proven == [first, bad, last]


@pytest.mark.parametrize("trouble", [ScratchError, StoreUnreachableError, ObjectColdError])
def test_a_test_that_cannot_be_made_ends_nothing_else_and_is_told_as_such(
    bucket: Bucket, verifier: Verifier, monkeypatch: pytest.MonkeyPatch, trouble: type[BackupError]
) -> None:
    first, large, last = (bucket.backup(age, proven=False) for age in (1, 2, 3))

    def prove(stored: StoredBackup, **more: Any) -> Any:
        if stored.backup_id == large:
            raise trouble("no room")
        return verifier(stored, **more)

    monkeypatch.setattr("include.backup.verification.verify.prove_stored", prove)
    with pytest.raises(ScratchError, match=rf"nothing is known of {large} \(no room\)"):
        verify(context(bucket))
    assert verifier.proven == [first, last]
    # Where another one is no good, that is what matters.
    bad = bucket.backup(4, proven=False)
    verifier.failing.add(bad)
    later = replace(context(bucket), clock=lambda: NOW + timedelta(minutes=1))
    with pytest.raises(
        ProofFailedError, match=rf"^{bad} \(.*\)\. Do not rely on it.* {bad}`.*; not tested: {large} \(no room\)$"
    ):
        verify(later)


@pytest.mark.parametrize("ending", [CommandKilledError, ScratchError])
def test_a_killed_run_tries_no_other_backup_and_keeps_no_report(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, ending: type[BackupError]
) -> None:
    first, _ = bucket.backup(1, proven=False), bucket.backup(2, proven=False)
    tried: list[str] = []

    def prove(stored: StoredBackup, *, runner: Runner, **_: Any) -> Any:
        tried.append(stored.backup_id)
        runner.kill()
        raise ending("it was ended")

    monkeypatch.setattr("include.backup.verification.verify.prove_stored", prove)
    with pytest.raises(ending, match="it was ended"):
        verify(context(bucket))
    assert tried == [first]
    assert not [key for key in bucket.s3.visible() if key.startswith("audit/")]


def test_an_archive_that_is_gone_is_a_failure_and_a_backup_that_is_gone_is_not(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, deleted = bucket.backup(1, proven=False), bucket.backup(2, proven=False)
    plan = work_list(context(bucket))
    monkeypatch.setattr("include.backup.verification.verify.work_list", lambda _: plan)
    del bucket.s3.keys[archive_key("daily", lost)]
    for key in (archive_key("daily", deleted), manifest_key("daily", deleted)):
        del bucket.s3.keys[key]

    def prove(stored: StoredBackup, **_: Any) -> Any:
        return stored.catalog.read(stored.backup_id)

    monkeypatch.setattr("include.backup.verification.verify.prove_stored", prove)
    with pytest.raises(ProofFailedError) as failed:
        verify(context(bucket))
    assert lost in str(failed.value)
    assert deleted not in str(failed.value)


@pytest.mark.parametrize("allowed", [True, False])
def test_an_archive_in_glacier_is_thawed_only_if_the_policy_allows(
    bucket: Bucket, verifier: Verifier, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    frozen = bucket.backup(200, tier="monthly", proven=True)
    content = json.loads(bucket.store.get(manifest_key("monthly", frozen)))
    content["archive"]["storage_class"] = "GLACIER"
    bucket.s3.add(manifest_key("monthly", frozen), json.dumps(content).encode())
    asked: list[str] = []
    head: Callable[..., dict[str, Any]] = bucket.s3.head_object
    monkeypatch.setattr(bucket.s3, "head_object", lambda **named: {**head(**named), "StorageClass": "GLACIER"})
    monkeypatch.setattr(bucket.s3, "restore_object", lambda **named: asked.append(named["Key"]), raising=False)
    ctx = context(bucket)
    report = verify(replace(ctx, policy=replace(ctx.policy, thaw=allowed)))
    assert verifier.proven == []
    assert asked == ([archive_key("monthly", frozen)] if allowed else [])
    assert [work.backup_id for work in report.left] == [frozen]
    assert ("thaw was asked for" in report.left[0].why) is allowed


def control(bucket: Bucket, prover: Callable[[Any], Any]) -> ControlContext:
    return ControlContext(
        source=bucket.source,
        store=bucket.store,
        ledger=bucket.context().ledger,
        encryption=PLAIN,
        scratch_root=Path("/nowhere"),
        log=logging.getLogger("tests.control"),
        actor="test",
        prover=prover,
        clock=lambda: NOW,
    )


def test_a_verifier_that_passes_a_damaged_copy_is_found_out(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.verification.control._plant", lambda *_: None)
    proven = bucket.backup(1)
    with pytest.raises(VerifierBrokenError, match="no proof since the last good control"):
        negative_control(control(bucket, lambda request: make_proof(result=Result.PASSED, differences=())), proven)
    assert last_control(bucket.store, "pulse_messages") is None
    assert check_ledger(bucket.store, "pulse_messages").kinds == {"control": 1}


def test_a_verifier_that_refuses_both_damages_is_good_and_this_is_written_down(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.verification.control._plant", lambda *_: None)
    proven = bucket.backup(1)
    seen: list[Any] = []

    def refuse(request: Any) -> Any:
        seen.append(request.manifest)
        return make_proof(result=Result.FAILED)

    found = negative_control(control(bucket, refuse), proven)
    assert set(found.found) == {"a flipped byte", "other rows"}
    assert seen[0].archive.key.startswith(f"{control_prefix('pulse_messages')}planted/")
    assert [table.content_sha256 for table in seen[1].table_data] == ["0" * 64]
    assert last_control(bucket.store, "pulse_messages") == datetime(2026, 6, 1, 4, tzinfo=UTC)


def test_only_a_proven_backup_is_damaged(bucket: Bucket) -> None:
    bucket.backup(1, proven=False)
    assert smallest_proven(bucket.source, bucket.store) is None
    proven = bucket.backup(2)
    assert smallest_proven(bucket.source, bucket.store) == proven


def base_backup(bucket: Bucket, age: float) -> str:
    base = make_stored_base(NOW - timedelta(days=age))
    key, content = f"{base_prefix('7401')}{base.backup_id}", base.manifest.to_json()
    bucket.s3.add(f"{key}.tar", bytes(64), modified=NOW - timedelta(days=age))
    bucket.s3.add(f"{key}.manifest.json", content, modified=NOW - timedelta(days=age))
    return base.backup_id


def test_base_backups_of_every_cluster_and_attachments_are_on_the_work_list(bucket: Bucket, verifier: Verifier) -> None:
    base, files = base_backup(bucket, 2), bucket.backup(1, tier="monthly", kind="attachments", proven=False)
    verify(context(bucket))
    assert verifier.proven == [base, files]
    assert verify(context(bucket)).proofs == ()


@pytest.mark.parametrize(("age", "red"), [(0.5, False), (1.5, True)])
def test_a_base_backup_whose_log_is_not_stored_yet_waits_for_it_a_day(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, age: float, red: bool
) -> None:
    def missing(stored: StoredBackup, **_: Any) -> Any:
        raise WalSegmentMissingError("000000010000000000000007 is not stored")

    monkeypatch.setattr("include.backup.verification.verify.prove_stored", missing)
    base = base_backup(bucket, age)
    if red:
        with pytest.raises(ProofFailedError, match=f"{base}.*is not stored"):
            verify(context(bucket))
    else:
        assert [work.backup_id for work in verify(context(bucket)).left] == [base]
