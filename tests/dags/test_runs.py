"""Whole runs of the real DAGs with the core's steps replaced: how a run ends, and what people are told."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from include.backup.backup_id import parse_backup_id
from include.backup.errors import ObjectDiffersError, SourceLoginError, StoreUnreachableError
from include.backup.policy import SHIPPED_POLICY
from tests.dags.bag import read_dags
from tests.dags.conftest import DATABASE_PASSWORD, SLACK_TOKEN, STORE_SECRET
from tests.dags.fakes import STEPS, FakeSteps
from tests.faults.slack_capture import Answer, SlackCapture

DAILY, GUARD = "pulse_messages.daily_backup", "pulse_messages.pre_deployment_backup"
RELEASE = {"release": "2025.3.1", "git_sha": "0123abc"}
WORK = ("preflight", "dump", "compress", "upload", "verify", "prepare_scratch", "restore_test", "close_staging")

pytestmark = pytest.mark.usefixtures("airflow_database", "connections")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended."""

    state: str
    tasks: dict[str, str]
    run: Any

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        (ti,) = [ti for ti in self.run.get_task_instances() if ti.task_id == task_id]
        return ti.xcom_pull(task_ids=task_id, key=key)


Runner = Callable[..., Ended]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FakeSteps:
    fakes = FakeSteps()
    fakes.install(monkeypatch)
    monkeypatch.setattr("backup_operators.step.die_with_parent", lambda: None)
    monkeypatch.setattr("backup_operators.scratch.die_with_parent", lambda: None)
    # dag.test() sleeps for a second whenever no task can start.
    monkeypatch.setattr(time, "sleep", partial(_sleep, time.sleep))
    return fakes


