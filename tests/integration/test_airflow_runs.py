"""Good runs under the real scheduler: what a person, a deploy and an auditor get from them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.local.airflow import DEPLOYER
from include.local.airflow_api import ApiError
from include.local.credentials import load_credentials
from include.local.layout import ROOT
from tests.support.airflow_runs import AirflowRun, as_text, patiently, until
from tests.support.airflow_stack import AirflowStack
from tests.support.scenarios import Scenarios, at_the_same_time

DAILY = "pulse_messages.daily_backup"
RELEASE = {"release": "2025.3.1", "git_sha": "0123abc"}
SCRIPT_SECONDS = 600
CHECKED = ("preflight", "dump", "compress", "upload", "verify", "close_staging")
LARGEST_XCOM_BYTES = 2000
EVIDENCE = {
    "preflight": r"backup \S+ can be taken: server 17\.\d+, pg_dump 17\.\d+, TLSv1\.3 \(verify-full\), .* \d+ bytes",
    "dump": r"dump of \S+ was taken: \d+ bytes in [\d.]+ s, data as of \d{4}-\S+Z \(LSN >= \S+\)",
    "compress": r"\d+ tables, \d+ rows, \d+ bytes stored in \d+; every member read, hashed and whole, in [\d.]+ s",
    "upload": r"stored at s3://\S+/daily/\S+\.tar: \d+ bytes in \d+ parts \(0 sent before\), [\d.]+ s",
    "verify": r"verified: \d+ bytes, SHA-256 \S{44}-\d+ \(kept by the store\), encryption aws:kms arn:\S+, .*[\d.]+ s",
    "prepare_scratch": r"scratch folder \S+ is ready; 0 dead servers removed",
    "restore_test": r"proven \(complete\): \d+ tables, \d+ rows, every row identical; .*[\d.]+ s, proof \S+",
    "remove_scratch": r"scratch folder \S+ is ready; 0 dead servers removed",
    "report_copies": r"3-2-1 NOT met: 3 of 3 copies, 2 of 2 kinds of storage, 0 of 1 off-site; recorded at s3://\S+/audit/",
    "close_staging": r"staging of \S+ removed, \d+ bytes freed",
    "notify": r"every row identical",
}


@dataclass(frozen=True, kw_only=True)
class Good:
    """Runs that have ended, and what a command printed that waited for one."""

    runs: tuple[AirflowRun, ...]
    states: tuple[str, ...]
    script: subprocess.CompletedProcess[str] | None = None


def good(*runs: AirflowRun) -> Good:
    return Good(runs=runs, states=tuple(run.wait() for run in runs))


def daily(lab: AirflowStack) -> Good:
    return good(lab.run(DAILY))


def unheard(lab: AirflowStack) -> Good:
    """Nobody answers where this source's messages go, and no proof is waited for."""
    return good(lab.run("unheard.pre_deployment_backup", {**RELEASE, "wait_for_proof": False}))


def cleared(lab: AirflowStack) -> Good:
    """A person clears a whole run that was good."""
    first = good(lab.daily("cleared"))
    first.runs[0].clear("preflight")
    return good(*first.runs)


def both(lab: AirflowStack) -> Good:
    """A deploy asks for a backup while the daily one is being taken."""
    source = "orders"
    with lab.locked_table(source):
        first = lab.daily(source)
        until(lambda: lab.waiting(source), seconds=120, what="pg_dump of the first run waiting for the table")
        second = lab.run(f"{source}.pre_deployment_backup", {**RELEASE, "wait_for_proof": True})
        until(
            lambda: [granted for granted, _ in lab.advisory_locks(source)] == [True, False],
            seconds=120,
            what="the second run waiting for the first one's lock",
        )
    return good(first, second)


