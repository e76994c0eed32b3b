"""Airflow of the embedded stack: its settings, what it is given, and how it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.local import airflow_command, airflow_setup
from include.local.airflow import airflow_settings
from include.local.airflow_api import AirflowApi, ApiError, ApiUnreachableError
from include.local.credentials import make_credentials
from include.local.environment import service_environment
from include.local.errors import StackError
from include.local.layout import HOST, layout_of
from include.local.run import RunView, follow_run, start_run, task_order, wait_for_dag
from include.local.s3 import backup_policies, store_program

Answer = Callable[[str, str, Mapping[str, Any]], tuple[int, Any]]


def settings(base: int = 6400, state: str = "/srv/a") -> dict[str, str]:
    return airflow_settings(layout_of(base, Path(state)), make_credentials())


def test_the_users_own_settings_reach_no_service() -> None:
    foreign = {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "True",
        "AIRFLOW_CONN_X": "postgres://production",
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL": "https://elsewhere",
        "PGHOST": "production",
        "PGPASSWORD": "hush",
        "PYTHONSTARTUP": "/tmp/x.py",
        "HTTPS_PROXY": "http://proxy",
        "HOME": "/home/somebody",
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
    }
    found = service_environment(layout_of(6400, Path("/srv/a")), foreign)
    assert found.keys() == {"PATH", "LANG", "HOME", "PYTHONPATH", "PYTHONUNBUFFERED"}
    assert found["HOME"] == "/srv/a/home"
    assert found["PATH"].endswith(":/usr/bin")


def test_a_long_dump_outlives_an_api_server_that_is_away() -> None:
    found = settings()
    assert found["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"] == "20"
    assert found["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"] == "900"


def test_dags_are_paused_when_they_first_appear() -> None:
    assert settings()["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "True"


def test_two_stacks_share_no_port_file_or_secret() -> None:
    one, other = settings(6400, "/srv/a"), settings(6500, "/srv/b")
    telling = [name for name in one if any(word in one[name] for word in ("/srv/", "64", "65"))]
    assert telling
    assert [name for name in telling if one[name] == other[name]] == []
    assert one["AIRFLOW__API_AUTH__JWT_SECRET"] != other["AIRFLOW__API_AUTH__JWT_SECRET"]


def test_nothing_listens_beyond_this_machine() -> None:
    found = settings()
    assert found["AIRFLOW__API__HOST"] == HOST
    assert found["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].startswith(f"http://{HOST}:")


def test_the_store_checks_signatures_and_opens_no_other_port() -> None:
    program = store_program(layout_of(6400, Path("/srv/a")), make_credentials())
    assert program.environment["AUTH"] == "true"
    assert program.environment["USE_SSL"] == "1"
    assert program.environment["IOT_MTLS_ENABLED"] == program.environment["SFTP_ENABLED"] == "0"
    assert program.environment["AWS_SECRET_ACCESS_KEY"] not in " ".join(program.argv)


def test_the_backups_user_may_use_its_bucket_and_its_key_only() -> None:
    policies = backup_policies("arn:aws:kms:us-east-1:000000000000:key/1")
    resources = json.dumps([one["Resource"] for policy in policies.values() for one in policy["Statement"]])
    assert '"*"' not in resources
    assert "kms:CreateKey" not in json.dumps(policies)


# --- what Airflow is given -------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], Any]]:
    """Airflow's command line, replaced by one that keeps what it was told and the file it was given."""
    seen: list[tuple[tuple[str, ...], Any]] = []
    existing: dict[str, Any] = {"pools": {"default_pool": {}, "scratch": {}}, "connections": {"a": {}, "b": {}}}

    def airflow(*words: str) -> None:
        file = Path(words[-1])
        assert file.parent.is_dir()
        if words[1] == "export":
            file.write_text(json.dumps(existing[words[0]]))
        elif words[1] == "import":
            assert file.stat().st_mode & 0o777 == 0o600
            seen.append((words[:-1], json.loads(file.read_text())))

    monkeypatch.setattr(airflow_command, "airflow", airflow)
    return seen


