"""Looking at health as a DAG: wired for each source, telling people, red when nobody can be told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backup_operators.airflow_facts import airflow_facts
from backup_operators.health import HealthOperator
from include.backup.errors import AirflowApiError, HealthError
from include.backup.health.board import Board
from include.backup.health.facts import AirflowFacts, HealthFacts
from tests.dags.bag import read_dags
from tests.faults.slack_capture import SlackCapture
from tests.support.aged_bucket import PLAIN, Bucket

SOURCE = "pulse_messages"


def test_every_source_is_looked_at_hourly_by_a_task_of_its_own() -> None:
    dag = read_dags().dags["backup_health"]
    assert [task.task_id for task in dag.tasks] == ["look_at_health"]
    assert dag.timetable.expression == "25 * * * *"
    assert dag.is_paused_upon_creation is True


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    made = Bucket(tmp_path)
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("backup_operators.fleet.die_with_parent", lambda: None)
    facts = HealthFacts(
        source=SOURCE, now=datetime.now(tz=UTC), airflow=AirflowFacts(components={"scheduler": "unhealthy"})
    )
    monkeypatch.setattr("include.backup.health.gather.gather", lambda _: facts)
    monkeypatch.setattr(HealthOperator, "_airflow", lambda *_: facts.airflow)
    return made


def look() -> dict[str, Any]:
    run = SimpleNamespace(
        dag_id="backup_health", run_id="r", run_after=datetime.now(UTC), run_type="manual", triggering_user_name="ann"
    )
    context: Any = {"dag_run": run, "ti": SimpleNamespace(try_number=1)}
    found: dict[str, Any] = HealthOperator(task_id="look_at_health", source=SOURCE, retries=0).execute(context)
    return found


def test_what_is_wrong_reaches_slack_once_and_the_heartbeat_is_written(bucket: Bucket, slack: SlackCapture) -> None:
    first = look()
    assert "component:scheduler" in first["open"]
    assert first["delivered"] is True
    (message,) = [message.text for message in slack.messages]
    assert "scheduler is unhealthy" in message
    assert "*Next:*" in message
    assert look()["told"] == 0
    assert len(slack.messages) == 1
    beat = Board(bucket.store, source=SOURCE, encryption=PLAIN).heartbeat()
    assert beat is not None
    assert beat.alerts == len(first["open"])


def test_an_alarm_that_nobody_gets_fails_the_task_and_is_kept(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_SLACK", '{"conn_type": "slackwebhook", "password": "http://127.0.0.1:9/x"}')
    with pytest.raises(HealthError, match="NOBODY COULD BE TOLD"):
        look()
    assert Board(bucket.store, source=SOURCE, encryption=PLAIN).open_alerts()


class SilentRest:
    def read(self, path: str) -> dict[str, Any]:
        raise AirflowApiError(f"nobody answers {path}")


def test_an_api_that_does_not_answer_is_a_fact() -> None:
    rest: Any = SilentRest()
    assert "nobody answers" in str(airflow_facts(rest, SOURCE).unreachable)
