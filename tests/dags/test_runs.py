"""Whole runs with the core's steps replaced: how a run ends when each of its tasks fails."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.backup.backup_id import parse_backup_id
from include.backup.errors import ObjectDiffersError, StoreUnreachableError
from tests.dags.bag import read_dag
from tests.dags.conftest import DATABASE_PASSWORD
from tests.dags.fakes import AT_ONCE, STEPS, FakeSteps
from tests.dags.runs import DAILY, GUARD, RELEASE, WORK, Runner
from tests.faults.slack_capture import SlackCapture

pytestmark = pytest.mark.usefixtures("airflow_database", "connections")


def test_a_daily_run_says_in_one_line_what_it_proved(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
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


def test_without_a_shared_folder_one_task_dumps_and_stores_and_the_line_is_the_same(
    run: Runner, policy: Path, steps: FakeSteps, slack: SlackCapture
) -> None:
    data = yaml.safe_load(policy.read_text())
    source = data["sources"]["pulse_messages"]
    del source["base_backup"], source["incremental"]
    source["staging"] = "none"
    policy.write_text(yaml.safe_dump(data))
    ended = run(DAILY)
    assert (ended.state, set(ended.tasks.values())) == ("success", {"success"})
    assert steps.ran == ["preflight", AT_ONCE, "verify", "restore_test", "close_staging"]
    assert "30.5 MB; 27 tables, 123456 rows; proven (complete)" in slack.messages[0].text
    steps.failing[AT_ONCE] = StoreUnreachableError("s3.example does not answer")
    assert run(DAILY).state == "failed"
    assert "*failed* at `dump_to_store`" in slack.messages[1].text
    assert "on another worker it dumps again" in slack.messages[1].text
    weekly = read_dag("pulse_messages.weekly_backup")
    assert weekly.get_task("dump_to_store_schema").upstream_task_ids == {"preflight_schema", "dump_to_store"}
    assert weekly.get_task("dump_to_store").pool == "pg_source"
    assert "upload" not in weekly.task_ids


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


def test_a_deploy_in_a_hurry_is_told_that_nothing_is_proven(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(GUARD, {**RELEASE, "wait_for_proof": False})
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


def test_a_deploy_waits_for_the_proof(run: Runner, steps: FakeSteps, slack: SlackCapture) -> None:
    ended = run(GUARD, RELEASE)
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
