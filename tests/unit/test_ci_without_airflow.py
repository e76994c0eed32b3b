"""What the CI script does where no Airflow answers, and the workflow that calls it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.http_fault import Answer
from tests.faults.s3_proxy import S3Proxy
from tests.faults.tcp_proxy import Fault, TcpProxy
from tests.integration.ci_script import SCRIPT, commands, make_tls, run

WORKFLOW = Path(__file__).resolve().parents[2] / ".github/workflows/pre-deployment-backup.yml"
NOBODY = "http://127.0.0.1:1"
GOOD = {
    "AIRFLOW_URL": "http://localhost:1",
    "AIRFLOW_USER": "deploy",
    "AIRFLOW_PASSWORD": "top-secret-word",
    "RELEASE": "v1.2.3+4",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("RELEASE", text) for text in (
            "", "v1;id", "v1 2", "v1\n", "v1\nv2", "$(id)", "`id`", "v1'--", 'v"1', "../v1", "-v1", ".v1", "v/1", "v%1",
            "v" * 65, "vé", "::error::x", "v1&x=y", "v1|id", "v1\\", "{{ v1 }}",
        )],
        *[("GIT_SHA", text) for text in ("", "abcdef", "ABCDEF1", "abcdefg", "a" * 41, "abcdef1;id", "abcdef1\n")],
        *[("SOURCE", text) for text in ("Pulse", "1a", "a.b", "a/../b", "a?x=y", "a b", "a" * 64)],
        *[("UNPROVEN", text) for text in ("yes", "1")],
        *[("REASON", text) for text in ("two\nlines", "x" * 501)],
        *[("WAIT_FOR_PROOF", text) for text in ("yes", "True", "1", "true;id")],
        *[("DEADLINE_SECONDS", text) for text in ("0", "-1", "1.5", "010", "1h", "9999999", "a[$(id)]")],
        *[("POLL_SECONDS", text) for text in ("0", "x")],
        *[("RETRY_SECONDS", text) for text in ("0", "x")],
        *[("MAX_AGE_SECONDS", text) for text in ("-1", "x")],
        *[("AIRFLOW_URL", text) for text in (
            "", "airflow.example", "ftp://airflow.example", "https://", "https://a b", "https://a/?x=y", "https://a/#x",
            "https://a;id", "file:///etc/passwd", "http://airflow.example", "http://localhost.example", "http://127.example",
            "https://user:top-secret-word@airflow.example",
        )],
        ("AIRFLOW_CACERT", "/nowhere/ca.pem"),
        ("AIRFLOW_USER", ""),
        ("AIRFLOW_PASSWORD", ""),
    ],
)  # fmt: skip
def test_a_bad_parameter_ends_with_2_and_one_line_that_names_it(name: str, value: str) -> None:
    # An empty variable means its default, where it has one.
    outcome = run(**{**GOOD, name: value})
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert re.fullmatch(r"error: .+\n", outcome.stderr)
    assert name in outcome.stderr
    assert "top-secret-word" not in outcome.stderr


@pytest.mark.parametrize(
    "options", [("--nothing", "x"), ("v1",), ("--airflow-password", "x"), ("--path=x",), ("--a[x]=y",)]
)
def test_an_unknown_option_ends_with_2_and_shows_no_value(options: tuple[str, ...]) -> None:
    outcome = run(*options, **GOOD)
    assert (outcome.exit_code, outcome.stderr) == (2, "error: unknown option, see --help\n")


@pytest.mark.parametrize("release", ["v1;id", "$(touch x)", "v1' OR 1=1 --", "v1/../../pools"])
def test_nothing_is_sent_when_a_parameter_is_bad(release: str) -> None:
    with S3Proxy(NOBODY) as proxy:
        assert run(**{**GOOD, "AIRFLOW_URL": proxy.url, "RELEASE": release}).exit_code == 2
        assert proxy.exchanges == []


def test_a_rollback_asks_for_the_releases_backup_in_productions_place() -> None:
    variables = {"AIRFLOW_URL": "https://airflow.example", "RELEASE": "v1", "REASON": "it's bad"}
    outcome = run("--rollback", "--dry-run", "--source", "orders", "--git-sha=abcdef1", **variables)
    first, body = outcome.stdout.splitlines()
    assert (outcome.exit_code, first) == (0, "POST https://airflow.example/api/v2/dags/orders.restore_database/dagRuns")
    sent = json.loads(body)
    assert sent["dag_run_id"] == "rollback__v1__abcdef1"
    assert sent["conf"] == {
        "choose": "release",
        "release": "v1",
        "git_sha": "abcdef1",
        "where": "production",
        "unproven": False,
        "end_sessions": True,
        "dry_run": False,
        "reason": "it's bad",
    }


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("success", "run rollback__v1__0123abc succeeded before this call: next attempt"),
        ("running", "joining run rollback__v1__0123abc"),
    ],
)
def test_a_rollback_joins_one_that_goes_on_and_none_that_has_ended(state: str, said: str) -> None:
    """The release may have been deployed again since: what was put back then says nothing of now."""
    first, runs = "rollback__v1__0123abc", "/api/v2/dags/pulse_messages.restore_database/dagRuns"
    conf = json.loads(run("--rollback", "--dry-run", **{**GOOD, "RELEASE": "v1"}).stdout.splitlines()[1])["conf"]
    ended = datetime.now(tz=UTC).isoformat()

    def answer(status: int, **document: object) -> Answer:
        return Answer(status=status, body=json.dumps(document).encode())

    with S3Proxy(NOBODY) as proxy:
        proxy.add(answer(201, access_token="x"), when=lambda request: request.path == "/auth/token")
        proxy.add(answer(200, state=state, conf=conf, end_date=ended), when=lambda sent: sent.path == f"{runs}/{first}")
        proxy.add(answer(404), when=lambda sent: sent.path == f"{runs}/{first}-2")
        proxy.add(answer(200), when=lambda sent: (sent.method, sent.path) == ("POST", runs))
        proxy.add(
            answer(200, state="success", conf=conf, end_date=ended), times=9, when=lambda sent: f"{runs}/" in sent.path
        )
        proxy.add(answer(200, is_paused=False, has_import_errors=False, is_stale=False), times=9)
        outcome = run("--rollback", **{**GOOD, "AIRFLOW_URL": proxy.url, "RELEASE": "v1"})
        triggered = [sent.path for sent in proxy.requests if (sent.method, sent.path) == ("POST", runs)]
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert said in outcome.stdout
    assert triggered == ([runs] if state == "success" else [])


def test_a_dry_run_prints_the_request_and_needs_no_password() -> None:
    variables = {"AIRFLOW_URL": "https://airflow.example/base/", "RELEASE": "v1..2"}
    outcome = run("--dry-run", "--source", "orders", "--git-sha=abcdef1", **variables)
    assert outcome.exit_code == 0
    line, body = outcome.stdout.splitlines()
    assert line == "POST https://airflow.example/base/api/v2/dags/orders.pre_deployment_backup/dagRuns"
    assert json.loads(body) == {
        "logical_date": None,
        "dag_run_id": "pre_deployment__v1~~2__abcdef1",
        "conf": {"release": "v1..2", "git_sha": "abcdef1", "wait_for_proof": True},
    }


def test_runs_for_other_releases_commits_and_promises_have_other_ids() -> None:
    variations = [{}, {"RELEASE": "v1"}, {"GIT_SHA": "abcdef1"}, {"WAIT_FOR_PROOF": "false"}, {"RELEASE": "v1.2.3_4"}]
    bodies = [run("--dry-run", **{**GOOD, **one}).stdout.splitlines()[1] for one in variations]
    assert len({json.loads(body)["dag_run_id"] for body in bodies}) == len(variations)


def test_help_tells_the_exit_codes_and_every_variable() -> None:
    outcome = run("--help")
    assert outcome.exit_code == 0
    for word in ("0  safe", "1  the backup failed", "2  bad", "3  Airflow", "AIRFLOW_PASSWORD", "DEADLINE_SECONDS"):
        assert word in outcome.stdout


def test_an_error_is_an_annotation_in_github_and_cannot_carry_another_command() -> None:
    outcome = run(**{**GOOD, "GITHUB_ACTIONS": "true", "RELEASE": "v1\n::set-env name=x::y%0A"})
    assert (outcome.exit_code, outcome.stderr) == (2, "")
    assert outcome.stdout.startswith("::error title=pre-deployment backup::RELEASE must be")
    assert outcome.stdout.count("\n") == 1
    assert "%0A" not in outcome.stdout


class TestOutOfReach:
    def test_airflow_that_is_down_ends_with_3_after_the_retries(self) -> None:
        outcome = run(**{**GOOD, "RETRY_SECONDS": "4"})
        assert outcome.exit_code == 3
        assert "trying again" in outcome.stdout
        assert "out of reach" in outcome.error
        assert "nothing was triggered" in outcome.error

    def test_a_network_that_swallows_everything_ends_with_3_soon_after_the_deadline(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            TcpProxy("127.0.0.1", server.getsockname()[1], Fault(blackhole=True)) as hole,
        ):
            began = time.monotonic()
            outcome = run(**{**GOOD, "AIRFLOW_URL": f"http://localhost:{hole.port}", "DEADLINE_SECONDS": "1"})
        assert outcome.exit_code == 3
        assert "out of reach" in outcome.error
        assert time.monotonic() - began < 25  # without the deadline curl alone takes 30

    def test_a_certificate_that_is_not_trusted_ends_with_3_without_retries(self, tmp_path: Path) -> None:
        tls = make_tls(tmp_path)
        with S3Proxy(NOBODY, certificate=(tls.certificate, tls.key)) as proxy:
            outcome = run(**{**GOOD, "AIRFLOW_URL": proxy.url})
            assert outcome.exit_code == 3
            assert "certificate" in outcome.error
            assert outcome.stdout == ""
            assert proxy.exchanges == []

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (Answer(status=503, body=b"<h1>\n::error::away\n</h1>"), "out of reach: HTTP 503"),
            (Answer(status=200, body=b"<html>login</html>"), "refuses the login"),
            (Answer(status=201, body=b"<html>login</html>"), "does not answer as Airflow's API does"),
            (Answer(status=302, headers={"Location": "http://elsewhere/"}), "HTTP 302"),
        ],
    )
    def test_something_else_than_airflow_ends_with_3(self, answer: Answer, words: str) -> None:
        with S3Proxy(NOBODY) as proxy:
            proxy.add(answer, times=99)
            outcome = run(**{**GOOD, "AIRFLOW_URL": proxy.url, "RETRY_SECONDS": "2"})
        assert outcome.exit_code == 3
        assert words in outcome.error
        assert outcome.stderr.count("\n") == 1
        assert commands(outcome.stdout) == []


def test_the_script_has_no_syntax_error_and_may_be_run() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    assert SCRIPT.stat().st_mode & 0o111 == 0o111


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return loaded


class TestWorkflow:
    def test_it_may_only_read_and_ends_some_day(self, workflow: dict[Any, Any]) -> None:
        assert workflow["permissions"] == {"contents": "read"}
        (job,) = workflow["jobs"].values()
        assert "permissions" not in job
        assert job["timeout-minutes"] == "${{ fromJSON(inputs.timeout_minutes) }}"
        assert workflow["concurrency"]["cancel-in-progress"] is False

    def test_no_text_of_others_is_put_into_a_command(self, workflow: dict[Any, Any]) -> None:
        (job,) = workflow["jobs"].values()
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands
        assert not any("${{" in command for command in commands)

    def test_actions_are_pinned_and_leave_no_credentials(self, workflow: dict[Any, Any]) -> None:
        (job,) = workflow["jobs"].values()
        used = [step for step in job["steps"] if "uses" in step]
        assert [step["uses"] for step in used] == ["actions/checkout@v4"]
        assert used[0]["with"]["persist-credentials"] is False

    def test_both_ways_to_start_it_take_the_same_inputs(self, workflow: dict[Any, Any]) -> None:
        # YAML reads the key "on" as true.
        called, dispatched = (workflow[True][way]["inputs"] for way in ("workflow_call", "workflow_dispatch"))
        elsewhere = {"repository", "ref"}
        assert {name: value for name, value in called.items() if name not in elsewhere} == dispatched
        defaults = {name: value["default"] for name, value in dispatched.items() if "default" in value}
        assert defaults["deadline_seconds"] < defaults["timeout_minutes"] * 60
        assert defaults["wait_for_proof"] is True

    def test_failure_is_not_tolerated(self, workflow: dict[Any, Any]) -> None:
        assert "continue-on-error" not in WORKFLOW.read_text()
        assert "if" not in workflow["jobs"]["backup"]
