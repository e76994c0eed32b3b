"""The DAGs of base backups and of point-in-time recoveries: wiring, forms, and what is safe about them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import ParamValidationError

from backup_operators import point_in_time_form
from backup_operators.slack import Delivery
from tests.dags.bag import read_dags

BASE = "pulse_messages.base_backup"
RECOVER = "pulse_messages.restore_point_in_time"


@pytest.fixture(scope="module")
def bag() -> Any:
    return read_dags()


def wiring(dag: Any) -> dict[str, set[str]]:
    return {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}


def test_a_base_backup_is_wired_as_designed(bag: Any) -> None:
    assert wiring(bag.dags[BASE]) == {
        "preflight": {"take_base"},
        "take_base": {"upload"},
        "upload": {"verify"},
        "verify": {"store_wal"},
        "store_wal": {"prepare_scratch", "close_staging"},
        "prepare_scratch": {"restore_test", "remove_scratch"},
        "restore_test": {"close_staging", "remove_scratch"},
        "remove_scratch": {"notify"},
        "close_staging": {"notify"},
        "notify": set(),
    }


def test_a_recovery_is_wired_as_designed(bag: Any) -> None:
    assert wiring(bag.dags[RECOVER]) == {
        "preview_recovery": {"approve"},
        "approve": {"check_approval"},
        "check_approval": {"recover"},
        "recover": {"notify"},
        "notify": set(),
    }


def test_a_good_base_backup_tells_what_was_wrong_with_the_log_before_it(
    bag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The WAL run after it finds all whole, and nobody else would tell."""
    told: list[str] = []
    reports = {"verify": {"line": "x is stored"}, "store_wal": {"line": "y", "note": "the slot was <lost>"}}

    class Instance:
        def get_task_breadcrumbs(self, **_: str) -> list[dict[str, str]]:
            return [{"task_id": task.task_id, "state": "success"} for task in bag.dags[BASE].tasks]

        def xcom_pull(self, task_ids: str) -> Any:
            return reports.get(task_ids)

    def deliver(text: str, **_: Any) -> Delivery:
        told.append(text)
        return Delivery(delivered=True, reason="")

    monkeypatch.setattr("backup_operators.tell.deliver", deliver)
    monkeypatch.setattr("backup_operators.tell.run_url", lambda *_: "http://run")
    run = SimpleNamespace(dag_id=BASE, run_id="r")
    bag.dags[BASE].get_task("notify").execute({"ti": Instance(), "dag_run": run})
    assert told == ["✅ *pulse_messages base backup*: x is stored <http://run|run>\n⚠️ the slot was &lt;lost&gt;"]


@pytest.mark.parametrize("dag_id", [BASE, RECOVER])
def test_nothing_is_left_to_a_default(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, True)
    assert all(task.execution_timeout is not None for task in dag.tasks)
    assert [task.task_id for task in dag.tasks if task.is_teardown and task.task_id == "notify"] == ["notify"]


def test_a_recovery_is_never_tried_twice(bag: Any) -> None:
    tasks = {task.task_id: task for task in bag.dags[RECOVER].tasks}
    assert tasks["recover"].retries == 0
    assert tasks["recover"].trigger_rule == TriggerRule.NONE_FAILED


def test_what_reads_the_source_and_what_runs_a_server_waits_its_turn(bag: Any) -> None:
    pools = {task.task_id: task.pool for task in bag.dags[BASE].tasks if task.pool != "backups"}
    assert pools == {"take_base": "pg_source", "restore_test": "scratch"}


def test_the_last_resort_comes_after_all_tries(bag: Any) -> None:
    dag = bag.dags[BASE]
    longest = sum(task.execution_timeout.total_seconds() * (task.retries + 1) for task in dag.tasks)
    assert dag.dagrun_timeout.total_seconds() > longest


GOOD = {"target_kind": "time", "target_time": "2025-01-19T14:30:00Z"}


@pytest.mark.parametrize(
    "bad",
    [
        {"target_kind": "yesterday"},
        {"target_time": "14:30"},
        {"target_time": "2025-01-19T14:30:00"},
        {"target_value": "a\nb"},
        {"base_backup": "pulse_messages_daily_full_20250119T020000Z_3fa9c1"},
        {"timeline": 0},
        {"timeline": "two"},
        {"system_identifier": "../x"},
        {"folder": "../elsewhere"},
        {"folder": "/etc"},
        {"folder": ""},
        {"port": 80},
        {"port": "5499"},
        {"unproven": "yes"},
    ],
)
def test_the_form_refuses_bad_values_before_anything_runs(bad: dict[str, Any]) -> None:
    ((name, value),) = bad.items()
    param = point_in_time_form.parameters()[name]
    with pytest.raises(ParamValidationError):
        param.resolve(value)


@pytest.mark.parametrize(
    "good",
    [
        GOOD,
        {"target_kind": "lsn", "target_value": "16/B374D848"},
        {"target_kind": "name", "target_value": "before 2025.3.1"},
        {"target_kind": "latest", "base_backup": "pulse_messages_incremental_base_20250119T020000Z_3fa9c1"},
    ],
)
def test_the_form_takes_good_values(good: dict[str, Any]) -> None:
    for name, param in point_in_time_form.parameters().items():
        assert param.resolve(good[name]) == good[name] if name in good else param.resolve() == param.value
