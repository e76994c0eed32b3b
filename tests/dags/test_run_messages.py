"""What people are told of a run: never a secret, and a run does not depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.backup.errors import SourceLoginError, StoreUnreachableError
from tests.dags.conftest import DATABASE_PASSWORD, SLACK_TOKEN, STORE_SECRET
from tests.dags.fakes import FakeSteps
from tests.dags.runs import DAILY, Runner
from tests.faults.slack_capture import Answer, SlackCapture

pytestmark = pytest.mark.usefixtures("airflow_database", "connections")


@pytest.mark.parametrize(
    "text",
    [
        f"connection to postgres://pulse_backup:{DATABASE_PASSWORD}@db.example/x failed",
        f"the server said {DATABASE_PASSWORD!r}",
        f"signature of {STORE_SECRET} does not match",
        f"posting to /services/{SLACK_TOKEN}",
        "password=an-unknown-one host=x",
    ],
)
@pytest.mark.parametrize("kind", [StoreUnreachableError, SourceLoginError, RuntimeError])
def test_a_secret_in_an_exceptions_text_reaches_no_message_and_no_xcom(
    run: Runner, steps: FakeSteps, slack: SlackCapture, kind: type[Exception], text: str
) -> None:
    steps.failing["upload"] = kind(text)
    ended = run(DAILY)
    assert ended.state == "failed"
    (message,) = slack.messages
    kept = str(ended.xcom("upload", "failure"))
    for secret in (DATABASE_PASSWORD, STORE_SECRET, SLACK_TOKEN, "an-unknown-one"):
        assert secret not in message.raw
        assert secret not in kept
    assert kind.__name__ in message.text


def test_an_unexpected_exceptions_text_is_not_passed_on(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    steps.failing["dump"] = KeyError("row 17: alice@example.org")
    run(DAILY)
    assert "KeyError: an unexpected error, whose text is only in the log" in slack.messages[0].text
    assert "alice" not in slack.messages[0].raw


def test_a_table_cannot_call_the_channel_from_a_message(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    steps.failing["dump"] = StoreUnreachableError("table <!channel> & <https://evil.example|click>")
    run(DAILY)
    assert "table &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in slack.messages[0].text


@pytest.mark.parametrize("answer", [Answer.ERROR, Answer.HANG])
def test_slack_down_fails_no_backup_and_is_seen(
    run: Runner, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr("backup_operators.slack.TIMEOUT_SECONDS", 1)
    slack.answer = answer
    ended = run(DAILY)
    assert (ended.state, ended.tasks["notify"]) == ("success", "success")
    seen = ended.xcom("notify")
    assert (seen["delivered"], seen["succeeded"]) == (False, True)
    assert seen["reason"]
    assert SLACK_TOKEN not in seen["reason"]


def test_slack_away_fails_no_backup_and_is_seen(run: Runner, slack: SlackCapture) -> None:
    slack.__exit__()
    ended = run(DAILY)
    assert ended.state == "success"
    assert ended.xcom("notify")["delivered"] is False
    assert "Connection refused" in ended.xcom("notify")["reason"]


@pytest.mark.parametrize(
    "definition", [None, '{"conn_type": "slackwebhook"}', '{"conn_type": "slackwebhook", "password": "http://[bad"}']
)
def test_a_slack_connection_that_is_missing_or_wrong_fails_no_backup(
    run: Runner, monkeypatch: pytest.MonkeyPatch, definition: str | None
) -> None:
    if definition is None:
        monkeypatch.delenv("AIRFLOW_CONN_PULSE_SLACK")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_PULSE_SLACK", definition)
    ended = run(DAILY)
    assert ended.state == "success"
    assert ended.xcom("notify")["delivered"] is False
    assert ended.xcom("notify")["reason"]


def test_a_source_that_has_no_slack_in_the_policy_is_backed_up(run: Runner, policy: Path, slack: SlackCapture) -> None:
    policy.write_text(policy.read_text().replace("    slack:\n      connection: pulse_slack\n", ""))
    ended = run(DAILY)
    assert ended.state == "success"
    assert ended.xcom("notify")["reason"] == "the policy names no Slack connection for this source"
    assert slack.messages == []


def test_a_missing_connection_is_named_and_the_message_still_comes(
    run: Runner, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_PULSE_BACKUPS_S3")
    ended = run(DAILY)
    assert (ended.state, ended.tasks["preflight"]) == ("failed", "failed")
    assert "ConnectionDefinitionError: there is no connection pulse_backups_s3" in slack.messages[0].text


def test_a_policy_that_broke_after_parsing_is_told_of(
    run: Runner, steps: FakeSteps, slack: SlackCapture, policy: Path
) -> None:
    original = steps._fake("preflight")

    def broken(ctx: Any) -> Any:
        policy.write_text(policy.read_text().replace("7 days", "7 hours"))
        return original(ctx)

    import include.backup.steps.preflight as preflight

    preflight.run = broken
    ended = run(DAILY)
    assert (ended.state, ended.tasks["dump"]) == ("failed", "failed")
    assert "UnknownSourceError: source pulse_messages is left out of the policy" in slack.messages[0].text
