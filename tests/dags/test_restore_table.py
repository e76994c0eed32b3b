"""restore_table as Airflow reads it: its wiring, its form, and that nothing destructive is tried twice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from backup_operators.defaults import Tag
from tests.dags.bag import read_dag, with_values

DAG_ID = "pulse_messages.restore_table"
ORDER = (
    "resolve_backup",
    "thaw_archive",
    "preview_restore",
    "approve",
    "check_approval",
    "take_safety_copy",
    "restore_tables",
    "check_afterwards",
    "notify",
)
AFTER_ASKING = ORDER[ORDER.index("check_approval") : ORDER.index("notify")]


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
    assert dag.timetable.can_be_scheduled is False


def test_what_changes_rows_is_tried_once_after_the_gate_and_the_copy(dag: Any) -> None:
    assert dag.get_task("restore_tables").retries == 0
    before = dag.get_task("restore_tables").get_flat_relative_ids(upstream=True)
    assert {"preview_restore", "approve", "check_approval", "take_safety_copy"} <= before
    assert all(task.execution_timeout is not None for task in dag.tasks)
    assert dag.get_task("approve").defaults is None


def test_no_task_that_always_runs_can_turn_a_refused_restore_green(dag: Any) -> None:
    from airflow.sdk import TriggerRule

    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["notify"]
    rules = {task.task_id: task.trigger_rule for task in dag.tasks if not task.is_teardown}
    assert {rules[task] for task in AFTER_ASKING} == {TriggerRule.NONE_FAILED}


def test_the_form_is_safe_when_it_is_left_as_it_is(dag: Any) -> None:
    values = dag.params.dump()
    assert (values["dry_run"], values["mode"], values["choose"]) == (True, "beside", "latest proven")
    assert not any(values[name] for name in ("unproven", "touch_children"))
    for name in values:
        schema = dag.params.get_param(name).schema
        assert schema["title"]
        assert schema["description_md"]
        assert schema["section"] in ("Which tables", "Which backup", "Where to", "Are you sure")


@pytest.mark.parametrize(
    "conf",
    [
        {"mode": "drop"},
        {"tables": []},
        {"tables": "public.messages"},
        {"tables": [""]},
        {"tables": [1]},
        {"tables": ["x" * 201]},
        {"where": "scratch database"},
        {"touch_children": "yes"},
        {"backup_id": "x; DROP TABLE y"},
        {"dry_run": "no"},
    ],
)
def test_bad_values_are_refused_before_anything_runs(dag: Any, conf: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        with_values(dag, conf)


def test_it_can_be_serialized_as_the_scheduler_needs_it(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == DAG_ID
