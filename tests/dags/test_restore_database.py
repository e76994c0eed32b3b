"""restore_database as Airflow reads it: its wiring, its form, and that nothing destructive is tried twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from backup_operators.defaults import Tag
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.restore.thaw import Thawing
from tests.dags.bag import read_dag, with_values

DAG_ID = "pulse_messages.restore_database"
ORDER = (
    "resolve_backup",
    "thaw_archive",
    "preview_restore",
    "approve",
    "check_approval",
    "take_safety_backup",
    "restore_beside",
    "compare_rows",
    "swap_databases",
    "restore_in_place",
    "keep_old",
    "check_afterwards",
    "reopen_target",
    "notify",
)
TEARDOWNS = {"reopen_target", "notify"}
AFTER_ASKING = ORDER[ORDER.index("check_approval") : ORDER.index("reopen_target")]


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag(DAG_ID)


def test_the_tasks_are_one_chain(dag: Any) -> None:
    wired = {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
    assert wired == {task: {after} for task, after in pairwise(ORDER)} | {"notify": set()}


def test_the_runbook_says_everything_and_only_people_start_it(dag: Any) -> None:
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    undo = " ".join(dag.doc_md.partition("**Undo**")[2].split())
    assert f"tick `{dag.params.get_param('unproven').schema['title']}`" in undo  # nobody proves the copy of before
    assert set(dag.tags) == {Tag.RESTORE, Tag.TRIGGERED}
    assert dag.is_paused_upon_creation is True
    assert dag.timetable.can_be_scheduled is False


def test_what_overwrites_is_tried_once_and_the_gate_lies_before_it(dag: Any) -> None:
    once = ("restore_beside", "swap_databases", "restore_in_place")
    assert [dag.get_task(task).retries for task in once] == [0, 0, 0]
    before = dag.get_task("swap_databases").get_flat_relative_ids(upstream=True)
    assert {"approve", "check_approval", "take_safety_backup", "compare_rows"} <= before
    assert all(task.execution_timeout is not None for task in dag.tasks)


def test_the_question_has_no_default_and_ends_in_time(dag: Any) -> None:
    approve = dag.get_task("approve")
    assert (approve.defaults, approve.response_timeout) == (None, timedelta(hours=24))
    assert (approve.retries, dag.get_task("check_approval").ask_task) == (1, "approve")


def test_no_task_that_always_runs_can_turn_a_refused_restore_green(dag: Any) -> None:
    from airflow.sdk import TriggerRule

    assert {task.task_id for task in dag.tasks if task.is_teardown} == TEARDOWNS
    rules = {task.task_id: task.trigger_rule for task in dag.tasks if not task.is_teardown}
    assert {rules[task] for task in AFTER_ASKING} == {TriggerRule.NONE_FAILED}
    assert {rule for task, rule in rules.items() if task not in AFTER_ASKING} == {TriggerRule.ALL_SUCCESS}


def test_the_thaw_is_waited_for_without_a_worker(dag: Any) -> None:
    sensor = dag.get_task("thaw_archive")
    assert (sensor.mode, sensor.poke_interval) == ("reschedule", 600)
    assert sensor.timeout >= timedelta(hours=48).total_seconds()


def test_a_thaw_is_expected_by_the_same_time_at_each_look(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    began = datetime(2026, 6, 1, 4, tzinfo=UTC)
    told: dict[str, Any] = {}
    task = SimpleNamespace(
        get_first_reschedule_date=lambda context: began, xcom_push=lambda key, value: told.update({key: value})
    )
    manifest = SimpleNamespace(backup_id="archive", archive=SimpleNamespace(key="monthly/archive.tar"))
    ctx = SimpleNamespace(
        catalog=SimpleNamespace(manifest=lambda backup_id: manifest),
        store=None,
        source=load_policy(SHIPPED_POLICY).source("pulse_messages"),
    )
    monkeypatch.setattr("backup_operators.restore_tasks.restore_context", lambda *_, **__: ctx)
    monkeypatch.setattr("backup_operators.restore_tasks.pulled", lambda *_: "archive")
    monkeypatch.setattr("include.backup.restore.thaw.thaw_state", lambda *_: (Thawing.ONGOING, "GLACIER"))
    assert dag.get_task("thaw_archive")._look({"ti": task}) is False
    assert told["thaw"]["expected_by"] == (began + timedelta(hours=5)).isoformat()


def test_the_form_is_safe_when_it_is_left_as_it_is(dag: Any) -> None:
    values = dag.params.dump()
    assert values["dry_run"] is True
    assert (values["choose"], values["where"]) == ("latest proven", "scratch database")
    yes = ("replace", "end_sessions", "give_up_slots", "give_up_writes", "unproven", "with_roles", "in_place")
    assert not any(values[name] for name in yes)
    for name in values:
        schema = dag.params.get_param(name).schema
        assert schema["title"]
        assert schema["description_md"]
        assert schema["section"] in ("Which backup", "Where to", "Are you sure")
    assert dag.params.get_param("server").schema["enum"] == [None, "beside"]


@pytest.mark.parametrize(
    "conf",
    [
        {"choose": "the best"},
        {"backup_id": "pulse_messages_daily_full_20250119T020000Z_3fa9c1\n"},
        {"backup_id": "x; DROP DATABASE y"},
        {"before": "yesterday"},
        {"before": "2025-01-19T02:00:00"},
        {"release": "1' OR '1'='1"},
        {"git_sha": "HEAD"},
        {"where": "anywhere"},
        {"server": "elsewhere"},
        {"database": "a\x00b"},
        {"database": "x" * 64},
        {"dry_run": "no"},
        {"reason": "x" * 501},
    ],
)
def test_bad_values_are_refused_before_anything_runs(dag: Any, conf: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        with_values(dag, conf)


def test_good_values_are_accepted(dag: Any) -> None:
    conf = {
        "choose": "latest before",
        "before": "2025-01-19T02:00:00Z",
        "where": "named database",
        "database": "x'; DROP DATABASE y; --",
        "server": "beside",
    }
    with_values(dag, conf)


def test_it_can_be_serialized_as_the_scheduler_needs_it(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert "swap_databases" in json.dumps(DagSerialization.to_dict(dag))
