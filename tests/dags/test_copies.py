"""The report of copies at the end of the daily backup: always made, never the reason why a run fails."""

from __future__ import annotations

import pytest

from include.backup.errors import StoreUnreachableError
from include.backup.supabase.daily import DailyState
from tests.dags.conftest import DATABASE_PASSWORD
from tests.dags.fakes import FakeSteps
from tests.dags.runs import DAILY, Runner
from tests.faults.slack_capture import SlackCapture

pytestmark = pytest.mark.usefixtures("airflow_database", "connections")


def test_a_missing_backup_of_supabase_is_in_the_message_and_the_run_is_good(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    steps.supabase = DailyState.MISSING
    ended = run(DAILY)
    assert (ended.state, ended.tasks["report_copies"]) == ("success", "success")
    (message,) = slack.messages
    assert message.text.startswith("✅")
    assert "Supabase's own daily backup: missing, said by the test" in message.text
    assert ended.xcom("report_copies")["supabase"] == "missing"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (StoreUnreachableError(f"s3.example: password={DATABASE_PASSWORD}"), "the copies were not counted: s3.example"),
        (KeyError(DATABASE_PASSWORD), "the copies were not counted: unexpected KeyError"),
    ],
)
def test_a_report_that_cannot_be_made_is_said_without_secrets_and_the_run_is_good(
    run: Runner, steps: FakeSteps, slack: SlackCapture, failure: Exception, words: str
) -> None:
    steps.failing["report_copies"] = failure
    ended = run(DAILY)
    assert (ended.state, ended.tasks["report_copies"]) == ("success", "success")
    (message,) = slack.messages
    assert words in message.text
    assert DATABASE_PASSWORD not in message.text


def test_the_copies_are_counted_after_a_failed_backup_too_which_stays_failed(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    steps.failing["upload"] = StoreUnreachableError("s3.example does not answer")
    steps.supabase = DailyState.FAILED
    ended = run(DAILY)
    assert (ended.state, ended.tasks["upload"], ended.tasks["report_copies"]) == ("failed", "failed", "success")
    (message,) = slack.messages
    assert "*failed* at `upload`" in message.text
    assert "*Also:* Supabase's own daily backup: failed" in message.text
