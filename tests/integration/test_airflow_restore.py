"""restore_database under the real scheduler: with a yes, a no, nobody's answer, and everything that is no answer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.evidence.check import check_ledger, listed_records, read_records
from include.backup.evidence.record import read_event
from include.backup.policy import load_policy
from include.backup.steps.context import Release
from include.local.airflow import DEPLOYER, SERVICE, now
from include.local.airflow_api import AirflowApi, ApiError
from include.local.credentials import load_credentials
from include.local.layout import ROOT
from include.local.run import wait_for_dag
from tests.support.airflow_runs import AirflowRun, patiently, until
from tests.support.airflow_stack import AirflowStack
from tests.support.restores import RestoreLab
from tests.support.scenarios import Scenarios, at_the_same_time

RELEASE = Release(name="2025.3.1", git_sha="0123abc")
PRODUCTION = {"where": "production", "unproven": True, "end_sessions": True, "dry_run": False, "reason": "bad deploy"}
# Deadlines of conditions; a machine that is busy with other things takes its time.
ANSWER_SECONDS = 300.0
# The scheduler goes round more than once in that time, and says every five seconds that it lives.
HEARING = timedelta(seconds=2)
END_SECONDS = 600.0
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A run of restore_database that has ended, and production before and after it."""

    run: AirflowRun
    state: str
    good: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)


def restores(lab: AirflowStack) -> RestoreLab:
    """Return the means to take backups and look at databases without Airflow."""
    stack = lab.stack
    superuser = stack.settings().connection("pulse_messages_restore")
    return RestoreLab(
        policy=load_policy(Path(lab.environment["BACKUP_POLICY"])),
        superuser=DatabaseConnection.from_spec(superuser),
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=stack.layout.state / "restores-test",
    )


def spoil(lab: AirflowStack, source: str, *, release: Release | None = RELEASE) -> tuple[str, dict[str, Any], Any]:
    """Take a backup and lose rows; return its id, production as it was, and as it is."""
    means = restores(lab)
    good = means.state(source)
    backup_id = means.backup(source, release=release)
    means.do(source, "DELETE FROM orders WHERE id > 100")
    return backup_id, good, means.state(source)


def as_user(lab: AirflowStack, name: str) -> AirflowApi:
    credentials = load_credentials(lab.stack.layout.credentials)
    passwords = {DEPLOYER: credentials.airflow_deploy_password, SERVICE: credentials.airflow_service_password}
    return AirflowApi(url=lab.stack.airflow.url, user=name, password=passwords[name])


def answer(api: AirflowApi, run: AirflowRun, option: str) -> None:
    """Answer as a person does under Required Actions, and again if Airflow asks again.

    Airflow fails a try that is answered before its scheduler has heard that it was parked; the next one asks anew.
    """
    path = f"{run.path}/taskInstances/approve/-1/hitlDetails"
    parked: dict[int, datetime] = {}

    def settled() -> bool:
        task = run.task("approve")
        if task["state"] == "awaiting_input":
            since = parked.setdefault(task["try_number"], now())
            if scheduler_beat(run.api) > since + HEARING and not api.get(path)["response_received"]:
                patiently(lambda: api.patch(path, {"chosen_options": [option], "params_input": {}}))
        return task["state"] in ("success", "failed")

    until(settled, seconds=ANSWER_SECONDS, what=f"an answer to {run.dag_id}")


def scheduler_beat(api: AirflowApi) -> datetime:
    """Return when the scheduler last said that it lives: it had heard by then what happened some loops before."""
    return datetime.fromisoformat(str(api.health()["scheduler"]["latest_scheduler_heartbeat"]))


def ended(
    lab: AirflowStack, run: AirflowRun, good: Mapping[str, Any], before: Mapping[str, Any], **notes: Any
) -> Restored:
    state = run.wait(END_SECONDS)
    return Restored(run=run, state=state, good=good, before=before, after=restores(lab).state(run.source), notes=notes)


