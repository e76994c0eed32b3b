"""The script that CI systems call, against the real API server, scheduler and DAG processor: all its exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from include.local.processes import wait_until
from tests.faults.http_fault import Answer, LoseReply
from tests.faults.s3_proxy import S3Proxy
from tests.integration import ci_script
from tests.integration.ci_script import (
    GIT_SHA,
    Outcome,
    Watched,
    commands,
    has_polled,
    is_trigger,
    make_tls,
    run_answer,
    run_id,
)
from tests.integration.stand_in import StandIn, stand_in_airflow

SECONDS = 40.0
# Airflow refuses ".." in a run's id.
SAFE = "v1..0+1"
SAFE_ID = run_id("v1~~0+1")
WORKFLOW = ci_script.SCRIPT.parents[2] / ".github/workflows/pre-deployment-backup.yml"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with stand_in_airflow(tmp_path_factory.mktemp("airflow")) as running:
        yield running


@pytest.fixture
def proxy(airflow: StandIn) -> Iterator[S3Proxy]:
    """An HTTP proxy before the API server, which makes faults and records requests."""
    with S3Proxy(airflow.url) as proxy:
        yield proxy


def login(airflow: StandIn) -> dict[str, object]:
    return {"AIRFLOW_URL": airflow.url, "AIRFLOW_USER": airflow.user, "AIRFLOW_PASSWORD": airflow.password}


def backup(airflow: StandIn, release: str, **variables: object) -> Outcome:
    return ci_script.run("--release", release, **{**login(airflow), **variables})


@pytest.fixture(scope="module")
def first(airflow: StandIn) -> Outcome:
    """The first backup of a release."""
    return backup(airflow, SAFE)


@pytest.fixture(scope="module")
def again(airflow: StandIn, first: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A second backup of it, since the first one is too old."""
    folder = tmp_path_factory.mktemp("again")
    path = ci_script.recording_path(folder / "bin", folder / "arguments")
    with S3Proxy(airflow.url) as proxy, ci_script.sampled_arguments() as sampled:
        outcome = backup(airflow, SAFE, AIRFLOW_URL=proxy.url, PATH=path, MAX_AGE_SECONDS=0)
    headers = [request.headers.get("Authorization", "") for request in proxy.requests]
    tokens = {header.removeprefix("Bearer ") for header in headers if header}
    return Watched(outcome=outcome, recorded=(folder / "arguments").read_text(), sampled=sampled, tokens=tokens)


class TestSafe:
    def test_a_backup_that_succeeds_ends_with_0(self, airflow: StandIn, first: Outcome) -> None:
        assert (first.exit_code, first.stderr) == (0, "")
        assert re.search(r"verify: success$", first.stdout, re.MULTILINE)
        assert f"safe to deploy {SAFE}" in first.stdout
        run = airflow.run("pulse_messages", SAFE_ID)
        assert run["conf"] == {"release": SAFE, "git_sha": GIT_SHA, "wait_for_proof": True}

    @pytest.mark.usefixtures("first")
    def test_a_second_call_joins_it(self, airflow: StandIn) -> None:
        before = airflow.runs("pulse_messages", SAFE)
        second = backup(airflow, SAFE)
        assert (second.exit_code, second.stderr) == (0, "")
        assert f"joining run {SAFE_ID}" in second.stdout
        assert airflow.runs("pulse_messages", SAFE) == before

    @pytest.mark.usefixtures("first")
    def test_logs_are_groups_and_nothing_in_them_commands_the_ci_system(self, airflow: StandIn) -> None:
        outcome = backup(airflow, SAFE, GITHUB_ACTIONS="true")
        assert outcome.exit_code == 0
        dump = outcome.stdout.partition("::group::dump, try 1: success")[2].partition("::endgroup::")[0]
        assert f"dumping for {SAFE}" in dump
        assert "| ::error::would command CI" in dump
        assert [line.partition(",")[0] for line in commands(outcome.stdout)] == [
            "::group::dump", "::endgroup::", "::group::verify", "::endgroup::"
        ]  # fmt: skip

    def test_a_backup_that_is_too_old_is_made_again(self, airflow: StandIn, again: Watched) -> None:
        assert (again.outcome.exit_code, again.outcome.stderr) == (0, "")
        assert f"run {SAFE_ID} is too old: next attempt" in again.outcome.stdout
        assert airflow.runs("pulse_messages", SAFE)[f"{SAFE_ID}-2"] == "success"

    def test_password_and_token_are_in_no_argument_and_in_no_output(self, airflow: StandIn, again: Watched) -> None:
        assert "/auth/token" in again.recorded
        assert "--request POST" in again.recorded
        assert any(b"pre_deployment_backup.sh" in line for line in again.sampled)
        assert len(again.tokens) == 1
        for secret in (airflow.password, *again.tokens):
            assert secret not in again.recorded
            assert not any(secret.encode() in line for line in again.sampled)
            assert secret not in again.outcome.stdout + again.outcome.stderr

    @pytest.mark.usefixtures("first")
    def test_a_backup_without_proof_is_another_run_and_says_so(self, airflow: StandIn) -> None:
        outcome = backup(airflow, SAFE, WAIT_FOR_PROOF="false")
        assert outcome.exit_code == 0
        assert "not yet proven" in outcome.stdout
        unproven = SAFE_ID.replace("deployment", "deployment_unproven")
        assert airflow.run("pulse_messages", unproven)["conf"]["wait_for_proof"] is False

    def test_two_calls_at_once_wait_for_one_run(self, airflow: StandIn) -> None:
        calls = [ci_script.start("--release", "waits-1", **login(airflow)) for _ in range(2)]
        assert wait_until(lambda: airflow.runs("pulse_messages", "waits-1") == {run_id("waits-1"): "running"}, SECONDS)
        airflow.open("waits-1")
        assert [ci_script.finish(call).exit_code for call in calls] == [0, 0]
        assert airflow.runs("pulse_messages", "waits-1") == {run_id("waits-1"): "success"}

    def test_a_run_with_other_parameters_is_not_taken_for_ours(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(run_answer("v2", "running", git_sha="fffffff"), when=lambda request: "/dagRuns/" in request.path)
        outcome = backup(airflow, "v2", AIRFLOW_URL=proxy.url)
        assert outcome.exit_code == 0
        assert f"run {run_id('v2')} has other parameters: next attempt" in outcome.stdout
        assert airflow.runs("pulse_messages", "v2") == {run_id("v2", "-2"): "success"}

    @pytest.mark.usefixtures("first")
    def test_the_workflow_runs_the_script_with_its_inputs(self, airflow: StandIn, tmp_path: Path) -> None:
        tls = make_tls(tmp_path)
        values = {
            "secrets.AIRFLOW_USER": airflow.user,
            "secrets.AIRFLOW_PASSWORD": airflow.password,
            "secrets.AIRFLOW_CA": tls.ca.read_text(),
            "inputs.release": SAFE,
            "inputs.git_sha || github.sha": GIT_SHA,
            "inputs.source": "pulse_messages",
            "inputs.wait_for_proof": "true",
            "inputs.deadline_seconds": "50",
        }
        steps: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text())["jobs"]["backup"]["steps"]
        env = steps[-1]["env"]
        assert env.pop("AIRFLOW_URL") == "${{ secrets.AIRFLOW_URL }}"
        given = {name: values[text.removeprefix("${{ ").removesuffix(" }}")] for name, text in env.items()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[-1]["run"]]
        with S3Proxy(airflow.url, certificate=(tls.certificate, tls.key)) as https:
            outcome = ci_script.run_command(command, RUNNER_TEMP=tmp_path, **given, AIRFLOW_URL=https.url)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert f"safe to deploy {SAFE}" in outcome.stdout