def wanted(overwrite: bool | list[str]) -> dict[str, Any]:
    return {
        "connections": {"a": {"conn_type": "aws"}, "b": {"conn_type": "postgres"}},
        "pools": {"scratch": {"slots": 1}, "pg_source": {"slots": 1}},
        "variables": {"v": "1"},
        "overwrite": overwrite,
    }


def test_only_what_is_missing_is_imported(commands: list[tuple[tuple[str, ...], Any]], tmp_path: Path) -> None:
    airflow_setup.load(wanted(overwrite=False), tmp_path)
    assert commands == [
        (("connections", "import"), {"a": {"conn_type": "aws"}, "b": {"conn_type": "postgres"}}),
        (("pools", "import"), {"pg_source": {"slots": 1}}),
        (("variables", "import", "--action-on-existing-key", "skip"), {"v": "1"}),
    ]


def test_everything_is_replaced_when_asked(commands: list[tuple[tuple[str, ...], Any]], tmp_path: Path) -> None:
    airflow_setup.load(wanted(overwrite=True), tmp_path)
    assert commands[0][0] == ("connections", "import", "--overwrite")
    assert (("pools", "import"), {"scratch": {"slots": 1}, "pg_source": {"slots": 1}}) in commands
    assert commands[-1] == (("variables", "import"), {"v": "1"})


def test_a_connection_whose_secret_has_changed_is_replaced_and_no_other(
    commands: list[tuple[tuple[str, ...], Any]], tmp_path: Path
) -> None:
    airflow_setup.load(wanted(overwrite=["a"]), tmp_path)
    replaced = [objects for words, objects in commands if words == ("connections", "import", "--overwrite")]
    assert replaced == [{"a": {"conn_type": "aws"}}]


def test_a_connection_that_airflow_did_not_take_is_an_error(
    commands: list[tuple[tuple[str, ...], Any]], tmp_path: Path
) -> None:
    asked = wanted(overwrite=False)
    asked["connections"]["c"] = {"conn_type": "aws"}
    with pytest.raises(SystemExit, match="did not take these connections: c"):
        airflow_setup.load(asked, tmp_path)


# --- how Airflow is asked --------------------------------------------------------------------------


