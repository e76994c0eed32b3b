"""Verification and cleanup under the real scheduler: lost events lose nothing, and one source's trouble is its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.airflow_runs import AirflowRun, until
from tests.support.airflow_stack import AirflowStack

SOURCE = "woken"
VERIFICATION = f"{SOURCE}.backup_verification"
PROOF_SECONDS = 300


@pytest.fixture(scope="module")
def missed(airflow_stack: AirflowStack) -> list[AirflowRun]:
    """Two backups that were taken while the DAG that proves them was paused."""
    runs = []
    for _ in range(2):
        run = airflow_stack.daily(SOURCE)
        assert run.wait() == "success", run.story()
        runs.append(run)
    assert all(airflow_stack.proofs_of(run.backup_id) == [] for run in runs)
    return runs


def passed(lab: AirflowStack, run: AirflowRun) -> bool:
    return [proof["result"] for proof in lab.proofs_of(run.backup_id)] == ["passed"]


def test_backups_whose_events_were_lost_or_folded_are_all_proven(
    airflow_stack: AirflowStack, missed: list[AirflowRun]
) -> None:
    run = airflow_stack.run(VERIFICATION)
    assert run.wait(PROOF_SECONDS) == "success", run.story()
    assert all(passed(airflow_stack, backup) for backup in missed)


def test_a_new_backup_wakes_the_verification_and_what_was_proven_is_not_read_again(
    airflow_stack: AirflowStack, missed: list[AirflowRun]
) -> None:
    airflow_stack.api.unpause(VERIFICATION)
    backup = airflow_stack.daily(SOURCE)
    assert backup.wait() == "success", backup.story()
    until(lambda: passed(airflow_stack, backup), seconds=PROOF_SECONDS, what=f"a proof of {backup.backup_id}")
    kinds = {run["run_type"] for run in _runs(airflow_stack)}
    assert "asset_triggered" in kinds
    # Whichever runs there were: each of the earlier backups has one proof.
    assert all(passed(airflow_stack, one) for one in missed)


def _runs(lab: AirflowStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.api.get(f"/dags/{VERIFICATION}/dagRuns")["dag_runs"]
    return found


@pytest.mark.long
def test_a_cleanup_that_a_person_starts_deletes_nothing_and_each_source_is_judged_alone(
    airflow_stack: AirflowStack, missed: list[AirflowRun]
) -> None:
    run = airflow_stack.run("backup_cleanup")
    run.wait(900)
    states: dict[str, str] = {}
    for task in airflow_stack.api.get(f"{run.path}/taskInstances?limit=200")["task_instances"]:
        if task["task_id"] == "clean_up":
            states[task["rendered_map_index"]] = task["state"]
    assert states[SOURCE] == "success"
    # Its bucket does not exist; nobody else's cleanup suffers from that.
    assert states.pop("fail_preflight") == "failed"
    assert set(states.values()) == {"success"}
    assert all(airflow_stack.keys(backup) for backup in missed)
