"""The DAG of the schema's history: its wiring, and what people are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup_operators.schema_history import COMMIT_TASK, DRIFT_TASK, drift_text, outcome_text
from include.backup.schema_history.changes import SchemaChanges
from include.backup.schema_history.drift import Drift
from include.backup.schema_history.snapshot import ObjectName
from tests.dags.bag import read_dags

DAG_ID = "pulse_messages.schema_backup"
URL = "http://airflow.example/run"


@pytest.fixture(scope="module")
def dag() -> Any:
    bag = read_dags()
    assert bag.import_errors == {}
    return bag.dags[DAG_ID]


def test_the_tasks_are_wired_as_designed(dag: Any) -> None:
    wired = {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
    assert wired == {COMMIT_TASK: {DRIFT_TASK}, DRIFT_TASK: {"notify"}, "notify": set()}
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["notify"]
    assert not dag.get_task("notify").on_failure_fail_dagrun
    assert {task.task_id: task.pool for task in dag.tasks if task.pool != "backups"} == {COMMIT_TASK: "pg_source"}


def test_nothing_is_left_to_a_default(dag: Any) -> None:
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, True)
    assert dag.on_failure_callback
    for task in dag.tasks:
        assert task.execution_timeout is not None
        assert (task.owner, task.retries, task.retry_delay) == ("backup", 2, timedelta(seconds=600))
    assert dag.dagrun_timeout > sum((task.execution_timeout * (task.retries + 1) for task in dag.tasks), timedelta())


def told(states: dict[str, str], **values: dict[str, Any]) -> str | None:
    return outcome_text("pulse", states, url=URL, pull=lambda task, key: values.get(f"{task}_{key}", {}))


DONE = {COMMIT_TASK: "success", DRIFT_TASK: "success"}


def test_a_run_without_a_change_says_nothing() -> None:
    assert told(DONE, commit_schema_return_value={"commit": None}) is None


def test_a_commit_is_one_line() -> None:
    value = {"commit": "0123456789abcdef", "added": 2, "removed": 0, "changed": 1, "first": False}
    text = told(DONE, commit_schema_return_value=value)
    assert text == f"✅ *pulse* schema: 2 added, 1 changed; commit `0123456789ab` <{URL}|run>"


@pytest.mark.parametrize("task", [COMMIT_TASK, DRIFT_TASK])
def test_a_failure_says_what_why_and_what_next(task: str) -> None:
    reason = {"error": "GitDivergedError", "message": "somebody <else> changed it; move that folder away"}
    text = told({**DONE, task: "failed"}, **{f"{task}_failure": reason})
    assert text is not None
    assert f"schema backup *failed* at `{task}`" in text
    assert "*Why:* GitDivergedError: somebody &lt;else&gt; changed it; move that folder away" in text
    assert f"*Next:* Put it right, then clear `{task}`" in text
    assert f"<{URL}/tasks/{task}|log>" in text


def test_a_failure_without_a_reason_and_an_ended_run_are_told_too() -> None:
    assert "its worker was lost" in str(told({COMMIT_TASK: "failed"}))
    assert "has not run to its end" in str(told({COMMIT_TASK: "upstream_failed"}))


def drift(diff: str, count: int = 1) -> Drift:
    names = tuple(ObjectName("TABLE", "public", f"t{number}") for number in range(count))
    return Drift(
        release="2026.11.3",
        git_sha="0123abc",
        backup_id="pulse_pre_deployment_full_20261119T020000Z_3fa9c1",
        as_of=datetime(2026, 11, 19, 2, tzinfo=UTC),
        changes=SchemaChanges(added=names, removed=(), changed=()),
        diff=diff,
    )


def test_drift_is_told_with_the_diff_and_the_next_step() -> None:
    text = drift_text("pulse", drift("--- a\n+++ b\n+x < 1 ```"), commit="0123456789abcdef", url=URL)
    assert "schema differs from the one before release *2026.11.3*" in text
    assert "• added: TABLE public.t0" in text
    assert "```--- a\n+++ b\n+x &lt; 1 '''```" in text
    assert "*Next:* If these are that release's migrations, nothing." in text


def test_a_long_diff_is_cut_and_says_so() -> None:
    text = drift_text("pulse", drift("\n".join(f"+line {n}" for n in range(5000)), count=100), commit="0" * 40, url=URL)
    assert len(text) < 4500
    assert "… cut; the run's log and the commit have all of it" in text
    assert "… and 80 more" in text
