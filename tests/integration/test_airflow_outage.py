"""The API server is away for a minute while dumps run: tasks speak to nothing else, and must not die of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from include.local.airflow import now
from include.local.processes import session_members, signal_all
from tests.support.airflow_runs import DUMPING, AirflowRun, TaskProcesses, until
from tests.support.airflow_stack import AirflowStack

OUTAGE_SECONDS = 60.0
DUMPING_SECONDS = 15.0
LONG, SHORT = "outage_long", "outage_short"
pytestmark = pytest.mark.long


@dataclass(frozen=True, kw_only=True)
class Outage:
    """What became of two runs: one dump outlasted the outage, the other one ended in it."""

    began: datetime
    ended: datetime
    runs: Mapping[str, AirflowRun]
    states: Mapping[str, str]
    lived: bool


@pytest.fixture(scope="module")
def outage(airflow_stack: AirflowStack) -> Outage:
    """Both sources have a locked table, so that their dumps last as long as the test wants them to."""
    lab = airflow_stack
    runs = {source: lab.daily(source) for source in (LONG, SHORT)}
    with lab.locked_table(LONG):
        with lab.locked_table(SHORT):
            processes = {source: TaskProcesses.of(run, "dump", DUMPING) for source, run in runs.items()}
            began = stop_api_server(lab)
            wait_for(DUMPING_SECONDS, since=began)
        wait_for(OUTAGE_SECONDS, since=began)
        lived = any(DUMPING in command for command in processes[LONG].alive())
        ended = start_api_server(lab)
    states = {source: run.wait() for source, run in runs.items()}
    return Outage(began=began, ended=ended, runs=runs, states=states, lived=lived)


def stop_api_server(lab: AirflowStack) -> datetime:
    """Kill the API server; return since when it is away."""
    identity = lab.service("api-server").identity()
    assert identity is not None
    signal_all(session_members(identity), signal.SIGKILL)
    until(lambda: not session_members(identity), seconds=10, what="the API server gone")
    return datetime.now(UTC)


def start_api_server(lab: AirflowStack) -> datetime:
    """Start the API server; return when this began."""
    since = now()
    lab.service("api-server").start()
    lab.wait_until_healthy(since)
    return since


def wait_for(seconds: float, *, since: datetime) -> None:
    """Let the outage last so long."""
    time.sleep(max(0.0, seconds - (datetime.now(UTC) - since).total_seconds()))


def snapshot(lab: AirflowStack, run: AirflowRun) -> datetime:
    return datetime.fromisoformat(lab.manifest(run)["dump"]["snapshot"]["time"])


def test_a_dump_outlives_a_minute_without_the_api_server_and_its_run_succeeds(
    outage: Outage, airflow_stack: AirflowStack
) -> None:
    run = outage.runs[LONG]
    assert (outage.ended - outage.began).total_seconds() >= OUTAGE_SECONDS
    assert outage.lived, run.story()
    assert outage.states[LONG] == "success", run.story()
    assert {task["try_number"] for task in run.tasks().values() if task["state"] == "success"} == {1}
    assert snapshot(airflow_stack, run) < outage.began
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)


def test_a_dump_that_ends_while_nobody_listens_is_not_taken_again(outage: Outage, airflow_stack: AirflowStack) -> None:
    """The task cannot tell how it ended and is tried again; the retry finds the dump."""
    run = outage.runs[SHORT]
    assert outage.states[SHORT] == "success", run.story()
    assert "was taken by an earlier try and is reused" in run.log("dump", run.task("dump")["try_number"])
    assert snapshot(airflow_stack, run) < outage.began
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    assert airflow_stack.staged(SHORT) == []