def script(lab: AirflowStack) -> Good:
    """A CI job asks for a backup, as a user who may do no more."""
    dag_id = "shop.pre_deployment_backup"
    patiently(lambda: lab.api.unpause(dag_id))
    ended = subprocess.run(
        [ROOT / "include/ci/pre_deployment_backup.sh", "--source", "shop", "--wait-for-proof", "true"],
        env={
            "PATH": os.environ["PATH"],
            "AIRFLOW_URL": lab.stack.airflow.url,
            "AIRFLOW_USER": DEPLOYER,
            "AIRFLOW_PASSWORD": load_credentials(lab.stack.layout.credentials).airflow_deploy_password,
            "RELEASE": RELEASE["release"],
            "GIT_SHA": RELEASE["git_sha"],
            "DEADLINE_SECONDS": str(SCRIPT_SECONDS),
            "POLL_SECONDS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    (found,) = lab.api.get(f"/dags/{dag_id}/dagRuns")["dag_runs"]
    run = AirflowRun(api=lab.api, dag_id=dag_id, run_id=found["dag_run_id"])
    return Good(runs=(run,), states=(run.state(),), script=ended)


SCENARIOS: Mapping[str, Callable[[AirflowStack], Good]] = {
    "daily": daily,
    "unheard": unheard,
    "cleared": cleared,
    "both": both,
    "script": script,
}
Goods = Scenarios[AirflowStack, Good]


@pytest.fixture(scope="module")
def goods(request: pytest.FixtureRequest, airflow_stack: AirflowStack) -> Iterator[Goods]:
    with at_the_same_time(request, airflow_stack, SCENARIOS) as started:
        yield started


@pytest.fixture
def scenario(goods: Goods, request: pytest.FixtureRequest) -> Good:
    return goods[request.param]


def about(name: str) -> pytest.MarkDecorator:
    """Give a test the runs of one scenario."""
    return pytest.mark.parametrize("scenario", [name], indirect=True)


def dumped(lab: AirflowStack, run: AirflowRun) -> tuple[datetime, float]:
    """Return when a backup's data was read, and how many seconds it took."""
    facts: dict[str, Any] = lab.manifest(run)["dump"]
    return datetime.fromisoformat(facts["snapshot"]["time"]), float(facts["seconds"])


# --- the daily backup ------------------------------------------------------------------------------


@about("daily")
def test_a_daily_backup_succeeds_and_leaves_an_archive_a_manifest_a_proof_and_nothing_else(
    scenario: Good, airflow_stack: AirflowStack
) -> None:
    (run,) = scenario.runs
    assert scenario.states == ("success",), run.story()
    assert set(run.states().values()) == {"success"}
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    (proof,) = airflow_stack.proofs(run)
    assert (proof["result"], proof["level"]) == ("passed", "complete")
    assert airflow_stack.staged(run.source) == []
    assert airflow_stack.unfinished_uploads(run) == []


@about("daily")
def test_every_tasks_log_says_what_was_done_with_numbers_and_hashes(scenario: Good) -> None:
    (run,) = scenario.runs
    logs = {task: run.log(task) for task in run.tasks()}
    assert logs.keys() == EVIDENCE.keys()
    assert [task for task, text in logs.items() if not re.search(EVIDENCE[task], text)] == []
    rows = {re.findall(r"(\d+) rows", logs[task])[-1] for task in ("compress", "restore_test")}
    assert len(rows) == 1


@about("daily")
def test_xcoms_are_small_and_hold_no_secret(scenario: Good, airflow_stack: AirflowStack) -> None:
    (run,) = scenario.runs
    values = {name: as_text(value) for name, value in run.xcoms().items()}
    assert {task for task, key in values if key == "return_value"} == EVIDENCE.keys()
    assert [name for name, text in values.items() if len(text) > LARGEST_XCOM_BYTES] == []
    assert airflow_stack.secrets_in("\n".join(values.values())) == []


@about("daily")
def test_no_log_holds_a_secret(scenario: Good, airflow_stack: AirflowStack) -> None:
    assert scenario.states == ("success",)
    assert airflow_stack.leaks() == []


@about("daily")
def test_slack_gets_one_line_about_a_good_run(scenario: Good, airflow_stack: AirflowStack) -> None:
    (run,) = scenario.runs
    (message,) = airflow_stack.messages(run)
    assert re.search(rf"`{run.backup_id}` [\d.]+ MB; \d+ tables, \d+ rows; proven \(complete\): every row", message)


@about("cleared")
def test_clearing_a_good_run_verifies_its_backup_again_and_takes_no_other(
    scenario: Good, airflow_stack: AirflowStack
) -> None:
    (run,) = scenario.runs
    assert scenario.states == ("success",), run.story()
    assert {task["try_number"] for name, task in run.tasks().items() if name in CHECKED} == {2}
    assert "is stored already; nothing is dumped" in run.log("dump", 2)
    assert re.search(EVIDENCE["verify"], run.log("verify", 2))
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    assert [airflow_stack.versions(key) for key in airflow_stack.expected_keys(run)] == [1, 1]
    assert airflow_stack.staged(run.source) == []


# --- before a deployment ---------------------------------------------------------------------------


@about("unheard")
def test_a_deploy_that_waits_for_no_proof_gets_a_stored_backup(scenario: Good, airflow_stack: AirflowStack) -> None:
    (run,) = scenario.runs
    assert scenario.states == ("success",), run.story()
    states = run.states()
    assert {states.pop(task) for task in ("prepare_scratch", "restore_test", "remove_scratch")} == {"skipped"}
    assert set(states.values()) == {"success"}
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    assert airflow_stack.proofs(run) == []
    assert airflow_stack.manifest(run)["release"] == {"name": RELEASE["release"], "git_sha": RELEASE["git_sha"]}


@about("unheard")
def test_slack_being_down_fails_no_backup_and_is_seen(scenario: Good, airflow_stack: AirflowStack) -> None:
    (run,) = scenario.runs
    delivery = run.xcom("notify")
    assert (delivery["delivered"], delivery["succeeded"]) == (False, True)
    assert "Connection refused" in delivery["reason"]
    assert "the message was not delivered to Slack" in run.log("notify")
    assert airflow_stack.messages(run) == []


@about("both")
def test_two_backups_of_one_source_are_taken_one_after_the_other(scenario: Good, airflow_stack: AirflowStack) -> None:
    first, second = scenario.runs
    assert scenario.states == ("success", "success"), f"{first.story()}\n{second.story()}"
    started, seconds = dumped(airflow_stack, first)
    assert dumped(airflow_stack, second)[0] >= started + timedelta(seconds=seconds)
    assert re.search(r"waiting up to \d+ s for another backup of the source \(pid \d+", second.log("dump"))
    assert [proof["result"] for proof in airflow_stack.proofs(second)] == ["passed"]
    for run in scenario.runs:
        assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="apt-get install curl jq")
@about("script")
def test_the_script_for_ci_waits_for_the_proof_and_says_that_it_is_safe_to_deploy(
    scenario: Good, airflow_stack: AirflowStack
) -> None:
    (run,) = scenario.runs
    assert scenario.script is not None
    output = scenario.script.stdout + scenario.script.stderr
    assert scenario.script.returncode == 0, output
    assert "safe to deploy 2025.3.1 (0123abc)" in output
    assert set(run.states().values()) == {"success"}
    assert [proof["result"] for proof in airflow_stack.proofs(run)] == ["passed"]
    assert re.search(EVIDENCE["restore_test"], output)
    assert airflow_stack.secrets_in(output) == []


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"release": "2025.3.1"},
        {**RELEASE, "release": "1; rm -rf /"},
        {**RELEASE, "release": "1' OR '1'='1"},
        {**RELEASE, "release": "1.0\n"},
        {**RELEASE, "git_sha": "HEAD"},
        {**RELEASE, "git_sha": "0123abc\n"},
        {**RELEASE, "wait_for_proof": "yes"},
    ],
)
def test_parameters_that_are_not_acceptable_start_no_run(airflow_stack: AirflowStack, conf: dict[str, object]) -> None:
    dag_id = "fail_dump.pre_deployment_backup"
    with pytest.raises(ApiError) as refused:
        airflow_stack.api.trigger(dag_id, "refused", conf)
    assert refused.value.status == 400
    assert airflow_stack.api.get(f"/dags/{dag_id}/dagRuns")["total_entries"] == 0


# --- a source that is not acceptable ---------------------------------------------------------------


def test_a_broken_source_hides_no_other_and_the_log_says_what_is_wrong(airflow_stack: AirflowStack) -> None:
    api = airflow_stack.api
    dags: dict[str, Any] = {}
    # The API gives at most 100 at a time.
    while page := api.get(f"/dags?limit=100&offset={len(dags)}&order_by=dag_id")["dags"]:
        dags |= {dag["dag_id"]: dag for dag in page}
    names = ("daily_backup", "pre_deployment_backup", "restore_database")
    assert dags.keys() >= {
        f"{source}.{name}" for source in ("pulse_messages", *airflow_stack.sources) for name in names
    }
    assert [name for name in dags if name.startswith("broken.")] == []
    assert [name for name, dag in dags.items() if dag["is_stale"] or dag["has_import_errors"]] == []
    assert api.get("/importErrors")["import_errors"] == []
    logs = airflow_stack.stack.layout.logs / "airflow-dag-processor"
    text = "\n".join(path.read_text() for path in logs.rglob("*.log"))
    assert re.search(r"a source is left out: \S+policy\.yaml:\d+: keep is '7 hours'; allowed: a number and days", text)
