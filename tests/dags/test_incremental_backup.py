"""The DAG that stores WAL: its wiring, who is told what, when a base backup is asked for, and the provider's mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import StoreUnreachableError, WalBrokenError, WalRefusedError
from include.backup.supabase.records import PitrWindow, ProjectBackups
from include.backup.wal.provider import judge
from tests.dags.bag import read_dag
from tests.dags.runs import Runner
from tests.faults.slack_capture import SlackCapture
from tests.support.supabase_api import TOKEN, RunningApi

DAG_ID = "pulse_messages.incremental_backup"
WIRED = {
    "preflight": {"receive", "request_base", "watch_provider"},
    "receive": {"upload"},
    "upload": {"advance"},
    "advance": {"catch_up"},
    "catch_up": {"report"},
    "report": {"notify"},
    "request_base": {"notify"},
    "watch_provider": {"notify"},
    "notify": set(),
}
NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)


@dataclass
class _Report:
    content: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.content

    def line(self) -> str:
        return "done"


@dataclass
class FakeWal:
    """Stand-ins for the core's steps: what they report, and which are to fail."""

    failing: dict[str, BaseException] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    base_wanted: str | None = None
    caught_up: bool = True
    state: dict[str, Any] = field(default_factory=lambda: {"state": "ok", "before": "ok", "changed": False})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for step, module in (
            ("preflight", "plan"),
            ("receive", "receive"),
            ("upload", "storing"),
            ("advance", "advancing"),
        ):
            monkeypatch.setattr(f"include.backup.wal.{module}.run", self._step(step))
        monkeypatch.setattr("include.backup.wal.reporting.run", self._step("report"))
        monkeypatch.setattr("include.backup.wal.reporting.check_whole", lambda record: None)
        monkeypatch.setattr("include.backup.wal.run.catch_up", lambda ctx, on_step: self.ran.append("catch_up") or 3)

    def _step(self, name: str) -> Callable[[Any], Any]:
        def run(ctx: Any) -> Any:
            self.ran.append(name)
            if name in self.failing:
                raise self.failing[name]
            content = {
                "preflight": {"base_wanted": self.base_wanted, "backup_id": ctx.backup_id},
                "receive": {"caught_up": self.caught_up},
                "report": self.state,
            }
            report = _Report(content.get(name, {}))
            report.record = None  # type: ignore[attr-defined]
            return report

        return run


@pytest.fixture
def wal(monkeypatch: pytest.MonkeyPatch, airflow_database: None, connections: None) -> FakeWal:
    found = FakeWal()
    found.install(monkeypatch)
    return found


@pytest.fixture(scope="module")
def dag() -> Any:
    return read_dag(DAG_ID)


# --- structure ---------------------------------------------------------------------------------------


def test_the_tasks_are_wired_as_designed(dag: Any) -> None:
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == WIRED


def test_it_is_due_every_quarter_of_an_hour_and_one_run_at_a_time(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    timetable = DagSerialization.to_dict(dag)["dag"]["timetable"]["__var"]
    assert (timetable["expression"], timetable["timezone"]) == ("*/15 * * * *", "UTC")
    assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, True)


def test_every_task_ends_in_time_and_the_last_resort_comes_after_all_tries(dag: Any) -> None:
    tries = [(task.execution_timeout + task.retry_delay) * (task.retries + 1) for task in dag.tasks]
    assert dag.dagrun_timeout > sum(tries, timedelta())
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert dag.on_failure_callback


def test_only_the_message_is_a_teardown_and_it_decides_nothing(dag: Any) -> None:
    teardowns = [task for task in dag.tasks if task.is_teardown]
    assert [task.task_id for task in teardowns] == ["notify"]
    assert not teardowns[0].on_failure_fail_dagrun


# --- runs --------------------------------------------------------------------------------------------


def test_a_run_like_the_one_before_it_tells_nobody(run: Runner, wal: FakeWal, slack: SlackCapture) -> None:
    ended = run(DAG_ID)
    assert ended.state == "success"
    assert wal.ran == ["preflight", "receive", "upload", "advance", "report"]
    assert (ended.tasks["request_base"], ended.tasks["watch_provider"]) == ("skipped", "skipped")
    assert slack.messages == []


@pytest.mark.parametrize("step", ["preflight", "receive", "upload", "advance", "report"])
def test_a_step_that_fails_fails_the_run_and_says_why_and_what_to_do(
    run: Runner, wal: FakeWal, slack: SlackCapture, step: str
) -> None:
    wal.failing[step] = StoreUnreachableError("the store did not answer")
    ended = run(DAG_ID)
    assert ended.state == "failed"
    assert wal.ran[-1] == step
    (message,) = slack.messages
    assert f"`{step}`: StoreUnreachableError: the store did not answer" in message.text
    assert "*Next:*" in message.text


def test_a_broken_chain_fails_the_run_after_the_rest_was_done(run: Runner, wal: FakeWal, slack: SlackCapture) -> None:
    wal.failing["report"] = WalBrokenError("the slot pulse_messages_hold was gone")
    ended = run(DAG_ID)
    assert ended.state == "failed"
    assert (ended.tasks["advance"], ended.tasks["report"], ended.tasks["notify"]) == ("success", "failed", "success")
    assert "the slot pulse_messages_hold was gone" in slack.messages[0].text