def approved(lab: AirflowStack) -> Restored:
    """The backup before a release, another person's yes."""
    backup_id, good, before = spoil(lab, "restore_yes")
    seen = lab.run(
        "restore_yes.restore_database",
        {"choose": "release", "release": "2025.3.1", "where": "production", "unproven": True},
    )
    seen.wait(END_SECONDS)
    run = lab.run("restore_yes.restore_database", {**PRODUCTION, "choose": "release", "release": "2025.3.1"})
    answer(as_user(lab, DEPLOYER), run, "Approve")
    return ended(lab, run, good, before, backup_id=backup_id, seen=seen)


def rolled_back(lab: AirflowStack) -> Restored:
    """A CI job rolls a bad deployment back; it may ask, and another person agrees."""
    source, dag_id = "restore_back", "restore_back.restore_database"
    _, good, before = spoil(lab, source)
    wait_for_dag(lab.api, dag_id)
    patiently(lambda: lab.api.unpause(dag_id))
    command = [str(ROOT / "include/ci/pre_deployment_backup.sh"), "--rollback", "--source", source]
    variables = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_URL": lab.stack.airflow.url,
        "AIRFLOW_USER": DEPLOYER,
        "AIRFLOW_PASSWORD": load_credentials(lab.stack.layout.credentials).airflow_deploy_password,
        "RELEASE": RELEASE.name,
        "GIT_SHA": RELEASE.git_sha,
        "UNPROVEN": "true",
        "REASON": "bad 'deploy'",
        "DEADLINE_SECONDS": "600",
        "POLL_SECONDS": "1",
    }
    run = AirflowRun(api=lab.api, dag_id=dag_id, run_id=f"rollback__{RELEASE.name}__{RELEASE.git_sha}")
    with subprocess.Popen(
        [*command], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout is not None
        said: list[str] = []
        # Answered earlier, the script would never see that it waits for a person.
        while (line := child.stdout.readline()) and "has to say yes" not in line:
            said.append(line)
        answer(lab.api, run, "Approve")
        output = "".join((*said, line, child.stdout.read()))
    return ended(lab, run, good, before, output=output, code=child.returncode)


def refused(lab: AirflowStack) -> Restored:
    backup_id, good, before = spoil(lab, "restore_no")
    run = lab.run("restore_no.restore_database", {**PRODUCTION, "choose": "id", "backup_id": backup_id})
    answer(as_user(lab, DEPLOYER), run, "Reject")
    return ended(lab, run, good, before)


def own(lab: AirflowStack) -> Restored:
    """Who asked answers for himself."""
    backup_id, good, before = spoil(lab, "restore_own")
    run = lab.run("restore_own.restore_database", {**PRODUCTION, "choose": "id", "backup_id": backup_id})
    answer(lab.api, run, "Approve")
    return ended(lab, run, good, before)


def marked(lab: AirflowStack) -> Restored:
    """Nobody answers: tasks are marked and the answer is forged, until the swap itself runs."""
    backup_id, good, before = spoil(lab, "restore_marked")
    run = lab.run("restore_marked.restore_database", {**PRODUCTION, "choose": "id", "backup_id": backup_id})
    run.wait_for("approve", "awaiting_input", seconds=ANSWER_SECONDS)
    viewer = as_user(lab, SERVICE)
    path = f"{run.path}/taskInstances/approve"
    refusals = []
    for method, where, body in (
        (viewer.patch, f"{path}/-1/hitlDetails", {"chosen_options": ["Approve"], "params_input": {}}),
        (viewer.patch, path, {"new_state": "success"}),
        (viewer.post, f"{path}/xcomEntries", {"key": "return_value", "value": {"chosen_options": ["Approve"]}}),
    ):
        try:
            method(where, body)
        except ApiError as error:
            refusals.append(error.status)
    mark(lab, run, "approve")
    forged = {"chosen_options": ["Approve"], "params_input": {}, "responded_by_user": {"id": "2", "name": DEPLOYER}}
    patiently(lambda: lab.api.post(f"{path}/xcomEntries", {"key": "return_value", "value": forged}))
    run.wait_for("check_approval", "failed", seconds=ANSWER_SECONDS)
    run.wait(END_SECONDS)
    checked = run.log("check_approval")
    mark(lab, run, "check_approval")
    run.clear("take_safety_backup")
    return ended(lab, run, good, before, refusals=refusals, checked=checked)


def mark(lab: AirflowStack, run: AirflowRun, task_id: str) -> None:
    """Mark a task as a success, as an administrator can."""
    patiently(lambda: lab.api.patch(f"{run.path}/taskInstances/{task_id}", {"new_state": "success"}))


def late(lab: AirflowStack) -> Restored:
    """Nobody answers in time."""
    backup_id, good, before = spoil(lab, "restore_late")
    run = lab.run("restore_late.restore_database", {**PRODUCTION, "choose": "id", "backup_id": backup_id})
    return ended(lab, run, good, before)


def cold(lab: AirflowStack) -> Restored:
    """The archive is in Glacier, and the copy is a scratch database."""
    backup_id, good, before = spoil(lab, "restore_cold", release=None)
    context = restores(lab).context("restore_cold")
    archive = context.catalog.manifest(backup_id).archive
    context.store.s3.copy_object(
        Bucket=context.store.bucket,
        Key=archive.key,
        CopySource={"Bucket": context.store.bucket, "Key": archive.key},
        StorageClass="GLACIER",
        **context.encryption.arguments(),
    )
    conf = {"choose": "id", "backup_id": backup_id, "unproven": True, "dry_run": False}
    return ended(lab, lab.run("restore_cold.restore_database", conf), good, before, backup_id=backup_id)


SCENARIOS: Mapping[str, Callable[[AirflowStack], Restored]] = {
    "approved": approved,
    "rolled_back": rolled_back,
    "refused": refused,
    "own": own,
    "marked": marked,
    "late": late,
    "cold": cold,
}


@pytest.fixture(scope="module")
def all_of_them(
    request: pytest.FixtureRequest, airflow_stack: AirflowStack
) -> Iterator[Scenarios[AirflowStack, Restored]]:
    with at_the_same_time(request, airflow_stack, SCENARIOS) as started:
        yield started


@pytest.fixture
def scenario(all_of_them: Scenarios[AirflowStack, Restored], request: pytest.FixtureRequest) -> Restored:
    return all_of_them[request.param]


def about(*names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", names, indirect=True)


@about("approved")
def test_with_another_persons_yes_production_is_the_backup_and_the_old_one_is_kept(
    scenario: Restored, airflow_stack: AirflowStack
) -> None:
    run = scenario.run
    assert scenario.state == "success", run.story()
    assert {task for task, state in run.states().items() if state != "success"} == {"restore_in_place"}
    assert (scenario.after["orders"], scenario.after["notes"]) == (scenario.good["orders"], scenario.good["notes"])
    assert scenario.after["oid"] != scenario.before["oid"]
    kept = run.xcom("keep_old")
    assert re.fullmatch(r"restore_yes_old_\d{8}T\d{6}Z_[0-9a-f]{6}", kept["database"])
    assert kept["database"] in restores(airflow_stack).databases()
    preview = run.log("preview_restore")
    assert re.search(r"public\.orders +100 +5000 +\+4900", preview)
    assert re.search(r"replaces +restore_yes, oid \d+, of the cluster \d+", preview)
    assert (run.xcom("preview_restore")["rows_now"], run.xcom("preview_restore")["rows_then"]) == (600, 5500)
    assert run.xcom("take_safety_backup")["backup_id"].startswith("restore_yes_safety_full_")
    assert re.search(r"nobody could connect for [\d.]+ s", run.log("swap_databases"))


@about("approved")
def test_the_evidence_names_who_asked_and_who_agreed_and_slack_is_told(
    scenario: Restored, airflow_stack: AirflowStack
) -> None:
    context = restores(airflow_stack).context("restore_yes")
    assert check_ledger(context.store, "restore_yes").intact
    sequences, _ = listed_records(context.store, "restore_yes")
    events = [
        read_event(item.content, name="record")
        for item in read_records(context.store, "restore_yes", sequences)
        if item.content is not None
    ]
    (event,) = [event for event in events if event.kind.value == "restore"]
    # The policy that allows it, the yes, and only then what was done.
    order = [one.kind.value for one in events if one.kind.value in ("policy_change", "approval", "restore")]
    assert order == ["policy_change", "approval", "restore"]
    assert (event.facts["requested_by"], event.facts["approved_by"]) == ("admin", DEPLOYER)
    assert (event.facts["backup_id"], event.facts["reason"]) == (scenario.notes["backup_id"], "bad deploy")
    texts = [str(entry["message"]) for entry in airflow_stack.stack.slack.messages()]
    assert any("*restore_yes restore*" in text and "is the restored one now" in text for text in texts)


@about("approved")
def test_a_run_that_only_shows_changes_nothing_and_succeeds(scenario: Restored) -> None:
    seen = scenario.notes["seen"]
    states = seen.states()
    done = {"resolve_backup", "thaw_archive", "preview_restore", "check_approval", "reopen_target", "notify"}
    assert {task for task, state in states.items() if state == "success"} == done
    assert {task for task, state in states.items() if state == "skipped"} == states.keys() - done
    assert seen.state() == "success"
    assert scenario.before["orders"] == 100


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="apt-get install curl jq")
@about("rolled_back")
def test_the_script_for_ci_rolls_a_release_back_once_another_person_agrees(
    scenario: Restored, airflow_stack: AirflowStack
) -> None:
    output = scenario.notes["output"]
    assert (scenario.notes["code"], scenario.state) == (0, "success"), output
    assert "another person has to say yes: http" in output
    assert "rolled back: the backup from before 2025.3.1 (0123abc) is in production's place" in output
    assert (scenario.after["orders"], scenario.after["notes"]) == (scenario.good["orders"], scenario.good["notes"])
    assert scenario.run.xcom("check_approval")["approved_by"] == "admin"
    assert scenario.run.xcom("check_approval")["requested_by"] == DEPLOYER
    assert airflow_stack.secrets_in(output) == []


# A no and no answer at all end at the same gate as an answer of one's own; they take long.
@about("own", *(pytest.param(name, marks=pytest.mark.long) for name in ("refused", "late")))
def test_without_a_yes_of_another_person_in_time_the_run_fails_and_production_is_untouched(
    scenario: Restored, airflow_stack: AirflowStack
) -> None:
    run = scenario.run
    assert scenario.state == "failed", run.story()
    assert scenario.after == scenario.before
    words = {
        "restore_no": ("check_approval", f"{DEPLOYER} said no"),
        "restore_own": ("check_approval", "admin has asked for it and cannot approve it too"),
        "restore_late": ("approve", "nobody answered within"),
    }
    task, text = words[run.source]
    states = run.states()
    assert states[task] == "failed"
    assert text in run.log(task, run.task(task)["try_number"])
    assert {states[name] for name in ("take_safety_backup", "restore_beside", "swap_databases")} == {"upstream_failed"}
    assert states["notify"] == "success"
    assert not [name for name in restores(airflow_stack).databases() if name.startswith(f"{run.source}_")]


@about("marked")
def test_marking_tasks_and_forging_answers_does_not_swap(scenario: Restored, airflow_stack: AirflowStack) -> None:
    run = scenario.run
    assert scenario.state == "failed", run.story()
    assert scenario.notes["refusals"] == [403, 403, 403]
    assert "nobody has answered" in scenario.notes["checked"]
    states = run.states()
    assert (states["approve"], states["check_approval"], states["compare_rows"]) == ("success", "success", "success")
    assert states["swap_databases"] == "failed"
    assert "nobody has answered, whatever the state of the approval's task says" in run.log("swap_databases")
    assert scenario.after == scenario.before


@about("cold")
def test_an_archive_in_glacier_is_thawed_without_holding_a_worker(
    scenario: Restored, airflow_stack: AirflowStack
) -> None:
    run = scenario.run
    assert scenario.state == "success", run.story()
    log = run.log("thaw_archive", run.task("thaw_archive")["try_number"])
    assert "is in GLACIER; its thaw was asked for at the tier Standard (the middle one price)" in log
    assert scenario.after == scenario.before
    states = run.states()
    assert {states[name] for name in ("approve", "take_safety_backup", "swap_databases", "keep_old")} == {"skipped"}
    copy = run.xcom("compare_rows")["database"]
    assert copy.startswith("restored_")
    assert restores(airflow_stack).value(copy, "SELECT count(*) FROM orders") == scenario.good["orders"]


def test_no_secret_is_in_what_restores_leave(
    all_of_them: Scenarios[AirflowStack, Restored], airflow_stack: AirflowStack
) -> None:
    assert all_of_them["approved"].state == "success"
    assert airflow_stack.leaks() == []
