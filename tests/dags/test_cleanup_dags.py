"""Cleanup and holds as DAGs: wired, dry when a person starts them, and telling of what they did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.cleanup import CleanupOperator, HoldOperator
from include.backup.errors import CleanupError
from include.backup.holds import list_holds
from tests.dags.bag import read_dags
from tests.faults.slack_capture import SlackCapture
from tests.support.aged_bucket import PLAIN, Bucket

SOURCE = "pulse_messages"


@pytest.fixture(scope="module")
def bag() -> Any:
    return read_dags()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    """A bucket in place of the store, with one backup that has expired by the real clock."""
    made = Bucket(tmp_path)
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("include.backup.deletion.BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr("backup_operators.fleet.die_with_parent", lambda: None)
    monkeypatch.setattr("tests.support.aged_bucket.NOW", datetime.now(tz=UTC))
    made.backup(8)
    made.backup(1)
    return made


def context(run_type: str, **changes: Any) -> Any:
    run = SimpleNamespace(
        dag_id="backup_cleanup",
        run_id="r",
        run_after=datetime.now(UTC) - timedelta(minutes=1),
        run_type=run_type,
        triggering_user_name="ann",
    )
    return {"dag_run": run, "ti": SimpleNamespace(try_number=1), **changes}


def clean(run_type: str, *, delete: str = "False") -> dict[str, Any]:
    found: dict[str, Any] = CleanupOperator(task_id="clean_up", source=SOURCE, delete=delete, retries=0).execute(
        context(run_type)
    )
    return found


def test_the_tasks_are_wired_and_mapped_over_the_sources(bag: Any) -> None:
    dag = bag.dags["backup_cleanup"]
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "check_lateness": {"clean_up"},
        "clean_up": set(),
    }
    assert dag.get_task("clean_up").is_mapped
    assert dag.get_task("clean_up").retries == 0
    assert dag.params["delete"] is False


@pytest.mark.parametrize("dag_id", ["backup_cleanup", "pulse_messages.backup_hold"])
def test_nothing_of_these_dags_is_left_to_a_default(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, True)
    assert all(task.execution_timeout is not None and task.owner == "backup" for task in dag.tasks)


def test_a_run_that_a_person_starts_shows_what_would_go(bucket: Bucket) -> None:
    before = set(bucket.s3.keys)
    report = clean("manual")
    assert (report["dry_run"], report["removed"]) == (True, {"backup": 1})
    assert set(bucket.s3.keys) == before


@pytest.mark.parametrize(("run_type", "delete"), [("scheduled", "False"), ("manual", "True")])
def test_a_scheduled_run_deletes_and_so_does_one_that_a_person_told_to(
    bucket: Bucket, slack: SlackCapture, run_type: str, delete: str
) -> None:
    report = clean(run_type, delete=delete)
    assert (report["dry_run"], report["removed"]) == (False, {"backup": 1})
    assert len(bucket.archives()) == 1
    assert "removed 1 backup" in slack.messages[-1].text


def test_what_could_not_be_deleted_fails_the_task_and_is_told(bucket: Bucket, slack: SlackCapture) -> None:
    bucket.s3.fault = lambda key, attempt: "silent" if key.endswith(".tar") else None
    with pytest.raises(CleanupError, match="could NOT be removed"):
        clean("scheduled")
    assert "*failed*" in slack.messages[-1].text
    assert "tried again by the next run" in slack.messages[-1].text


def test_a_form_that_says_neither_yes_nor_no_deletes_nothing(bucket: Bucket) -> None:
    with pytest.raises(AirflowFailException, match="allowed: True, False"):
        clean("manual", delete="maybe")
    assert len(bucket.archives()) == 2


def hold(
    action: str, backup: str, reason: str = "court order 7/26", until: str = "", *, ran: Any = None
) -> dict[str, Any]:
    operator = HoldOperator(
        task_id="change_hold", source=SOURCE, action=action, backup=backup, reason=reason, until=until
    )
    found: dict[str, Any] = operator.execute(ran or context("manual"))
    return found


def test_a_hold_is_set_once_by_the_person_who_started_the_run_and_released(bucket: Bucket, slack: SlackCapture) -> None:
    held = hold("add", "latest", reason="court order <!channel>")
    (state,) = list_holds(bucket.store, SOURCE)
    assert state.hold is not None
    assert (state.hold.set_by, state.hold.reason, state.hold.backup_id) == (
        "ann",
        "court order <!channel>",
        held["backup_id"],
    )
    assert "is on hold by ann: court order &lt;!channel&gt;" in slack.messages[-1].text
    hold("release", held["hold_id"], reason="case is closed <!here>")
    (state,) = list_holds(bucket.store, SOURCE)
    assert not state.active(datetime.now(tz=UTC))
    assert "released by ann: case is closed &lt;!here&gt;" in slack.messages[-1].text


def test_two_runs_of_one_second_set_a_hold_each_and_a_retry_none(bucket: Bucket, slack: SlackCapture) -> None:
    first = context("manual")
    second = {**first, "dag_run": SimpleNamespace(**{**vars(first["dag_run"]), "run_id": "s"})}
    court = hold("add", "latest", ran=first)
    audit = hold("add", "latest", "an audit", ran=second)
    assert hold("add", "latest", ran=first) == court
    hold("release", court["hold_id"], reason="case is closed")
    states = {state.hold_id: state.active(datetime.now(tz=UTC)) for state in list_holds(bucket.store, SOURCE)}
    assert states == {court["hold_id"]: False, audit["hold_id"]: True}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (("add", "pulse_messages_daily_full_20250119T020000Z_3fa9c1"), "has no backup"),
        (("add", "nonsense"), "is no backup id"),
        (("release", "nonsense"), "has no hold nonsense"),
        (("add", "latest", "x"), "says nothing"),
        (("add", "latest", "court order", "2020-01-01T00:00:00Z"), "would have ended already"),
    ],
)
def test_a_hold_that_cannot_be_set_says_why_and_is_not_tried_again(
    bucket: Bucket, form: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        hold(*form)
    assert list_holds(bucket.store, SOURCE) == ()


def test_a_whole_run_of_the_cleanup_goes_through_both_tasks(
    bucket: Bucket, run: Callable[..., Any], airflow_database: None
) -> None:
    ended = run("backup_cleanup")
    assert (ended.state, ended.tasks) == ("success", {"check_lateness": "success", "clean_up": "success"})
    assert len(bucket.archives()) == 2
