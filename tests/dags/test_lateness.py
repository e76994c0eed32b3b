"""The first task of archives, cleanup and drills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from backup_operators.lateness import LATE_KEY, CheckLatenessOperator

LIMIT = timedelta(hours=24)


def context(*, run_type: str, late: timedelta, try_number: int = 1) -> Any:
    pushed: dict[str, Any] = {}
    run = SimpleNamespace(
        dag_id="pulse_messages.monthly_archive",
        run_id="r",
        run_after=datetime.now(UTC) - late,
        run_type=run_type,
        triggering_user_name=None,
    )
    task = SimpleNamespace(
        try_number=try_number, pushed=pushed, xcom_push=lambda *, key, value: pushed.update({key: value})
    )
    return {"dag_run": run, "ti": task}


def execute(given: Any) -> dict[str, Any]:
    return CheckLatenessOperator(task_id="check_lateness", at_most=LIMIT).execute(given)


def test_a_missed_slot_that_starts_on_unpause_is_skipped_and_says_so() -> None:
    given = context(run_type="scheduled", late=timedelta(days=21))
    with pytest.raises(AirflowSkipException, match=r"21\.0 days late.*Trigger a new run"):
        execute(given)
    assert "nothing is done" in given["ti"].pushed[LATE_KEY]


def test_a_run_in_time_goes_on() -> None:
    assert 60 <= execute(context(run_type="scheduled", late=timedelta(minutes=1)))["seconds_late"] < 120


@pytest.mark.parametrize("given", [{"run_type": "manual"}, {"run_type": "scheduled", "try_number": 2}])
def test_what_a_person_starts_or_clears_goes_on_however_late(given: dict[str, Any]) -> None:
    assert execute(context(late=timedelta(days=21), **given))["seconds_late"] > 0
