"""Runs that Airflow itself ends skip their teardowns: then the DAG's callback tells people, in the dag-processor."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.dags.bag import read_dags
from tests.dags.conftest import DATABASE_PASSWORD
from tests.faults.slack_capture import SlackCapture

DAILY, GUARD = "pulse_messages.daily_backup", "pulse_messages.pre_deployment_backup"
RUN_ID = "scheduled__2025-01-19T02:00:00+00:00"
CONF = {"release": "1.0", "git_sha": "0123abc"}

pytestmark = pytest.mark.usefixtures("airflow_database", "connections")


def end_run(dag_id: str, reason: str, *, with_task: bool) -> None:
    """Do what the dag-processor does with the scheduler's request."""
    from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
    from airflow.dag_processing.processor import _execute_dag_callbacks
    from airflow.sdk.api.datamodels._generated import DagRun, TaskInstance

    now = datetime(2025, 1, 19, 2, tzinfo=UTC)
    run = DagRun(
        dag_id=dag_id,
        run_id=RUN_ID,
        logical_date=None,
        data_interval_start=None,
        data_interval_end=None,
        run_after=now,
        start_date=now,
        end_date=now,
        run_type="manual",
        state="failed",
        conf=CONF if dag_id == GUARD else {},
        consumed_asset_events=[],
        partition_key=None,
    )
    last = TaskInstance(
        id=uuid.uuid4(),
        task_id="upload",
        dag_id=dag_id,
        run_id=RUN_ID,
        try_number=1,
        dag_version_id=uuid.uuid4(),
    )
    request = DagCallbackRequest(
        filepath=str(Path("daily_backup.py")),
        bundle_name="dags-folder",
        bundle_version=None,
        msg=reason,
        dag_id=dag_id,
        run_id=RUN_ID,
        context_from_server=DagRunContext(dag_run=run, last_ti=last) if with_task else None,
    )
    log: Any = structlog.get_logger()
    _execute_dag_callbacks(read_dags(), request, log)


@pytest.mark.parametrize("with_task", [True, False])
@pytest.mark.parametrize("dag_id", [DAILY, GUARD])
def test_a_run_that_took_too_long_is_told_of(slack: SlackCapture, dag_id: str, with_task: bool) -> None:
    end_run(dag_id, "timed_out", with_task=with_task)
    (message,) = slack.messages
    assert "*ended by Airflow*" in message.text
    assert "dagrun_timeout" in message.text
    assert f"`{RUN_ID}` of `{dag_id}`" in message.text
    assert "*Next:* Look which task it waited for" in message.text
    assert f"/dags/{dag_id}/runs/scheduled__2025-01-19T02%3A00%3A00%2B00%3A00|run>" in message.text


def test_a_run_of_which_notify_has_told_is_not_told_of_twice(slack: SlackCapture) -> None:
    end_run(DAILY, "task_failure", with_task=True)
    assert slack.messages == []


def test_slack_away_does_not_break_the_callback(slack: SlackCapture) -> None:
    from backup_operators.notify import tell_of_ended_run

    slack.__exit__()
    context: Any = {"dag": read_dags().dags[DAILY], "run_id": RUN_ID, "reason": "timed_out"}
    delivery = tell_of_ended_run(
        context,
        source="pulse_messages",
        tier="daily",
        slack_conn_id="pulse_slack",
        secret_conn_ids=("pulse_messages_db", "pulse_slack"),
    )
    assert delivery is not None
    assert delivery.delivered is False


def test_a_secret_in_a_run_id_reaches_no_message(slack: SlackCapture) -> None:
    from backup_operators.notify import tell_of_ended_run

    context: Any = {"dag": read_dags().dags[DAILY], "run_id": f"x-{DATABASE_PASSWORD}", "reason": "timed_out"}
    tell_of_ended_run(
        context,
        source="pulse_messages",
        tier="daily",
        slack_conn_id="pulse_slack",
        secret_conn_ids=("pulse_messages_db", "pulse_slack"),
    )
    assert DATABASE_PASSWORD not in slack.messages[0].raw