class TestNotSafe:
    def test_a_backup_that_fails_ends_with_1_and_a_second_call_tries_again(self, airflow: StandIn) -> None:
        first = backup(airflow, "fails-1")
        assert first.exit_code == 1
        assert first.error.startswith(f"error: NOT safe to deploy fails-1: run {run_id('fails-1')} failed in verify")
        assert "RuntimeError: the archive is short by one byte" in first.stdout
        second = backup(airflow, "fails-1")
        assert second.exit_code == 1
        assert f"run {run_id('fails-1')} failed: next attempt" in second.stdout
        assert airflow.runs("pulse_messages", "fails-1") == {
            run_id("fails-1"): "failed", run_id("fails-1", "-2"): "failed"
        }  # fmt: skip


@pytest.mark.usefixtures("waiting")
class TestRunGoesOn:
    """One run that takes long, and calls that join it and end before it does."""

    @pytest.fixture(scope="class")
    @classmethod
    def waiting(cls, airflow: StandIn) -> Iterator[None]:
        conf = {"release": "waits-2", "git_sha": GIT_SHA, "wait_for_proof": True}
        airflow.admin.trigger("pulse_messages.pre_deployment_backup", run_id("waits-2"), conf)
        assert wait_until(lambda: airflow.runs("pulse_messages", "waits-2") == {run_id("waits-2"): "running"}, SECONDS)
        yield
        airflow.open("waits-2")

    def test_a_deadline_that_passes_ends_with_1_and_its_own_words(self, airflow: StandIn) -> None:
        late = backup(airflow, "waits-2", DEADLINE_SECONDS=3)
        assert late.exit_code == 1
        assert "the deadline of 3 s passed while the backup ran" in late.error
        assert "a second call joins it" in late.error
        assert airflow.runs("pulse_messages", "waits-2") == {run_id("waits-2"): "running"}

    def test_a_signal_ends_the_call_and_not_the_run(self, airflow: StandIn, proxy: S3Proxy) -> None:
        call = ci_script.start("--release", "waits-2", **{**login(airflow), "AIRFLOW_URL": proxy.url})
        assert wait_until(lambda: has_polled(proxy), SECONDS)
        call.terminate()
        stopped = ci_script.finish(call)
        assert stopped.exit_code == 1
        assert "stopped by a signal" in stopped.error
        assert "a second call joins it" in stopped.error
        assert airflow.runs("pulse_messages", "waits-2") == {run_id("waits-2"): "running"}

    def test_a_dag_that_is_paused_while_it_runs_ends_with_3(self, airflow: StandIn, proxy: S3Proxy) -> None:
        call = ci_script.start("--release", "waits-2", **{**login(airflow), "AIRFLOW_URL": proxy.url})
        assert wait_until(lambda: has_polled(proxy), SECONDS)
        airflow.pause("pulse_messages", paused=True)
        try:
            outcome = ci_script.finish(call)
        finally:
            airflow.pause("pulse_messages", paused=False)
        assert outcome.exit_code == 3
        assert "was paused meanwhile" in outcome.error
        assert "a second call joins it" in outcome.error