def test_a_changed_state_is_told_once(run: Runner, wal: FakeWal, slack: SlackCapture) -> None:
    wal.state = {
        "state": "no_base",
        "before": "broken",
        "changed": True,
        "base_wanted": "<!channel>",
        "warnings": ["w"],
    }
    assert run(DAG_ID).state == "success"
    (message,) = slack.messages
    assert "no base backup lies in it yet" in message.text
    assert "&lt;!channel&gt;" in message.text
    wal.state = {"state": "ok", "before": "no_base", "changed": True}
    run(DAG_ID)
    assert slack.messages[1].text.startswith("✅")


def test_a_backlog_is_caught_up_in_the_same_run(run: Runner, wal: FakeWal) -> None:
    wal.caught_up = False
    ended = run(DAG_ID)
    assert "catch_up" in wal.ran
    assert ended.xcom("catch_up") == {"passes": 3}


# --- base backups ------------------------------------------------------------------------------------


def request(dag: Any, preflight: dict[str, Any], *, running: int = 0) -> Any:
    """Execute the task as a worker does; return what it asks Airflow for."""

    class Instance:
        def xcom_pull(self, task_ids: str) -> Any:
            return preflight

        def get_dr_count(self, dag_id: str, states: list[str]) -> int:
            assert dag_id == "pulse_messages.base_backup"
            assert set(states) == {"queued", "running"}
            return running

        def get_dag(self, dag_id: str) -> Any:
            return type("Model", (), {"is_paused": False})()

        def xcom_push(self, key: str, value: Any) -> None:
            pass

    return dag.get_task("request_base").execute({"ti": Instance()})


def test_a_wanted_base_backup_is_triggered_with_its_reason(dag: Any, policy: Any) -> None:
    from airflow.sdk.exceptions import DagRunTriggerException

    with pytest.raises(DagRunTriggerException) as asked:
        request(dag, {"base_wanted": "the slot was lost"})
    assert asked.value.trigger_dag_id == "pulse_messages.base_backup"
    assert asked.value.conf == {"full": True, "reason": "the slot was lost"}


def test_none_is_triggered_while_one_is_on_its_way_or_none_is_wanted(dag: Any, policy: Any) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="on its way"):
        request(dag, {"base_wanted": "the slot was lost"}, running=1)
    with pytest.raises(AirflowSkipException, match="none is wanted"):
        request(dag, {"base_wanted": None})


def test_a_source_without_base_backups_says_that_its_wal_cannot_be_used(
    dag: Any, monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    bare = type("Source", (), {"base_backup": None})()
    monkeypatch.setattr("backup_operators.incremental._source", lambda name: bare)
    with pytest.raises(AirflowFailException, match="no base_backup block for pulse_messages"):
        request(dag, {"base_wanted": "there is none"})


# --- hosted Supabase ---------------------------------------------------------------------------------


def test_where_physical_replication_is_refused_the_providers_recovery_is_watched(
    run: Runner, wal: FakeWal, hosted: RunningApi, slack: SlackCapture
) -> None:
    hosted.project.window = {
        "earliest_physical_backup_date_unix": int(NOON.timestamp()),
        "latest_physical_backup_date_unix": int(NOON.timestamp()) + 7 * 86400,
    }
    hosted.fail(status=503, path="backups")  # which the client asks again after
    ended = run(DAG_ID)
    assert wal.ran == []
    assert ended.state == "success"
    assert {task for task, state in ended.tasks.items() if state == "skipped"} == {
        "receive", "upload", "advance", "catch_up", "report", "request_base",
    }  # fmt: skip
    assert ended.xcom("preflight")["mode"] == "provider"
    assert ended.xcom("watch_provider")["latest"] == (NOON + timedelta(days=7)).isoformat()
    assert slack.messages == []


@pytest.mark.parametrize(
    ("change", "fault", "words"),
    [
        ({"pitr_enabled": False}, None, "cannot be recovered to a point in time"),
        ({"window": {}}, None, "names no time that it can recover to"),
        ({}, {"status": 401, "message": "Unauthorized"}, "refused the token of connection pulse_supabase"),
        ({}, {"status": 404, "message": "Project not found"}, "check supabase.project_ref"),
    ],
)
def test_a_project_of_which_nothing_is_known_is_never_called_recoverable(
    run: Runner,
    wal: FakeWal,
    hosted: RunningApi,
    slack: SlackCapture,
    change: dict[str, Any],
    fault: dict[str, Any] | None,
    words: str,
) -> None:
    hosted.project.change(change)
    if fault is not None:
        hosted.fail(times=99, **fault)
    ended = run(DAG_ID)
    assert ended.state == "failed"
    assert words in slack.messages[0].text
    assert TOKEN not in slack.messages[0].text


def backups(*, pitr_enabled: bool, window: PitrWindow | None) -> ProjectBackups:
    return ProjectBackups(
        region="eu-central-1", pitr_enabled=pitr_enabled, walg_enabled=True, backups=(), window=window
    )


def test_an_old_latest_time_is_a_warning_as_nobody_may_have_written() -> None:
    window = PitrWindow(earliest=NOON, latest=NOON + timedelta(hours=1))
    found = judge(backups(pitr_enabled=True, window=window), source="shop", now=NOON + timedelta(hours=3))
    assert found.warning is not None
    assert "120 min old" in found.warning
    assert judge(backups(pitr_enabled=True, window=window), source="shop", now=window.latest).warning is None


def test_pitr_without_a_window_is_refused_by_name() -> None:
    with pytest.raises(WalRefusedError, match="names no time that it can recover to"):
        judge(backups(pitr_enabled=True, window=None), source="shop", now=NOON)
