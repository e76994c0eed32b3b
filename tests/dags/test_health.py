"""Looking at health as a DAG: wired for each source, telling people, red when nobody can be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.airflow_facts import airflow_facts
from backup_operators.alerts import AcknowledgeAlertOperator
from backup_operators.audit import ReportFleetOperator
from backup_operators.health import HealthOperator
from include.backup.errors import AirflowApiError, HealthError, UnknownSourceError
from include.backup.evidence.ledger import Ledger
from include.backup.evidence.record import EventKind, read_event, record_key, records_prefix
from include.backup.health.board import Board, read_heartbeat
from include.backup.health.facts import AirflowFacts, HealthFacts
from include.backup.health.ping import PingTarget
from include.backup.policy.evidence import EvidencePolicy
from include.backup.policy.health import PingPolicy
from tests.dags.bag import read_dag
from tests.faults.slack_capture import SlackCapture
from tests.support.aged_bucket import PLAIN, Bucket

SOURCE = "pulse_messages"


def test_every_source_is_looked_at_hourly_by_a_task_of_its_own() -> None:
    dag = read_dag("backup_health")
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "look_at_health": {"report_fleet"},
        "report_fleet": set(),
    }
    # Or a look that failed would be hidden by what comes after it.
    assert dag.get_task("report_fleet").is_teardown
    assert not dag.get_task("report_fleet").on_failure_fail_dagrun
    assert dag.timetable.expression == "25 * * * *"
    assert dag.is_paused_upon_creation is True


def test_the_only_source_is_red_when_it_is_left_out_of_the_policy(policy: Path) -> None:
    policy.write_text(policy.read_text().replace("largest_mib: 10240", "largest_mib: many"))
    assert read_dag("backup_health").get_task("look_at_health").expand_input.value == {"source": [SOURCE]}
    with pytest.raises(UnknownSourceError, match=r"left out of the policy.*largest_mib"):
        look()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    made = Bucket(tmp_path)
    for module in ("include.backup.steps.context", "include.backup.audit.fleet"):
        monkeypatch.setattr(f"{module}.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("backup_operators.fleet.die_with_parent", lambda: None)
    facts = HealthFacts(
        source=SOURCE, now=datetime.now(tz=UTC), airflow=AirflowFacts(components={"scheduler": "unhealthy"})
    )
    monkeypatch.setattr("include.backup.health.gather.gather", lambda _: facts)
    monkeypatch.setattr(HealthOperator, "_airflow", lambda *_: facts.airflow)
    return made


def context(dag_id: str) -> Any:
    run = SimpleNamespace(
        dag_id=dag_id, run_id="r", run_after=datetime.now(UTC), run_type="manual", triggering_user_name="ann"
    )
    return {"dag_run": run, "ti": SimpleNamespace(try_number=1)}


def look() -> dict[str, Any]:
    operator = HealthOperator(task_id="look_at_health", source=SOURCE, retries=0)
    found: dict[str, Any] = operator.execute(context("backup_health"))
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


def test_a_change_of_the_policy_is_on_record_within_the_hour(bucket: Bucket, policy: Path, slack: SlackCapture) -> None:
    look()
    look()
    policy.write_text(policy.read_text().replace("keep: 9 days #", "keep: 90 days #"))
    look()
    first, second = [
        event
        for key in sorted(key for key in bucket.s3.visible() if key.startswith(records_prefix(SOURCE)))
        if (event := read_event(bucket.store.get(key), name=key)).kind is EventKind.POLICY_CHANGE
    ]
    assert first.facts["changes"] == []
    assert second.facts["changes"] == [{"path": "tiers.hourly.keep", "old": "9 days", "new": "90 days"}]
    assert second.actor == "backup_health r by ann"


def test_an_alarm_that_nobody_gets_fails_the_task_and_is_kept(
    bucket: Bucket, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_SLACK", '{"conn_type": "slackwebhook", "password": "http://127.0.0.1:9/x"}')
    with pytest.raises(HealthError, match="NOBODY COULD BE TOLD"):
        look()
    assert Board(bucket.store, source=SOURCE, encryption=PLAIN).open_alerts()


def acknowledge(alert: str, until: str = "") -> dict[str, Any]:
    operator = AcknowledgeAlertOperator(
        task_id="acknowledge", source=SOURCE, alert=alert, note="restarting <it>", until=until
    )
    found: dict[str, Any] = operator.execute(context("pulse_messages.acknowledge_alert"))
    return found


def test_who_triggers_the_acknowledgement_is_who_knows_of_it_and_it_is_not_told_again(
    bucket: Bucket, slack: SlackCapture
) -> None:
    look()
    shown = next(word for word in slack.messages[0].text.split("`") if len(word) == 8 and word.isalnum())
    (alert,) = [
        alert for alert in Board(bucket.store, source=SOURCE, encryption=PLAIN).open_alerts() if alert.short_id == shown
    ]
    done = acknowledge(shown, until="2999-01-01T00:00:00Z")
    assert done == {"alert": alert.key, "id": shown, "by": "ann", "until": "2999-01-01T00:00:00+00:00"}
    assert f"{alert.key} is known to ann" in slack.messages[-1].text
    assert "restarting &lt;it&gt;" in slack.messages[-1].text
    ledger = Ledger(bucket.store, source=SOURCE, encryption=PLAIN, policy=EvidencePolicy())
    key = record_key(SOURCE, ledger.last_sequence())
    record = read_event(bucket.store.get(key), name=key)
    assert (record.actor, record.facts["what"], record.facts["note"]) == ("ann", "acknowledged", "restarting <it>")


def test_an_alert_that_is_none_or_several_is_refused_with_those_that_are_open(bucket: Bucket) -> None:
    look()
    with pytest.raises(AirflowFailException, match=r"fits \d+ alerts of pulse_messages: never_succeeded:\w+ \("):
        acknowledge("never_succeeded:")
    with pytest.raises(AirflowFailException, match=r"no open alert 'nonsense'.*open: component:scheduler \("):
        acknowledge("nonsense")
    with pytest.raises(AirflowFailException, match="over already"):
        acknowledge("component:scheduler", until="2020-01-01T00:00:00Z")
    assert not [key for key in bucket.s3.visible() if "/acknowledged/" in key]


def test_the_form_of_an_acknowledgement_reaches_its_task(
    bucket: Bucket, run: Callable[..., Any], airflow_database: None
) -> None:
    look()
    form = {"alert": "component:scheduler", "note": "restarting it"}
    assert run("pulse_messages.acknowledge_alert", form).state == "success"
    assert run("pulse_messages.acknowledge_alert", {**form, "alert": "late"}).state == "failed"
    assert len([key for key in bucket.s3.visible() if "/acknowledged/" in key]) == 1


def test_a_good_look_sends_the_request_and_one_that_fails_is_told_by_the_next(
    bucket: Bucket, policy: Path, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.write_text(policy.read_text().replace("      # ping: {", "      ping: {"))
    sent: list[str] = []
    failures: list[str | None] = ["it answers 404", None]

    def ping(target: PingTarget, how: PingPolicy) -> str | None:
        sent.append(str(target.url))
        return failures.pop(0)

    monkeypatch.setattr("include.backup.health.ping.ping", ping)
    assert "there is no connection pulse_health_ping" in look()["ping"]
    url = "https://ping.example/0f1e2d3c"
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_HEALTH_PING", json.dumps({"conn_type": "http", "password": url}))
    assert (look()["ping"], sent) == ("it answers 404", [url])
    beat = read_heartbeat(bucket.store, SOURCE)
    assert beat is not None
    assert beat.ping_failure == "it answers 404"
    assert look()["ping"] == "arrived"
    beat = read_heartbeat(bucket.store, SOURCE)
    assert beat is not None
    assert beat.ping_failure is None
    assert not [message for message in slack.messages if "0f1e2d3c" in message.raw]


def test_nobody_is_told_that_somebody_looked_when_nobody_could_be_told(
    bucket: Bucket, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.write_text(policy.read_text().replace("      # ping: {", "      ping: {"))
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_SLACK", '{"conn_type": "slackwebhook", "password": "http://127.0.0.1:9/x"}')
    monkeypatch.setattr(HealthOperator, "_ping", lambda *_: pytest.fail("the request was sent"))
    with pytest.raises(HealthError):
        look()


def test_the_fleet_is_one_table_of_what_health_found_last(bucket: Bucket, slack: SlackCapture) -> None:
    fleet = ReportFleetOperator(task_id="report_fleet")
    context: Any = {}
    assert fleet.execute(context) == {"sources": 1, "not_protected": [SOURCE]}
    look()
    assert fleet.execute(context)["not_protected"] == [SOURCE]
    board = Board(bucket.store, source=SOURCE, encryption=PLAIN)
    board.replace_open((), at=datetime.now(tz=UTC))
    assert fleet.execute(context) == {"sources": 1, "not_protected": []}


class SilentRest:
    def read(self, path: str) -> dict[str, Any]:
        raise AirflowApiError(f"nobody answers {path}")


def test_an_api_that_does_not_answer_is_a_fact() -> None:
    rest: Any = SilentRest()
    assert "nobody answers" in str(airflow_facts(rest, SOURCE).unreachable)