def _sleep(sleep: Callable[[float], None], seconds: float) -> None:
    sleep(min(seconds, 0.01))


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped policy, without retries."""
    path = tmp_path / "policy.yaml"
    path.write_text(re.sub(r"retries: \d+", "retries: 0", SHIPPED_POLICY.read_text()))
    monkeypatch.setenv("BACKUP_POLICY", str(path))
    return path


@pytest.fixture
def run(policy: Path, steps: FakeSteps) -> Runner:
    def run_dag(dag_id: str, conf: dict[str, Any] | None = None) -> Ended:
        dag = read_dags().dags[dag_id]
        # dag.test() calls it with a serialized DAG, which no real run does; test_ended_runs.py covers it.
        dag.on_failure_callback, dag.has_on_failure_callback = None, False
        found = dag.test(run_conf=conf, logical_date=None)
        tasks = {ti.task_id: str(ti.state) for ti in found.get_task_instances()}
        return Ended(state=str(found.state), tasks=tasks, run=found)

    return run_dag


def test_a_daily_run_succeeds_and_says_in_one_line_what_it_proved(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
    ended = run(DAILY)
    assert (ended.state, set(ended.tasks.values())) == ("success", {"success"})
    assert steps.ran == list(STEPS)
    (message,) = slack.messages
    backup_id = steps.contexts["dump"].backup_id
    assert f"`{backup_id}`" in message.text
    assert "30.5 MB; 27 tables, 123456 rows; proven (complete): every row identical" in message.text
    assert "\n" not in message.text
    assert "http://airflow.example:8080/dags/pulse_messages.daily_backup/runs/" in message.text
    assert ended.xcom("notify") == {"delivered": True, "reason": "", "succeeded": True, "proven": True}


def test_every_task_works_on_the_same_backup_of_the_same_run(run: Runner, steps: FakeSteps) -> None:
    ended = run(DAILY)
    ids = {context.backup_id for context in steps.contexts.values()}
    assert len(ids) == 1
    parsed = parse_backup_id(ids.pop())
    assert (parsed.source, parsed.tier, parsed.kind) == ("pulse_messages", "daily", "full")
    identity = steps.contexts["upload"].run
    assert (identity.dag_id, identity.run_id) == (DAILY, ended.run.run_id)
    assert identity.run_after == ended.run.run_after
    assert (identity.run_type, identity.try_number) == ("manual", 1)


def test_the_steps_get_connections_folders_and_policy(run: Runner, steps: FakeSteps) -> None:
    run(DAILY)
    context = steps.contexts["dump"]
    assert (context.database.host, context.database.password) == ("db.example", DATABASE_PASSWORD)
    assert context.staging.root == Path(os.environ["BACKUP_STAGING_DIR"])
    assert context.scratch_root == Path(os.environ["BACKUP_SCRATCH_DIR"])
    assert context.tier.name == "daily"
    assert context.release is None


def test_xcoms_hold_ids_and_numbers_and_no_secret(run: Runner) -> None:
    ended = run(DAILY)
    for task in STEPS:
        value = ended.xcom(task)
        assert value["backup_id"].startswith("pulse_messages_daily_full_")
        assert len(str(value)) < 1000
        assert DATABASE_PASSWORD not in str(value)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_fails_the_run_and_the_message_is_sent(
    run: Runner, steps: FakeSteps, slack: SlackCapture, step: str
) -> None:
    steps.failing[step] = StoreUnreachableError("s3.example does not answer; check the network and retry")
    ended = run(DAILY)
    assert ended.state == "failed"
    assert ended.tasks[step] == "failed"
    after = WORK[WORK.index(step) + 1 :]
    assert {ended.tasks[task] for task in after} <= {"upstream_failed"}
    assert ended.tasks["notify"] == "success"
    (message,) = slack.messages
    assert f"*failed* at `{step}`" in message.text
    assert "*Why:* StoreUnreachableError: s3.example does not answer; check the network and retry" in message.text
    assert re.search(r"\*Next:\* .{20,}", message.text)
    assert f"/tasks/{step}|log>" in message.text
    assert ended.xcom("notify")["succeeded"] is False


@pytest.mark.parametrize("task", ["prepare_scratch", "remove_scratch"])
def test_scratch_that_cannot_be_prepared_fails_the_run_and_a_left_over_one_does_not(
    run: Runner, slack: SlackCapture, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    from backup_operators import scratch

    real, calls = scratch._reap, []

    def reap(lease: Any) -> Any:
        calls.append(lease)
        if len(calls) == (1 if task == "prepare_scratch" else 2):
            raise OSError("no room")
        return real(lease)

    monkeypatch.setattr(scratch, "_reap", reap)
    ended = run(DAILY)
    assert ended.tasks[task] == "failed"
    (message,) = slack.messages
    if task == "prepare_scratch":
        assert ended.state == "failed"
        assert ended.tasks["remove_scratch"] == "upstream_failed"
        assert "*failed* at `prepare_scratch`" in message.text
    else:
        assert ended.state == "success"
        assert "`remove_scratch` failed, look at it" in message.text


def test_after_a_failed_restore_test_the_scratch_folder_is_cleared_and_staging_is_kept(
    run: Runner, steps: FakeSteps
) -> None:
    steps.failing["restore_test"] = ObjectDiffersError("users: 1 row differs; do not rely on it")
    ended = run(DAILY)
    assert ended.tasks["remove_scratch"] == "success"
    assert "close_staging" not in steps.ran


def test_a_deploy_is_safe_before_the_proof_and_is_told_so(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(GUARD, RELEASE)
    assert ended.state == "success"
    proof = {ended.tasks[task] for task in ("prepare_scratch", "restore_test", "remove_scratch")}
    assert proof == {"skipped"}
    assert (ended.tasks["close_staging"], ended.tasks["notify"]) == ("success", "success")
    (message,) = slack.messages
    assert "stored and verified, *not yet proven*" in message.text
    assert "for release 2025.3.1" in message.text
    release = steps.contexts["upload"].release
    assert release is not None
    assert (release.name, release.git_sha) == ("2025.3.1", "0123abc")
    assert ended.xcom("notify")["proven"] is False


def test_a_deploy_may_wait_for_the_proof(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(GUARD, {**RELEASE, "wait_for_proof": True})
    assert (ended.state, set(ended.tasks.values())) == ("success", {"success"})
    assert "every row identical" in slack.messages[0].text
    steps.failing["restore_test"] = ObjectDiffersError("users: 1 row differs; do not rely on it")
    assert run(GUARD, {**RELEASE, "wait_for_proof": True}).state == "failed"


@pytest.mark.parametrize("step", ["dump", "verify"])
def test_a_deploy_that_is_not_safe_is_told_so_though_no_proof_was_asked_for(
    run: Runner, steps: FakeSteps, slack: SlackCapture, step: str
) -> None:
    steps.failing[step] = StoreUnreachableError("s3.example does not answer")
    ended = run(GUARD, RELEASE)
    assert (ended.state, ended.tasks["close_staging"]) == ("failed", "upstream_failed")
    assert f"for release 2025.3.1 *failed* at `{step}`" in slack.messages[0].text


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


def test_the_text_of_an_unexpected_exception_is_not_passed_on(
    run: Runner, steps: FakeSteps, slack: SlackCapture
) -> None:
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


def test_the_asset_event_names_the_backup(run: Runner, steps: FakeSteps) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    ended = run(DAILY)
    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == ended.run.run_id)).all()
        assert [(event.source_task_id, event.asset.uri) for event in events] == [
            ("verify", "x-backup://pulse_messages")
        ]
        assert events[0].extra == {"backup_id": steps.contexts["verify"].backup_id, "tier": "daily"}