@contextmanager
def airflow_answering(answer: Answer) -> Iterator[AirflowApi]:
    """A server in Airflow's place."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, content = answer(self.command, self.path, {**body, "token": self.headers.get("Authorization")})
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_POST = do_GET  # noqa: N815 - the base class finds them by these names
        do_PATCH = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield AirflowApi(url=f"http://{HOST}:{server.server_port}", user="admin", password="hush")
        server.shutdown()
        thread.join()


def test_a_session_logs_in_again_when_its_token_has_ended() -> None:
    logins = 0

    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        nonlocal logins
        if path == "/auth/token":
            logins += 1
            return 201, {"access_token": f"token{logins}"}
        return (200, {"is": "fine"}) if body["token"] == "Bearer token2" else (401, {})

    with airflow_answering(answer) as api:
        assert api.get("/pools") == {"is": "fine"}
        assert api.get("/pools") == {"is": "fine"}
    assert logins == 2


def test_a_refusal_is_not_tried_again_and_shows_no_password() -> None:
    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        return (201, {"access_token": "t"}) if path == "/auth/token" else (403, {"detail": "no"})

    with airflow_answering(answer) as api, pytest.raises(ApiError, match="403") as caught:
        api.get("/pools")
    assert "hush" not in str(caught.value) + repr(api)


def test_an_answer_that_is_no_json_counts_as_unreachable() -> None:
    with pytest.raises(ApiUnreachableError, match="does not answer"):
        AirflowApi(url=f"http://{HOST}:9", user="admin", password="hush").health()


def test_a_dag_that_cannot_be_read_is_an_error_with_its_reason() -> None:
    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        if path.endswith("/importErrors"):
            return 200, {"import_errors": [{"filename": "daily.py", "stack_trace": "SyntaxError: x"}]}
        return 404, {}

    with airflow_answering(answer) as api, pytest.raises(StackError, match=r"daily\.py cannot be read: SyntaxError"):
        wait_for_dag(api, "a.b")


@pytest.mark.parametrize(
    ("slot", "taken"), [("2025-01-19T02:00:00Z", "2025-01-19T02:00:00Z"), ("2999-01-01T02:00:00Z", None), (None, None)]
)
def test_a_run_takes_the_slot_that_unpausing_would_make_up_for(slot: str | None, taken: str | None) -> None:
    calls: list[tuple[str, str]] = []

    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        calls.append((method, path))
        if method == "POST":
            assert (body["dag_run_id"], body["logical_date"]) == ("demo__1", taken)
        return 200, {"next_dagrun_logical_date": slot, "next_dagrun_run_after": slot}

    with airflow_answering(answer) as api:
        start_run(api, "a.daily_backup", "demo__1")
    assert calls == [
        ("GET", "/api/v2/dags/a.daily_backup"),
        ("POST", "/api/v2/dags/a.daily_backup/dagRuns"),
        ("PATCH", "/api/v2/dags/a.daily_backup"),
    ]


def test_a_slot_that_the_run_before_has_taken_is_left_to_it() -> None:
    """The scheduler goes on to the next slot only after that run has ended, and some time later."""
    asked: list[str | None] = []

    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        slot = "2025-01-19T02:00:00Z"
        if method == "POST":
            asked.append(body["logical_date"])
            return (409, {"detail": "Unique constraint violation"}) if body["logical_date"] else (200, {})
        return 200, {"next_dagrun_logical_date": slot, "next_dagrun_run_after": slot}

    with airflow_answering(answer) as api:
        start_run(api, "a.daily_backup", "demo__2")
    assert asked == ["2025-01-19T02:00:00Z", None]


def run_answer(states: Iterator[str], tasks: list[dict[str, Any]]) -> Answer:
    def answer(method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if path == "/auth/token":
            return 201, {"access_token": "t"}
        if path.endswith("/tasks"):
            downstream = {"dump": ["upload"], "preflight": ["dump"], "upload": []}
            return 200, {"tasks": [{"task_id": key, "downstream_task_ids": names} for key, names in downstream.items()]}
        if path.endswith("/taskInstances"):
            return 200, {"task_instances": tasks}
        state = next(states)
        return (503, {}) if state == "away" else (200, {"state": state, "run_after": "2025-01-19T02:00:00Z"})

    return answer


def test_a_run_is_followed_to_its_end_with_tasks_in_their_order() -> None:
    tasks: list[dict[str, Any]] = [
        {"task_id": "upload", "state": None},
        {"task_id": "dump", "state": "failed", "duration": 1.5, "try_number": 2},
        {"task_id": "preflight", "state": "success", "start_date": "2025-01-19T02:00:01Z", "duration": 0.5},
    ]
    seen: list[RunView] = []
    with airflow_answering(run_answer(iter(["queued", "away", "running", "failed"]), tasks)) as api:
        view = follow_run(api, "a.b", "r", seconds=30, on_view=seen.append)
        assert task_order(api, "a.b") == ("preflight", "dump", "upload")
    assert [one.state for one in seen] == ["queued", "running", "failed"]
    assert [(task.task_id, task.state) for task in view.tasks] == [
        ("preflight", "success"),
        ("dump", "failed"),
        ("upload", "waiting"),
    ]
    assert view.failed_task is not None
    assert (view.failed_task.task_id, view.failed_task.try_number) == ("dump", 2)


def test_a_task_that_waits_to_be_tried_again_is_not_waited_for() -> None:
    tasks: list[dict[str, Any]] = [{"task_id": "preflight", "state": "up_for_retry", "try_number": 1}]
    with airflow_answering(run_answer(iter(["running"]), tasks)) as api:
        view = follow_run(api, "a.b", "r", seconds=30, on_view=lambda view: None)
    assert not view.ended
    assert view.failed_task is not None
    assert view.failed_task.task_id == "preflight"


def test_a_run_that_does_not_end_in_time_is_an_error() -> None:
    no_tasks: list[dict[str, Any]] = []
    with (
        airflow_answering(run_answer(iter(["running"] * 9), no_tasks)) as api,
        pytest.raises(StackError, match="has not ended after 0 s"),
    ):
        follow_run(api, "a.b", "r", seconds=0.01, on_view=lambda view: None)
