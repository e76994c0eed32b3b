"""The same DAGs on Airflow's distributed engine: workers of their own, and one of them that is lost."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.airflow_runs import DUMPING, AirflowRun, TaskProcesses, until
from tests.support.airflow_stack import IMPATIENT, AirflowStack, running_stack
from tests.support.celery_workers import Worker, celery_workers, redis_broker
from tests.support.small_sources import SmallSource

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SOURCES = tuple(SmallSource(name=f"fleet_{number}", retries=3, prove="in_chain") for number in range(1, 9))
HELD = "fleet_1"
ALL_RUNS_SECONDS = 1200.0
WORKERS = ("one", "two")


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
        }
        with running_stack(state_dir / "fleet", SOURCES, broken="broken", extra=extra) as lab:
            environment = lab.stack.airflow.environment()
            with celery_workers(state_dir / "workers", environment, names=WORKERS, concurrency=4) as workers:
                yield Fleet(lab=lab, workers=workers)


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
    assert lab.leaks() == []


def test_tasks_of_one_chain_ran_on_both_workers_before_one_was_lost(fleet: Fleet) -> None:
    received = {
        name: len(re.findall(r"Task .* received", worker.log.read_text())) for name, worker in fleet.workers.items()
    }
    assert all(count > 0 for count in received.values()), received
