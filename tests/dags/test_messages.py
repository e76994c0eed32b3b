"""Texts for people, from what is known of a run."""

from __future__ import annotations

from typing import Any

import pytest

from backup_operators.messages import CLEANUP, WORK, Outcome, message

DONE = dict.fromkeys((*WORK, *CLEANUP), "success")


def make_outcome(**overrides: Any) -> Outcome:
    values: dict[str, Any] = {
        "source": "pulse_messages",
        "tier": "daily",
        "dag_id": "pulse_messages.daily_backup",
        "run_id": "manual__1",
        "backup_id": "pulse_messages_daily_full_20250119T020000Z_3fa9c1",
        "url": "http://airflow.example/run",
        "kept": "until 2025-01-22 02:00 UTC",
        "states": DONE,
        "seconds": 93.4,
    }
    return Outcome(**{**values, **overrides})


def failed_at(task: str) -> dict[str, str]:
    place = WORK.index(task)
    states = {name: "success" if index < place else "upstream_failed" for index, name in enumerate(WORK)}
    return {**states, task: "failed"}


def test_a_success_without_any_report_is_still_told() -> None:
    text = message(make_outcome())
    assert text.startswith("✅ *pulse_messages* daily backup: `pulse_messages_daily_full_")
    assert "93 s" in text


@pytest.mark.parametrize("task", WORK)
def test_each_failure_has_a_what_a_why_and_a_next_step(task: str) -> None:
    outcome = make_outcome(states=failed_at(task), failures={task: {"error": "StoreError", "message": "it is away"}})
    lines = message(outcome).splitlines()
    assert lines[0] == f"❌ *pulse_messages* daily backup *failed* at `{task}`"
    assert lines[1].startswith("*What:* `pulse_messages_daily_full_")
    assert lines[2] == "*Why:* StoreError: it is away"
    assert lines[3].startswith("*Next:* ")
    assert lines[3].endswith(f"<http://airflow.example/run/tasks/{task}|log>")
    assert "{" not in lines[3]


def test_a_failed_upload_says_until_when_the_dump_is_kept() -> None:
    assert "kept in staging until 2025-01-22 02:00 UTC" in message(make_outcome(states=failed_at("upload")))


def test_a_task_that_left_no_reason_was_lost_or_marked() -> None:
    assert "its worker was lost, or somebody marked it" in message(make_outcome(states=failed_at("dump")))


def test_the_first_task_that_failed_is_the_one_to_look_at() -> None:
    states = {**failed_at("upload"), "compress": "failed"}
    assert "*failed* at `compress`" in message(make_outcome(states=states))


@pytest.mark.parametrize("task", ["preflight", "verify", "close_staging"])
@pytest.mark.parametrize("state", ["skipped", "upstream_failed", "removed", None])
def test_a_run_in_which_a_needed_task_did_not_run_is_no_success(task: str, state: str | None) -> None:
    states = {name: found for name, found in {**DONE, task: state}.items() if found is not None}
    outcome = make_outcome(states=states)
    assert not outcome.succeeded
    assert message(outcome).startswith("❌ ")
    assert "not all have run" in message(outcome)


@pytest.mark.parametrize(
    ("prepare", "test"), [("success", "skipped"), ("skipped", "success"), ("success", "upstream_failed")]
)
def test_half_a_proof_is_no_success(prepare: str, test: str) -> None:
    assert not make_outcome(states={**DONE, "prepare_scratch": prepare, "restore_test": test}).succeeded


def test_a_backup_without_a_proof_is_never_called_proven() -> None:
    text = message(make_outcome(states={**DONE, "prepare_scratch": "skipped", "restore_test": "skipped"}))
    assert "not yet proven" in text
    assert "identical" not in text


def test_a_long_reason_is_cut() -> None:
    failures = {"dump": {"error": "E", "message": "x" * 9000}}
    text = message(make_outcome(states=failed_at("dump"), failures=failures))
    assert len(text) < 2500
    assert "(cut; the log has all of it)" in text
