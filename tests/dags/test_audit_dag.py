"""The audit as a DAG: wired, red when its restore test has not passed, and the report kept and told all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.audit import AuditOperator, ProveNewestOperator
from include.backup.evidence import EventKind, open_ledger
from include.backup.proof.record import Proof, Result
from tests.dags.bag import read_dag
from tests.faults.slack_capture import SlackCapture
from tests.support.aged_bucket import PLAIN, Bucket
from tests.support.builders import make_proof

SOURCE = "pulse_messages"
ACTOR = "backup_audit r by ann"


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag("backup_audit")


def test_the_tasks_are_wired_and_mapped_over_the_sources(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "prepare_scratch": {"prove_newest", "remove_scratch"},
        "prove_newest": {"write_report", "remove_scratch"},
        "write_report": set(),
        "remove_scratch": set(),
    }
    assert dag.get_task("prove_newest").is_mapped
    assert dag.get_task("write_report").is_mapped
    assert (dag.get_task("prove_newest").pool, dag.get_task("write_report").trigger_rule) == ("scratch", "all_done")
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["remove_scratch"]
    assert dag.timetable.expression == "0 8 1 * *"


def test_nothing_of_the_dag_is_left_to_a_default(dag: Any) -> None:
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, True)
    assert all(task.execution_timeout is not None and task.owner == "backup" for task in dag.tasks)
    assert dag.params["month"] == ""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    """A bucket in place of the store, with one backup of yesterday by the real clock."""
    made = Bucket(tmp_path)
    monkeypatch.setattr("include.backup.audit.fleet.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger", "include.backup.audit.gather"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("backup_operators.fleet.die_with_parent", lambda: None)
    monkeypatch.setattr("tests.support.aged_bucket.NOW", datetime.now(tz=UTC))
    monkeypatch.setenv("BACKUP_SCRATCH_DIR", str(tmp_path))
    made.backup(1)
    return made


def context() -> Any:
    run = SimpleNamespace(
        dag_id="backup_audit", run_id="r", run_after=datetime.now(UTC), run_type="manual", triggering_user_name="ann"
    )
    return {"dag_run": run, "ti": SimpleNamespace(try_number=1)}


def record_proof(bucket: Bucket, result: str) -> None:
    facts = {"proof_id": "p1", "result": result, "rows": 5, "seconds": 2.0, "differences": 1}
    open_ledger(bucket.source, bucket.store).append(EventKind.PROOF, subject="b", actor=ACTOR, facts=facts)


def write(month: str = "") -> dict[str, Any]:
    operator = AuditOperator(task_id="write_report", source=SOURCE, month=month, retries=0)
    found: dict[str, Any] = operator.execute(context())
    return found


def kept_reports(bucket: Bucket) -> list[str]:
    return sorted(key for key in bucket.s3.visible() if key.startswith(f"audit/{SOURCE}/report/"))


def test_the_report_is_kept_and_told_and_says_that_the_restore_test_passed(bucket: Bucket, slack: SlackCapture) -> None:
    record_proof(bucket, "passed")
    done = write()
    page, content = kept_reports(bucket)
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    assert (done["month"], done["backups"]) == (month, 1)
    assert done["page"] == f"s3://b/{page}"
    assert json.loads(bucket.store.get(content))["live_test"]["passed"] is True
    (message,) = [message.text for message in slack.messages]
    assert f"audit of {month}" in message
    assert "every row was identical" in message


@pytest.mark.parametrize(("result", "words"), [("failed", "1 DIFFERENCES"), (None, "left no proof")])
def test_a_restore_test_that_has_not_passed_makes_the_report_red_and_loses_it_not(
    bucket: Bucket, slack: SlackCapture, result: str | None, words: str
) -> None:
    if result is not None:
        record_proof(bucket, result)
    with pytest.raises(AirflowFailException, match=words):
        write()
    assert len(kept_reports(bucket)) == 2
    assert any(words in message.text for message in slack.messages)
    assert "*failed*" in slack.messages[-1].text


def test_a_month_that_has_not_begun_is_refused_and_nothing_is_kept(bucket: Bucket, slack: SlackCapture) -> None:
    with pytest.raises(AirflowFailException, match="has not begun"):
        write("2999-01")
    assert kept_reports(bucket) == []


@pytest.mark.parametrize("result", [Result.PASSED, Result.FAILED])
def test_the_newest_backup_is_proven_under_the_name_of_this_run(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch, result: Result
) -> None:
    asked: list[Any] = []

    def proving(stored: Any, **_: Any) -> Proof:
        asked.append(stored)
        return make_proof(backup_id=stored.backup_id, result=result)

    monkeypatch.setattr("include.backup.audit.live_test.prove_stored", proving)
    operator = ProveNewestOperator(task_id="prove_newest", source=SOURCE, retries=0)
    if result is Result.FAILED:
        with pytest.raises(AirflowFailException, match="does not restore to what was dumped"):
            operator.execute(context())
        assert "Do not rely on this backup" in slack.messages[-1].text
    else:
        assert operator.execute(context())["result"] == "passed"
    (stored,) = asked
    assert stored.actor == ACTOR
    assert stored.backup_id in bucket.archives()


@pytest.mark.parametrize(("result", "state"), [(Result.PASSED, "success"), (Result.FAILED, "failed")])
def test_a_whole_run_keeps_the_report_also_when_the_restore_test_fails_and_is_as_good_as_that(
    bucket: Bucket,
    slack: SlackCapture,
    run: Callable[..., Any],
    airflow_database: None,
    monkeypatch: pytest.MonkeyPatch,
    result: Result,
    state: str,
) -> None:
    def proving(stored: Any, **_: Any) -> Proof:
        proof = make_proof(backup_id=stored.backup_id, result=result)
        facts = {"proof_id": proof.proof_id, "result": result.value, "rows": 1, "seconds": 1.0, "differences": 1}
        ledger = open_ledger(bucket.source, bucket.store)
        ledger.append(EventKind.PROOF, subject=stored.backup_id, actor=stored.actor, facts=facts)
        return proof

    monkeypatch.setattr("include.backup.audit.live_test.prove_stored", proving)
    ended = run("backup_audit")
    assert ended.state == state
    assert ended.tasks == {
        "prepare_scratch": "success",
        "prove_newest": state,
        "write_report": state,
        "remove_scratch": "success",
    }
    _, content = kept_reports(bucket)
    assert json.loads(bucket.store.get(content))["live_test"]["passed"] is (result is Result.PASSED)
