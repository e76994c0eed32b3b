"""The verification as a DAG: what wakes it, how it is wired, and what its tasks say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from backup_operators.verification import CheckLogOperator, ControlVerifierOperator, VerifyBackupsOperator
from include.backup.errors import ProofFailedError, VerifierBrokenError, WalBrokenError
from include.backup.verification.verify import Proven, VerificationReport
from tests.dags.bag import read_dag
from tests.faults.slack_capture import SlackCapture
from tests.support.aged_bucket import PLAIN, Bucket

DAG_ID = "pulse_messages.backup_verification"
SOURCE = "pulse_messages"


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag(DAG_ID)


def test_the_tasks_are_wired_as_designed(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "prepare_scratch": {"verify_backups", "control_verifier", "remove_scratch"},
        "verify_backups": {"remove_scratch"},
        "control_verifier": {"remove_scratch"},
        "remove_scratch": set(),
        "check_log": set(),
    }
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["remove_scratch"]
    assert not dag.get_task("remove_scratch").on_failure_fail_dagrun
    assert {dag.get_task(name).pool for name in ("verify_backups", "control_verifier")} == {"scratch"}


def test_each_new_backup_and_the_clock_wake_it(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]
    text = str(timetable)
    assert "AssetOrTimeSchedule" in timetable["__type"]
    assert "0 7 * * *" in text
    assert "x-backup://pulse_messages" in text
    assert dag.max_active_runs == 1
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert all(task.execution_timeout is not None for task in dag.tasks)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    made = Bucket(tmp_path)
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("backup_operators.fleet.die_with_parent", lambda: None)
    return made


def context(run_type: str = "scheduled") -> Any:
    run = SimpleNamespace(
        dag_id=DAG_ID, run_id="r", run_after=datetime.now(UTC), run_type=run_type, triggering_user_name=None
    )
    return {"dag_run": run, "ti": SimpleNamespace(try_number=1)}


def report(*proofs: Proven) -> VerificationReport:
    return VerificationReport(
        source=SOURCE, started_at=datetime.now(UTC), seconds=12.0, target_seconds=300, proofs=proofs
    )


def execute(operator: type[Any], run_type: str = "scheduled") -> Any:
    return operator(task_id="a_task", source=SOURCE, retries=0).execute(context(run_type))


def test_what_was_proven_is_told_with_its_duration(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = Proven(backup_id="b", why="it has no proof", result="passed", seconds=12.0)
    monkeypatch.setattr("include.backup.verification.verify.verify", lambda ctx: report(proven))
    found = execute(VerifyBackupsOperator)
    assert (found["passed"], found["within_target"]) == (1, True)
    assert "1 backups proven, 0 left, 12.0 s of the strategy's 300 s" in slack.messages[-1].text


def test_a_run_without_work_says_nothing(bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.verification.verify.verify", lambda ctx: report())
    assert execute(VerifyBackupsOperator)["passed"] == 0
    assert slack.messages == []


def test_a_backup_that_is_not_proven_fails_the_task_and_is_told(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(ctx: Any) -> Any:
        raise ProofFailedError("<https://evil|b> & c differ")

    monkeypatch.setattr("include.backup.verification.verify.verify", fail)
    with pytest.raises(AirflowFailException, match="c differ"):
        execute(VerifyBackupsOperator)
    assert "*failed*" in slack.messages[-1].text
    assert "*Why:* &lt;https://evil|b&gt; &amp; c differ\n" in slack.messages[-1].text
    assert "|log>" in slack.messages[-1].text
    assert "Do not rely on a backup that failed" in slack.messages[-1].text


def test_a_broken_verifier_is_red_and_told(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.backup(1)

    def broken(ctx: Any, backup_id: str) -> Any:
        raise VerifierBrokenError(f"the verifier passed a copy of {backup_id}")

    monkeypatch.setattr("include.backup.verification.control.negative_control", broken)
    with pytest.raises(AirflowFailException, match="the verifier passed a copy"):
        execute(ControlVerifierOperator)
    assert "No proof since the last good control" in slack.messages[-1].text


def test_the_verifier_is_not_tested_before_it_is_due_or_without_a_backup(bucket: Bucket) -> None:
    with pytest.raises(AirflowSkipException, match="no proven backup yet"):
        execute(ControlVerifierOperator)
    bucket.backup(1)
    bucket.s3.add(f"control/{SOURCE}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json", b"{}")
    with pytest.raises(AirflowSkipException, match="not due again"):
        execute(ControlVerifierOperator)


def test_the_log_is_looked_at_once_a_day_and_not_with_each_backup() -> None:
    with pytest.raises(AirflowSkipException, match="once a day"):
        CheckLogOperator(task_id="a_task", source=SOURCE, retries=0).work(context("asset_triggered"), _anything())


def test_a_broken_log_is_told_with_the_command_that_shows_the_rest(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **arguments: Any) -> Any:
        raise WalBrokenError("2 gaps")

    monkeypatch.setattr("include.backup.verification.log.check_log", broken)
    with pytest.raises(AirflowFailException, match="2 gaps"):
        execute(CheckLogOperator)
    assert f"`python -m include.backup wal {SOURCE}` shows the rest" in slack.messages[-1].text


def _anything() -> Any:
    return SimpleNamespace(name=SOURCE)
