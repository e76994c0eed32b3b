"""Runs that Airflow itself ends skip their teardowns: then the DAG's callback tells people, in the dag-processor."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from backup_operators.deadline import tell_of_late_run
from include.backup.errors import MessageError
from include.backup.policy import SHIPPED_POLICY
from tests.dags.bag import read_dag, read_dags
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
    context: Any = {"dag": read_dag(DAILY), "run_id": RUN_ID, "reason": "timed_out"}
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

    context: Any = {"dag": read_dag(DAILY), "run_id": f"x-{DATABASE_PASSWORD}", "reason": "timed_out"}
    tell_of_ended_run(
        context,
        source="pulse_messages",
        tier="daily",
        slack_conn_id="pulse_slack",
        secret_conn_ids=("pulse_messages_db", "pulse_slack"),
    )
    assert DATABASE_PASSWORD not in slack.messages[0].raw


# --- runs that go on for too long ------------------------------------------------------------------------

BACKUP_DAGS = {
    "daily_backup": timedelta(hours=2),
    "weekly_backup": timedelta(hours=4),
    "monthly_archive": timedelta(hours=12),
    "pre_deployment_backup": timedelta(hours=1),
    "critical_tables_backup": timedelta(minutes=30),
    "incremental_backup": timedelta(minutes=14),
    "base_backup": timedelta(hours=6),
}


def test_every_backup_dag_has_the_deadline_of_the_policy_and_its_callback_is_found_by_its_name() -> None:
    from airflow.sdk._shared.module_loading import import_string

    dags = read_dags().dags
    for name, limit in BACKUP_DAGS.items():
        (alert,) = dags[f"pulse_messages.{name}"].deadline
        assert alert.interval == limit
        assert import_string(alert.callback.path) is tell_of_late_run
        assert alert.callback.kwargs["source"] == "pulse_messages"


def test_without_a_deadline_in_the_policy_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(re.sub(r"\n +deadline: [^\n]*", "", SHIPPED_POLICY.read_text()))
    monkeypatch.setenv("BACKUP_POLICY", str(path))
    dags = read_dags().dags
    assert [name for name in BACKUP_DAGS if dags[f"pulse_messages.{name}"].deadline] == []


def miss(state: str, **changes: Any) -> dict[str, Any]:
    """Do what the triggerer does with a missed deadline."""
    kwargs = {**read_dag(DAILY).deadline[0].callback.kwargs, **changes}
    context = {"dag_run": {"dag_id": DAILY, "dag_run_id": RUN_ID, "state": state}, "deadline": {}}
    return asyncio.run(tell_of_late_run(context=context, **kwargs))


@pytest.mark.parametrize(("state", "advice"), [("running", "a lock, a missing pool"), ("queued", "an earlier run")])
def test_a_late_run_is_told_of_with_what_to_look_at(slack: SlackCapture, state: str, advice: str) -> None:
    assert miss(state)["delivered"] is True
    (message,) = slack.messages
    assert f"is still {state}, 2:00:00 past the usual" in message.text
    assert advice in message.text


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_that_is_over_is_not_told_of_again(slack: SlackCapture, state: str) -> None:
    assert miss(state) == {"delivered": False, "state": state}
    assert list(slack.messages) == []


def test_a_late_run_of_which_nobody_could_be_told_fails_the_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_SLACK", '{"conn_type": "slackwebhook", "password": "http://127.0.0.1:9/x"}')
    with pytest.raises(MessageError, match="could not be told of"):
        miss("running")


def queue_run(run_id: str) -> tuple[Any, list[timedelta]]:
    """Store the DAGs as the dag-processor does, queue a run as the scheduler does; return its version and deadlines."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db
    from airflow.models.deadline import Deadline
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    manager = DagBundlesManager()
    (bundle,) = manager.get_all_dag_bundles()
    with create_session() as session:
        manager.sync_bundles_to_db(session=session)
        session.commit()
        sync_bag_to_db(read_dags(), bundle.name, None, session=session)
        session.commit()
        stored = SerializedDagModel.get(DAILY, session=session)
        queued = stored.dag.create_dagrun(
            run_id=run_id,
            run_after=datetime.now(tz=UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.REST_API,
            state=DagRunState.QUEUED,
            session=session,
        )
        session.flush()
        due = session.scalars(select(Deadline.deadline_time).where(Deadline.dagrun_id == queued.id)).all()
        found = [time - queued.queued_at for time in due]
        # It ends well, so that the next run has a usual time.
        queued.state, queued.start_date = DagRunState.SUCCESS, queued.queued_at
        queued.end_date = queued.queued_at + timedelta(minutes=1)
        return stored.dag_version_id, found


def test_a_change_of_something_else_leaves_the_deadline_to_the_next_runs(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow finds the alerts by the newest stored version of the DAG, and has once lost them with a new version."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    queue_run("usual")
    before, (first,) = queue_run("one")
    policy.write_text(policy.read_text().replace("keep: 7 days", "keep: 8 days"))
    after, (second,) = queue_run("two")
    assert before != after
    assert timedelta(hours=2) < first < timedelta(hours=2, minutes=5)
    assert timedelta(hours=2) < second < timedelta(hours=2, minutes=5)
