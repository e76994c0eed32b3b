"""What ends a task from outside, under the real scheduler: a killed worker, a killed task, a person who marks it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.http_fault import Request
from tests.support.airflow_runs import DUMPING, LOADING, SCRATCH_SERVER, AirflowRun, TaskProcesses, until
from tests.support.airflow_stack import AirflowStack
from tests.support.scenarios import Scenarios, at_the_same_time

DEATH_SECONDS = 10.0
ON_KILL_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A run one of whose tasks was ended from outside."""

    run: AirflowRun
    state: str
    tasks: Mapping[str, dict[str, Any]]
    death_seconds: float


def kill_dump(lab: AirflowStack) -> Stopped:
    run = lab.daily("kill_dump")
    with lab.locked_table(run.source):
        processes = TaskProcesses.of(run, "dump", DUMPING)
        seconds = kill(processes, processes.kill_worker)
        until(lambda: lab.backup_sessions(run.source) == [], seconds=DEATH_SECONDS, what="its sessions ended")
        until(lambda: lab.advisory_locks(run.source) == [], seconds=DEATH_SECONDS, what="the source's lock free")
    return ended(run, seconds)


def kill_compress(lab: AirflowStack) -> Stopped:
    """A FIFO stands for a disk that stalls: compress is in the middle of reading it."""
    run = lab.daily("kill_compress")
    with ExitStack() as cleanup:
        with lab.stores[run.source].hold(at(run, "compress")) as hold:
            hold.wait()
            member = max((lab.staging(run).dump / "data").glob("*.dat.zst"), key=lambda path: path.stat().st_size)
            aside = member.rename(lab.stack.layout.staging / member.name)
            os.mkfifo(member)
        writer = until(lambda: open_for_reader(member), seconds=60, what="compress reading the FIFO")
        cleanup.callback(os.close, writer)
        processes = TaskProcesses.of(run, "compress")
        seconds = kill(processes, processes.kill_worker)
        aside.replace(member)
    return ended(run, seconds)


def kill_upload(lab: AirflowStack) -> Stopped:
    """Two of three parts are stored when the third one stalls."""
    run = lab.daily("kill_upload")
    store = lab.stores[run.source]
    with store.hold(lambda request: "partNumber=3&" in f"{request.query}&") as hold:
        hold.wait()
        until(lambda: len(stored_parts(store.exchanges)) == 2, seconds=60, what="two parts stored")
        processes = TaskProcesses.of(run, "upload")
        seconds = kill(processes, processes.kill_worker)
        hold.abandon()
    return ended(run, seconds)


def kill_restore_test(lab: AirflowStack) -> Stopped:
    """Rows are being loaded into the scratch server."""
    run = lab.daily("kill_restore_test")
    processes = TaskProcesses.of(run, "restore_test", LOADING, SCRATCH_SERVER)
    seconds = kill(processes, processes.kill_worker)
    until(lambda: lab.scratch_processes() == [], seconds=DEATH_SECONDS, what="the scratch server ended")
    return ended(run, seconds)


def kill_task(lab: AirflowStack) -> Stopped:
    """The system ends the task itself, as it does when memory is short; its worker lives."""
    run = lab.daily("kill_task")
    with lab.locked_table(run.source):
        processes = TaskProcesses.of(run, "dump", DUMPING)
        seconds = kill(processes, processes.kill_task)
    return ended(run, seconds)


def mark_dump(lab: AirflowStack) -> Stopped:
    """A person marks the running dump failed."""
    run = lab.daily("mark_dump")
    with lab.locked_table(run.source):
        processes = TaskProcesses.of(run, "dump", DUMPING)
        assert [granted for granted, _ in lab.advisory_locks(run.source)] == [True]
        seconds = kill(processes, lambda: run.mark_failed("dump"), within=ON_KILL_SECONDS)
        until(lambda: lab.backup_sessions(run.source) == [], seconds=DEATH_SECONDS, what="its sessions ended")
        until(lambda: lab.advisory_locks(run.source) == [], seconds=DEATH_SECONDS, what="the source's lock free")
        return ended(run, seconds)


def late_run(lab: AirflowStack) -> Stopped:
    """A dump waits for a table's lock for longer than usual; people are told while it waits."""
    usual = lab.daily("late_run")
    assert usual.wait() == "success", usual.story()
    run = lab.daily("late_run")
    with lab.locked_table(run.source):
        until(lambda: lab.messages(run), seconds=270, what="a message about the late run")
        assert run.task("dump")["state"] == "running"
    return ended(run, 0.0)


SCENARIOS: Mapping[str, Callable[[AirflowStack], Stopped]] = {
    "dump": kill_dump,
    "compress": kill_compress,
    "upload": kill_upload,
    "restore_test": kill_restore_test,
    "task": kill_task,
    "mark": mark_dump,
    "late": late_run,
}
# A worker lost in the middle of the source's work, and of the scratch server's; the others take long.
CASES = [
    "dump",
    "restore_test",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("compress", "upload", "task")),
]

