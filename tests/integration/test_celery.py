"""The same DAGs on Airflow's distributed engine: workers of their own, and one of them that is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from include.aws.render import render
from include.local.credentials import load_credentials
from include.local.s3 import REGION, USER
from tests.support.airflow_runs import DUMPING, AirflowRun, TaskProcesses, until
from tests.support.airflow_stack import IMPATIENT, AirflowStack, running_stack
from tests.support.celery_workers import Worker, celery_workers, redis_broker
from tests.support.small_sources import SmallSource

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SOURCES = tuple(SmallSource(name=f"fleet_{number}", retries=3, prove="in_chain") for number in range(1, 9))
HELD = "fleet_1"
ALL_RUNS_SECONDS = 1200.0
WORKERS = ("one", "two")
LOGS = "pulse-backups-logs"
# As in docker-compose.yaml: the logs of tasks outlive their worker, in a bucket of their own.
REMOTE_LOGGING = {
    "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
    "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "pulse_backups_s3",
    "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{LOGS}/airflow",
    "AIRFLOW__LOGGING__ENCRYPT_S3_LOGS": "False",
    "AIRFLOW__LOGGING__DELETE_LOCAL_LOGS": "True",
}


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A stack whose tasks run on Celery workers."""

    lab: AirflowStack
    workers: dict[str, Worker]

    def worker_of(self, process: int) -> Worker:
        """Return the worker in whose session a process runs."""
        session = os.getsid(process)
        return next(worker for worker in self.workers.values() if worker.process.pid == session)


@pytest.fixture(scope="module")
def fleet(state_dir: Path) -> Iterator[Fleet]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    with redis_broker(state_dir / "redis") as broker:
        extra = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
            **IMPATIENT,
            **REMOTE_LOGGING,
        }
        with running_stack(state_dir / "fleet", SOURCES, broken="broken", extra=extra) as lab:
            make_log_bucket(lab)
            environment = lab.stack.airflow.environment()
            with celery_workers(state_dir / "workers", environment, names=WORKERS, concurrency=4) as workers:
                yield Fleet(lab=lab, workers=workers)


def make_log_bucket(lab: AirflowStack) -> None:
    """Make the bucket of the logs, into which the backups' user may write as the template for AWS says."""
    lab.s3.create_bucket(Bucket=LOGS)
    credentials = load_credentials(lab.stack.layout.credentials)
    session = boto3.Session(credentials.store_root_key, credentials.store_root_secret, region_name=REGION)
    iam = session.client("iam", endpoint_url=lab.stack.store.url, verify=str(lab.stack.layout.ca))
    document = render("iam-logs", {"LOG_BUCKET": LOGS, "KEY_ARN": f"arn:aws:kms:{REGION}:000000000000:key/none"})
    iam.put_user_policy(UserName=USER, PolicyName="iam-logs", PolicyDocument=json.dumps(document))


def stored_logs(lab: AirflowStack) -> dict[str, str]:
    """Return the text of each log in the bucket, by its key."""
    pages = lab.s3.get_paginator("list_objects_v2").paginate(Bucket=LOGS)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key: lab.s3.get_object(Bucket=LOGS, Key=key)["Body"].read().decode() for key in keys}


def without_log(lab: AirflowStack, runs: Mapping[str, AirflowRun]) -> list[str]:
    """Return the names of the logs that the last tries of the runs' tasks ought to have in the bucket."""
    there = stored_logs(lab)
    return [
        name
        for run in runs.values()
        for task, seen in run.tasks().items()
        if (name := log_name(run, task, seen["try_number"])) not in there
    ]


def log_name(run: AirflowRun, task: str, try_number: int) -> str:
    return f"airflow/dag_id={run.dag_id}/run_id={run.run_id}/task_id={task}/attempt={try_number}.log"


def finished(run: AirflowRun) -> str | None:
    state = run.state()
    return state if state in ("success", "failed") else None


def test_eight_sources_are_proven_though_a_worker_is_lost_in_the_middle_of_a_dump(fleet: Fleet) -> None:
    lab = fleet.lab
    with lab.locked_table(HELD):
        runs = {source.name: lab.daily(source.name) for source in SOURCES}
        held = TaskProcesses.of(runs[HELD], "dump", DUMPING, seconds=300)
        lost = fleet.worker_of(held.task.pid)
        lost.vanish()
        until(lambda: not held.alive(), seconds=30, what="an end of the lost worker's dump")
    for name, run in runs.items():
        state = until(lambda run=run: finished(run), seconds=ALL_RUNS_SECONDS, what=f"an end of {name}", pause=3)
        assert state == "success", run.story()
    for run in runs.values():
        assert lab.keys(run) == lab.expected_keys(run)
        assert lab.versions(lab.expected_keys(run)[1]) == 1
        assert [proof["result"] for proof in lab.proofs(run)] == ["passed"]
    assert runs[HELD].task("dump")["try_number"] >= 2
    assert lab.staged(HELD) == []
    assert lab.scratch_leftovers() == []
    assert lab.leaks(of="airflow-") == []
    # A task's log is sent once its end was told.
    until(lambda: not without_log(lab, runs), seconds=120, what="the logs of all tasks in the store", pause=3)
    assert [key for key, text in stored_logs(lab).items() if lab.secrets_in(text)] == []
    for run in runs.values():
        # What the page of a run shows is read from there: nothing is left on a worker.
        assert run.backup_id in run.log("upload", run.task("upload")["try_number"])


def test_tasks_of_one_chain_ran_on_both_workers_before_one_was_lost(fleet: Fleet) -> None:
    received = {
        name: len(re.findall(r"Task .* received", worker.log.read_text())) for name, worker in fleet.workers.items()
    }
    assert all(count > 0 for count in received.values()), received
