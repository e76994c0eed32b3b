"""The monthly archive: in which order what is done, and what happens to a slot that was missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup_operators import lateness
from include.backup.errors import BucketMissingError, CopyRefusedError
from include.backup.policy import SHIPPED_POLICY
from tests.dags.bag import read_dag
from tests.dags.fakes import FakeSteps
from tests.dags.runs import Ended, Runner
from tests.faults.slack_capture import SlackCapture

MONTHLY = "pulse_messages.monthly_archive"
WIRED = {
    "check_lateness": {"preflight"},
    "preflight": {"dump"},
    "dump": {"compress"},
    "compress": {"upload"},
    "upload": {"verify", "archive_attachments"},
    "archive_attachments": {"verify_attachments"},
    "verify_attachments": {"restore_test_attachments"},
    "restore_test_attachments": {"copy_yearly", "close_staging"},
    "verify": {"prepare_scratch"},
    "prepare_scratch": {"restore_test", "remove_scratch"},
    "restore_test": {"copy_yearly", "close_staging", "remove_scratch"},
    "copy_yearly": {"change_class"},
    "change_class": {"close_staging"},
    "remove_scratch": {"notify"},
    "close_staging": {"notify"},
    "notify": set(),
}


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag(MONTHLY)


def test_the_tasks_are_wired_as_designed(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == WIRED


def test_it_is_due_on_the_first_of_the_month(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]["__var"]
    assert (timetable["expression"], timetable["timezone"]) == ("0 4 1 * *", "UTC")


def test_every_task_but_teardowns_has_to_succeed(dag: Any) -> None:
    work = {task.task_id for task in dag.tasks} - {"remove_scratch", "notify"}
    assert set(dag.get_task("notify").work) == work


@pytest.mark.usefixtures("airflow_database", "connections")
def test_a_run_says_where_the_archive_is_kept(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(MONTHLY)
    assert (ended.state, set(ended.tasks.values())) == ("success", {"success"})
    assert steps.arguments["copy_yearly"] == {"wanted": "by month"}
    assert steps.arguments["archive_attachments"] == {"wanted": "by month"}
    files = steps.contexts["archive_attachments"]
    assert (files.kind, files.attachments_connection.endpoint_url) == ("attachments", "https://files.example")
    assert steps.contexts["dump"].attachments_connection is None
    assert steps.ran.index("restore_test") < steps.ran.index("copy_yearly") < steps.ran.index("change_class")
    assert "12 files (3 unchanged since an earlier archive), 1 missing; " in slack.messages[0].text
    assert "GLACIER; " in slack.messages[0].text


@pytest.mark.usefixtures("airflow_database", "connections")
def test_an_archive_that_is_not_proven_is_told_and_not_moved(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    steps.failing["copy_yearly"] = CopyRefusedError("x is failed, not proven")
    ended = run(MONTHLY)
    assert (ended.state, ended.tasks["change_class"]) == ("failed", "upstream_failed")
    assert "its yearly copy is not. Put it right, then clear `copy_yearly`" in slack.messages[0].text


@pytest.mark.usefixtures("airflow_database", "connections", "policy")
def test_a_slot_that_was_missed_is_left_out_and_people_are_told(steps: FakeSteps, slack: SlackCapture) -> None:
    ended = scheduled_run(datetime(2025, 3, 1, 4, tzinfo=UTC))
    assert ended.state == "success"
    assert steps.ran == []
    assert {state for task, state in ended.tasks.items() if task != "notify"} == {"skipped"}
    assert ended.tasks["notify"] == "success"
    (message,) = slack.messages
    assert message.text.startswith("⏭️ *pulse_messages* monthly backup: due at 2025-03-01 04:00 UTC and ")
    assert "nothing is done. Trigger a new run if it is still wanted" in message.text


def scheduled_run(due: datetime) -> Ended:
    """Run the DAG for a slot of the schedule; dag.test() makes manual runs only, so the run says otherwise."""
    dag = read_dag(MONTHLY)
    dag.on_failure_callback, dag.has_on_failure_callback = None, False
    dag.deadline = None
    identity = lateness.run_identity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lateness, "run_identity", lambda context: replace(identity(context), run_type="scheduled"))
        found = dag.test(logical_date=due, run_after=due)
    tasks = {ti.task_id: str(ti.state) for ti in found.get_task_instances()}
    return Ended(state=str(found.state), tasks=tasks, run=found)


def test_a_source_without_attachments_archives_its_database_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SHIPPED_POLICY.read_text()
    begin, end = text.index("    attachments: #"), text.index("    critical_tables: #")
    policy = tmp_path / "policy.yaml"
    policy.write_text(text[:begin] + text[end:])
    monkeypatch.setenv("BACKUP_POLICY", str(policy))
    tasks = {task.task_id for task in read_dag(MONTHLY).tasks}
    assert tasks == WIRED.keys() - {"archive_attachments", "verify_attachments", "restore_test_attachments"}


@pytest.mark.usefixtures("airflow_database", "connections")
def test_files_that_cannot_be_archived_leave_the_database_proven_and_nothing_moved(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    steps.failing["archive_attachments"] = BucketMissingError("the bucket attachments does not exist")
    ended = run(MONTHLY)
    assert ended.state == "failed"
    assert (ended.tasks["restore_test"], ended.tasks["change_class"]) == ("success", "upstream_failed")
    assert "The database's backup is stored, its files are not" in slack.messages[0].text