class TestBadParameters:
    def test_what_the_dag_refuses_ends_with_2_and_airflows_words(self, airflow: StandIn) -> None:
        outcome = backup(airflow, "1.0", SOURCE="strict")
        assert outcome.exit_code == 2
        assert "'1.0' does not match '^v[0-9]'" in outcome.error
        assert outcome.stderr.count("\n") == 1
        assert airflow.runs("strict", "1.0") == {}


class TestAirflowTrouble:
    def test_a_paused_dag_ends_with_3_and_triggers_nothing(self, airflow: StandIn) -> None:
        outcome = backup(airflow, "v3", SOURCE="paused")
        assert outcome.exit_code == 3
        assert "airflow dags unpause paused.pre_deployment_backup" in outcome.error
        assert airflow.runs("paused", "v3") == {}

    def test_an_unknown_dag_ends_with_3_and_shows_the_import_errors(self, airflow: StandIn) -> None:
        outcome = backup(airflow, "v3", SOURCE="nowhere")
        assert outcome.exit_code == 3
        assert "DAG nowhere.pre_deployment_backup is missing" in outcome.error
        assert "| breaks_at_once.py:" in outcome.stdout
        assert "RuntimeError: this source's policy is ::error::not readable" in outcome.stdout
        assert commands(outcome.stdout) == []

    def test_a_dag_whose_file_broke_later_ends_with_3(self, airflow: StandIn) -> None:
        assert wait_until(lambda: airflow.broken("breaks_later"), SECONDS)
        outcome = backup(airflow, "v3", SOURCE="breaks_later")
        assert outcome.exit_code == 3
        assert "DAG breaks_later.pre_deployment_backup is broken" in outcome.error
        assert "| breaks_later.py:" in outcome.stdout

    def test_a_run_that_never_starts_ends_with_3_at_the_deadline(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(run_answer("v3", "queued"), times=99, when=lambda request: request.path.endswith(quote(run_id("v3"))))
        outcome = backup(airflow, "v3", AIRFLOW_URL=proxy.url, DEADLINE_SECONDS=2)
        assert outcome.exit_code == 3
        assert "did not start in 2 s" in outcome.error

    def test_a_wrong_password_ends_with_3(self, airflow: StandIn) -> None:
        outcome = backup(airflow, "v3", AIRFLOW_PASSWORD="wrong")
        assert outcome.exit_code == 3
        assert f"refuses the login of {airflow.user}" in outcome.error


class TestFaultsOnTheWay:
    def test_an_ended_token_and_an_api_server_that_is_away_are_survived(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(Answer(status=503), when=lambda request: request.path == "/auth/token")
        proxy.add(Answer(status=500, body=b'{"detail": "locked"}'), when=is_trigger)
        proxy.add(Answer(status=401), when=lambda request: request.path.endswith("/taskInstances"))
        proxy.add(Answer(status=401), when=lambda request: "/dagRuns/" in request.path)
        proxy.add(Answer(status=502), when=lambda request: request.path.endswith("/taskInstances"))
        outcome = backup(airflow, "v4.1", AIRFLOW_URL=proxy.url)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        logins = [exchange.status for exchange in proxy.exchanges if exchange.request.path == "/auth/token"]
        assert logins == [503, 201, 201]
        assert airflow.runs("pulse_messages", "v4.1") == {run_id("v4.1"): "success"}

    def test_a_trigger_whose_reply_is_lost_makes_one_run(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(LoseReply(), when=is_trigger)
        outcome = backup(airflow, "v4.2", AIRFLOW_URL=proxy.url)
        assert outcome.exit_code == 0
        assert "which was triggered just now" in outcome.stdout
        assert airflow.runs("pulse_messages", "v4.2") == {run_id("v4.2"): "success"}

    def test_a_token_that_is_always_refused_ends_with_3(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(Answer(status=401), times=99, when=lambda request: request.path.startswith("/api/"))
        outcome = backup(airflow, "v4.3", AIRFLOW_URL=proxy.url)
        assert outcome.exit_code == 3
        assert f"does not let {airflow.user}" in outcome.error

    @pytest.mark.usefixtures("first")
    def test_logs_that_cannot_be_read_change_nothing(self, airflow: StandIn, proxy: S3Proxy) -> None:
        proxy.add(Answer(status=404), times=99, when=lambda request: "/logs/" in request.path)
        outcome = backup(airflow, SAFE, AIRFLOW_URL=proxy.url)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert "this log is out of reach: HTTP 404" in outcome.stdout
