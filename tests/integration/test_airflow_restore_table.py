"""restore_table under the real scheduler: with another person's yes, and with marks and forgeries in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

import pytest

from include.local.airflow import DEPLOYER
from tests.integration.test_airflow_restore import Restored, answer, as_user, ended, mark, spoil
from tests.support.airflow_stack import AirflowStack
from tests.support.scenarios import Scenarios, at_the_same_time

TABLES = {"tables": ["public.orders"], "mode": "replace", "where": "production", "choose": "id", "unproven": True}


def approved(lab: AirflowStack) -> Restored:
    """First it is only shown, then done with another person's yes."""
    backup_id, good, before = spoil(lab, "tables_yes", release=None)
    seen = lab.run("tables_yes.restore_table", {**TABLES, "backup_id": backup_id})
    seen.wait()
    run = lab.run("tables_yes.restore_table", {**TABLES, "backup_id": backup_id, "dry_run": False, "reason": "lost"})
    answer(as_user(lab, DEPLOYER), run, "Approve")
    return ended(lab, run, good, before, backup_id=backup_id, seen=seen)


def marked(lab: AirflowStack) -> Restored:
    """Nobody answers; an administrator marks the tasks of the gate as successes."""
    backup_id, good, before = spoil(lab, "tables_marked", release=None)
    run = lab.run("tables_marked.restore_table", {**TABLES, "backup_id": backup_id, "dry_run": False})
    run.wait_for("approve", "awaiting_input")
    mark(lab, run, "approve")
    run.wait_for("check_approval", "failed")
    run.wait()
    mark(lab, run, "check_approval")
    run.clear("take_safety_copy")
    return ended(lab, run, good, before)


SCENARIOS: Mapping[str, Callable[[AirflowStack], Restored]] = {"approved": approved, "marked": marked}


@pytest.fixture(scope="module")
def all_of_them(
    request: pytest.FixtureRequest, airflow_stack: AirflowStack
) -> Iterator[Scenarios[AirflowStack, Restored]]:
    with at_the_same_time(request, airflow_stack, SCENARIOS) as started:
        yield started


@pytest.fixture
def scenario(all_of_them: Scenarios[AirflowStack, Restored], request: pytest.FixtureRequest) -> Restored:
    return all_of_them[request.param]


def about(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", names, indirect=True)


@about("approved")
def test_with_another_persons_yes_the_rows_are_back_and_a_copy_of_before_is_stored(scenario: Restored) -> None:
    run = scenario.run
    assert scenario.state == "success", run.story()
    assert (scenario.after["orders"], scenario.after["oid"]) == (scenario.good["orders"], scenario.before["oid"])
    assert run.xcom("take_safety_copy")["backup_id"].startswith("tables_yes_safety_tables_")
    (merged,) = run.xcom("restore_tables")["merged"]
    assert (merged["inserted"], merged["updated"], merged["deleted"]) == (4900, 0, 0)


@about("approved")
def test_what_would_change_is_in_the_log_and_no_row_is_anywhere_else(scenario: Restored) -> None:
    seen = scenario.notes["seen"]
    assert seen.states()["restore_tables"] == "skipped"
    log = seen.log("preview_restore")
    assert re.search(r"public\.orders +5000 +100 +4900 +0 +0", log)
    assert "missing in public.orders: id=101;" in log
    assert "changes-" in log
    for run in (seen, scenario.run):
        left = json.dumps(run.xcom("preview_restore"))
        assert "id=101" not in left
        assert json.loads(left)["missing"] == 4900


@about("marked")
def test_marks_and_forgeries_are_no_answer(scenario: Restored) -> None:
    assert scenario.state == "failed"
    assert scenario.after["orders"] == scenario.before["orders"]
    assert scenario.run.states()["restore_tables"] == "failed"
    assert "ApprovalError" in scenario.run.log("restore_tables")