Stops = Scenarios[AirflowStack, Stopped]


@pytest.fixture(scope="module")
def stops(request: pytest.FixtureRequest, airflow_stack: AirflowStack) -> Iterator[Stops]:
    airflow_stack.become_impatient()
    with at_the_same_time(request, airflow_stack, SCENARIOS) as started:
        yield started


def kill(processes: TaskProcesses, how: Callable[[], None], *, within: float = DEATH_SECONDS) -> float:
    """End a task; return after how many seconds nothing of it was left."""
    started = time.monotonic()
    how()
    until(lambda: processes.alive() == [], seconds=within, what="every process of the task gone", pause=0.05)
    return time.monotonic() - started


def at(run: AirflowRun, task_id: str) -> Callable[[Request], bool]:
    """Match the requests that the first try of a task sends."""
    return lambda request: run.is_at(task_id)


def open_for_reader(fifo: Path) -> int | None:
    """Return a descriptor for writing once somebody has opened the FIFO for reading."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def stored_parts(exchanges: list[Any]) -> set[str]:
    return {each.request.query for each in exchanges if "partNumber=" in each.request.query and each.status == 200}


def ended(run: AirflowRun, seconds: float) -> Stopped:
    return Stopped(
        run=run,
        state=run.wait(),
        tasks=run.tasks(),
        death_seconds=seconds,
    )


@pytest.mark.parametrize("scenario", CASES)
def test_a_killed_worker_takes_its_children_with_it_and_the_retry_makes_one_whole_backup(
    stops: Stops, airflow_stack: AirflowStack, scenario: str
) -> None:
    stopped = stops[scenario]
    run, killed = stopped.run, "dump" if scenario == "task" else scenario
    assert stopped.state == "success", run.story()
    tries = {name: task["try_number"] for name, task in stopped.tasks.items() if task["state"] == "success"}
    assert tries.pop(killed) == 2
    assert set(tries.values()) == {1}
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    assert [airflow_stack.versions(key) for key in airflow_stack.expected_keys(run)] == [1, 1]
    assert airflow_stack.manifest(run)["backup_id"] == run.backup_id
    assert airflow_stack.unfinished_uploads(run) == []
    assert airflow_stack.staged(run.source) == []
    (message,) = airflow_stack.messages(run)
    assert f"`{run.backup_id}`" in message


@pytest.mark.long
def test_the_parts_that_a_killed_upload_had_stored_are_not_sent_again(stops: Stops) -> None:
    report = stops["upload"].run.xcom("upload")
    assert (report["parts"], report["resumed_parts"]) == (3, 2)


def test_after_a_killed_restore_test_no_scratch_server_and_no_folder_of_one_is_left(
    stops: Stops, airflow_stack: AirflowStack
) -> None:
    stopped = stops["restore_test"]
    assert stopped.run.xcom("restore_test")["result"] == "passed"
    assert len(airflow_stack.proofs(stopped.run)) == 1
    assert airflow_stack.scratch_leftovers() == []


@pytest.mark.parametrize("scenario", ["mark"])
def test_a_dump_that_a_person_marks_failed_ends_at_once_and_lets_the_source_go(
    stops: Stops, airflow_stack: AirflowStack, scenario: str
) -> None:
    stopped = stops[scenario]
    assert stopped.death_seconds < ON_KILL_SECONDS
    assert stopped.state == "failed"
    assert stopped.tasks["dump"]["state"] == "failed"
    assert stopped.tasks["dump"]["try_number"] == 1
    assert airflow_stack.keys(stopped.run) == []
    (message,) = airflow_stack.messages(stopped.run)
    assert "*failed* at `dump`" in message
    # The message goes out at once, the task ends at its next heartbeat: either may be first.
    assert re.search(r"\*Why:\* (CommandKilledError: pg_dump was ended|.*, or somebody marked it)", message)


@pytest.mark.parametrize("scenario", ["late"])
def test_a_run_that_is_late_is_told_of_once_while_it_runs_and_then_ends_as_always(
    stops: Stops, airflow_stack: AirflowStack, scenario: str
) -> None:
    stopped = stops[scenario]
    assert stopped.state == "success", stopped.run.story()
    late, done = airflow_stack.messages(stopped.run)
    assert f"*What:* run `{stopped.run.run_id}` of `late_run.daily_backup` is still running, 0:00:02 past" in late
    assert re.search(r"\*Next:\* \w.{20,}", late)
    assert f"`{stopped.run.backup_id}`" in done
    assert airflow_stack.secrets_in(late) == []


def test_no_log_of_a_task_that_was_stopped_holds_a_secret(stops: Stops, airflow_stack: AirflowStack) -> None:
    assert [stops[scenario].state for scenario in stops.started].count("failed") == 1
    assert airflow_stack.leaks() == []
