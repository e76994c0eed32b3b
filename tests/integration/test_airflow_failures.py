"""Each task of a backup fails in turn, by a real fault, under the real scheduler: what the run and people say."""

from __future__ import annotations

import fcntl
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from include.local.s3 import BUCKET
from tests.faults.http_fault import Answer, Request
from tests.support.airflow_runs import AirflowRun
from tests.support.airflow_stack import AirflowStack
from tests.support.scenarios import Scenarios, at_the_same_time

WORK = ("preflight", "dump", "compress", "upload", "verify", "prepare_scratch", "restore_test", "close_staging")
ERRORS = {
    "preflight": "BucketMissingError: the bucket no-such-bucket does not exist",
    "dump": "SourceLockedError: pg_dump could not lock every table within 1 s",
    "compress": "TruncatedMemberError: ",
    "upload": "StoreDeniedError: the store refused to upload a part of",
    "verify": "ObjectDiffersError: s3://pulse-backups/daily/fail_verify_",
    "prepare_scratch": "ScratchError: ",
    "restore_test": "ProofFailedError: backup fail_restore_test_daily_full_",
    "close_staging": "StagingBusyError: another process works in ",
}
# Two scenarios use or spoil the one folder of scratch servers.
SCRATCH_FOLDER = threading.Lock()
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run in which one task failed."""

    run: AirflowRun
    state: str
    tasks: Mapping[str, dict[str, Any]]


def at(run: AirflowRun, task_id: str) -> Callable[[Request], bool]:
    """Match the requests that a task sends."""
    return lambda request: run.is_at(task_id)


def ended(run: AirflowRun) -> Failure:
    return Failure(run=run, state=run.wait(), tasks=run.tasks())


def fail_preflight(lab: AirflowStack) -> Failure:
    return ended(lab.daily("fail_preflight"))


def fail_dump(lab: AirflowStack) -> Failure:
    with lab.locked_table("fail_dump"):
        return ended(lab.daily("fail_dump"))


def fail_compress(lab: AirflowStack) -> Failure:
    run = lab.daily("fail_compress")
    with lab.stores[run.source].hold(at(run, "compress")) as hold:
        hold.wait()
        member = max((lab.staging(run).dump / "data").glob("*.dat.zst"), key=lambda path: path.stat().st_size)
        with member.open("r+b") as file:
            file.truncate(member.stat().st_size // 2)
    return ended(run)


def fail_upload(lab: AirflowStack) -> Failure:
    denied = Answer(status=403, body=DENIED, headers={"Content-Type": "application/xml"})
    lab.stores["fail_upload"].add(denied, times=1000, when=lambda request: "partNumber=" in request.query)
    failure = ended(lab.daily("fail_upload"))
    lab.stores["fail_upload"].clear()
    return failure


def fail_verify(lab: AirflowStack) -> Failure:
    run = lab.daily("fail_verify")
    with lab.stores[run.source].hold(at(run, "verify")) as hold:
        hold.wait()
        spoil_archive(lab, run)
    return ended(run)


def fail_restore_test(lab: AirflowStack) -> Failure:
    run = lab.daily("fail_restore_test")
    store = lab.stores[run.source]
    with store.hold(at(run, "verify")) as verify:
        verify.wait()
        with SCRATCH_FOLDER:
            verify.release()
            with store.hold(at(run, "restore_test")) as hold:
                hold.wait()
                spoil_archive(lab, run)
            return ended(run)


def fail_prepare_scratch(lab: AirflowStack) -> Failure:
    """A file lies where the scratch folder should be."""
    run = lab.daily("fail_prepare_scratch")
    root = lab.stack.layout.scratch
    with lab.stores[run.source].hold(at(run, "verify")) as verify:
        verify.wait()
        with SCRATCH_FOLDER:
            aside = root.rename(root.with_name("scratch-aside"))
            root.write_text("in the way")
            try:
                verify.release()
                run.wait_for("prepare_scratch", "failed")
            finally:
                root.unlink()
                aside.rename(root)
    return ended(run)


def fail_close_staging(lab: AirflowStack) -> Failure:
    """Another process holds the staging folder."""
    run = lab.daily("fail_close_staging")
    with lab.stores[run.source].hold(at(run, "verify")) as hold:
        hold.wait()
        with (lab.staging(run).path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            hold.release()
            return ended(run)


def spoil_archive(lab: AirflowStack, run: AirflowRun) -> None:
    """Replace the archive by one of the same size with another byte in its largest table."""
    key = lab.expected_keys(run)[1]
    body = bytearray(lab.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    members = [member for member in lab.manifest(run)["members"] if member["table_data"]]
    largest = max(members, key=lambda member: member["stored_length"])
    body[largest["offset"] + largest["stored_length"] // 2] ^= 1
    lab.s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(body))


SCENARIOS: Mapping[str, Callable[[AirflowStack], Failure]] = {
    "preflight": fail_preflight,
    "dump": fail_dump,
    "compress": fail_compress,
    "upload": fail_upload,
    "verify": fail_verify,
    "prepare_scratch": fail_prepare_scratch,
    "restore_test": fail_restore_test,
    "close_staging": fail_close_staging,
}
# A fault for the first task, one in the middle, and one that the store's content causes; the others take long.
ALWAYS = ("preflight", "upload", "restore_test")
CASES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS]

Failures = Scenarios[AirflowStack, Failure]


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest, airflow_stack: AirflowStack) -> Iterator[Failures]:
    with at_the_same_time(request, airflow_stack, SCENARIOS) as started:
        yield started


@pytest.mark.parametrize("scenario", CASES)
def test_a_task_that_fails_fails_the_run_and_people_are_told_what_why_and_what_next(
    failures: Failures, airflow_stack: AirflowStack, scenario: str
) -> None:
    failure = failures[scenario]
    states = {name: task["state"] for name, task in failure.tasks.items()}
    assert failure.state == "failed"
    assert states[scenario] == "failed"
    before, after = WORK[: WORK.index(scenario)], WORK[WORK.index(scenario) + 1 :]
    assert {states[task] for task in before} <= {"success", "skipped"}
    assert {states[task] for task in after} <= {"upstream_failed", "skipped"}
    assert states["notify"] == "success"
    (message,) = airflow_stack.messages(failure.run)
    assert f"*failed* at `{scenario}`" in message
    assert f"*What:* `{failure.run.backup_id}`, done before: " in message
    assert f"*Why:* {ERRORS[scenario]}" in message
    assert re.search(r"\*Next:\* \w.{20,}", message)
    assert f"/runs/{failure.run.run_id}/tasks/{scenario}|log>" in message
    assert airflow_stack.secrets_in(message) == []


def test_what_no_retry_mends_is_not_tried_again(failures: Failures) -> None:
    assert failures["preflight"].tasks["preflight"]["try_number"] == 1


def test_a_restore_test_that_fails_leaves_a_failed_proof_and_no_scratch_server(
    failures: Failures, airflow_stack: AirflowStack
) -> None:
    failure = failures["restore_test"]
    assert failure.tasks["remove_scratch"]["state"] == "success"
    (proof,) = airflow_stack.proofs(failure.run)
    assert proof["result"] == "failed"
    assert proof["differences"]
    assert failure.tasks["restore_test"]["try_number"] == 1
    assert airflow_stack.scratch_leftovers() == []


@pytest.mark.parametrize("task", ["upload", "restore_test"])
def test_a_failed_run_keeps_its_staging_for_whoever_clears_it(
    failures: Failures, airflow_stack: AirflowStack, task: str
) -> None:
    assert airflow_stack.staging(failures[task].run).dump.is_dir()


def test_a_failed_upload_leaves_no_archive_and_no_manifest(failures: Failures, airflow_stack: AirflowStack) -> None:
    failure = failures["upload"]
    assert airflow_stack.keys(failure.run) == []


def test_no_log_of_a_failure_holds_a_secret(failures: Failures, airflow_stack: AirflowStack) -> None:
    assert {failures[scenario].state for scenario in failures.started} == {"failed"}
    assert airflow_stack.leaks() == []


def test_a_cleared_upload_completes_without_a_second_dump(failures: Failures, airflow_stack: AirflowStack) -> None:
    """Comes last: it makes the failed run a good one."""
    run, before = failures["upload"].run, failures["upload"].tasks
    facts = airflow_stack.staging(run).dump / "facts.json"
    dumped = (facts.stat().st_mtime_ns, facts.read_bytes())
    run.clear("upload")
    with airflow_stack.stores[run.source].hold(at(run, "close_staging")) as hold:
        hold.wait()
        assert (facts.stat().st_mtime_ns, facts.read_bytes()) == dumped
    assert run.wait() == "success"
    after = run.tasks()
    for task in ("preflight", "dump", "compress"):
        unchanged = ("try_number", "start_date", "end_date")
        assert [after[task][key] for key in unchanged] == [before[task][key] for key in unchanged]
    assert after["upload"]["try_number"] == before["upload"]["try_number"] + 1
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    assert airflow_stack.unfinished_uploads(run) == []
    assert airflow_stack.staged(run.source) == []
    failed, succeeded = airflow_stack.messages(run)
    assert "*failed* at `upload`" in failed
    assert "stored and verified" in succeeded
