"""The weekly backup: two archives of one run, and what people are told of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include.backup.backup_id import parse_backup_id
from include.backup.errors import ProofFailedError
from tests.dags.bag import read_dag
from tests.dags.fakes import FakeSteps
from tests.dags.runs import Runner
from tests.faults.slack_capture import SlackCapture

WEEKLY = "pulse_messages.weekly_backup"
WIRED = {
    "preflight": {"dump", "preflight_schema"},
    "dump": {"compress", "dump_schema"},
    "compress": {"upload"},
    "upload": {"verify"},
    "verify": {"prepare_scratch"},
    "preflight_schema": {"dump_schema"},
    "dump_schema": {"compress_schema"},
    "compress_schema": {"upload_schema"},
    "upload_schema": {"verify_schema"},
    "verify_schema": {"prepare_scratch"},
    "prepare_scratch": {"restore_test", "restore_test_schema", "remove_scratch"},
    "restore_test": {"close_staging", "remove_scratch"},
    "restore_test_schema": {"close_staging_schema", "remove_scratch"},
    "remove_scratch": {"notify"},
    "close_staging": {"notify"},
    "close_staging_schema": {"notify"},
    "notify": set(),
}


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag(WEEKLY)


def test_the_tasks_are_wired_as_designed(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == WIRED


def test_it_is_due_on_sundays_at_one(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]["__var"]
    assert (timetable["expression"], timetable["timezone"]) == ("0 1 * * 0", "UTC")


def test_the_two_archives_differ_in_their_kind_alone_and_only_teardowns_are_no_work(dag: Any) -> None:
    kinds = {task.task_id: getattr(task, "kind", None) for task in dag.tasks if task.task_id.endswith("_schema")}
    assert set(kinds.values()) == {"schema"}
    work = {task.task_id for task in dag.tasks} - {"remove_scratch", "notify"}
    assert set(dag.get_task("notify").work) == work
    assert dag.get_task("restore_test_schema").pool == "scratch"
    assert dag.get_task("dump_schema").pool == "pg_source"
    assert dag.get_task("dump_schema").execution_timeout > timedelta(hours=4)


@pytest.mark.usefixtures("airflow_database", "connections")
def test_a_run_takes_both_and_says_so_in_one_line(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(WEEKLY)
    assert (ended.state, set(ended.tasks.values())) == ("success", {"success"})
    ids = {name: {parse_backup_id(ctx.backup_id).kind for ctx in found} for name, found in steps.all_contexts.items()}
    assert set(map(frozenset, ids.values())) == {frozenset({"full", "schema"})}
    (message,) = slack.messages
    assert message.text.startswith("✅ *pulse_messages* weekly backup: `pulse_messages_weekly_full_")
    assert "every row identical; schema archive proven; " in message.text


@pytest.mark.usefixtures("airflow_database", "connections")
def test_a_schema_archive_that_fails_makes_the_run_fail_and_spares_the_full_backup(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    steps.failing_kinds["restore_test", "schema"] = ProofFailedError("a view is not there after the restore")
    ended = run(WEEKLY)
    assert ended.state == "failed"
    assert ended.tasks["close_staging"] == "success"
    assert ended.tasks["close_staging_schema"] == "upstream_failed"
    (message,) = slack.messages
    assert "*failed* at `restore_test_schema`" in message.text
    assert "do not rely on it" in message.text
