"""Runs of DAGs as a test sees them: through Airflow's REST API, and by the processes of their tasks."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from include.backup.backup_id import make_backup_id
from include.local.airflow_api import AirflowApi, ApiError, ApiUnreachableError
from include.local.processes import Identity, all_processes, identify, is_alive
from include.local.run import start_run, wait_for_dag

# Words of command lines that tell a child at work from one that only says its version.
DUMPING = "pg_dump --format=directory"
SCRATCH_SERVER = "postgres -D"
LOADING = "[local] COPY"
POLL_SECONDS = 1.0
WRITE_SECONDS = 30.0
TASK_SECONDS = 300.0
RUN_SECONDS = 600.0
ENDED = ("success", "failed")
TIERS = {
    "daily_backup": "daily",
    "pre_deployment_backup": "pre_deployment",
    "critical_tables_backup": "hourly",
    "weekly_backup": "weekly",
    "monthly_archive": "monthly",
}

Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], *, seconds: float, what: str, pause: float = POLL_SECONDS) -> Found:
    """Return the condition's first true value; raises TimeoutError that says what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except ApiUnreachableError:  # a machine that is busy with other work answers later
            if time.monotonic() > deadline:
                raise
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s: not {what}")
        time.sleep(pause)


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowRun:
    """One run of one DAG."""

    api: AirflowApi = field(repr=False)
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}"

    @property
    def source(self) -> str:
        return self.dag_id.partition(".")[0]

    @property
    def tier(self) -> str:
        return TIERS[self.dag_id.partition(".")[2]]

    @property
    def backup_id(self) -> str:
        return self.backup_id_of(kind="full")

    def backup_id_of(self, *, kind: str, tier: str | None = None) -> str:
        """Return the id of an archive of this run."""
        run_after = datetime.fromisoformat(self.api.run(self.dag_id, self.run_id)["run_after"])
        return make_backup_id(
            source=self.source,
            tier=tier or self.tier,
            kind=kind,
            run_after=run_after,
            dag_id=self.dag_id,
            run_id=self.run_id,
        )

    def state(self) -> str:
        return str(self.api.run(self.dag_id, self.run_id)["state"])

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the run's task instances by id."""
        return {str(task["task_id"]): task for task in self.api.tasks(self.dag_id, self.run_id)}

    def states(self) -> dict[str, str]:
        return {name: str(task["state"]) for name, task in self.tasks().items()}

    def task(self, task_id: str) -> dict[str, Any]:
        return self.api.get(f"{self.path}/taskInstances/{task_id}")

    def is_at(self, task_id: str, *, try_number: int = 1) -> bool:
        """Tell whether a try of a task is running now."""
        task = self.task(task_id)
        return (task["state"], task["try_number"]) == ("running", try_number)

    def wait_for(self, task_id: str, *states: str, seconds: float = TASK_SECONDS) -> dict[str, Any]:
        """Wait until a task is in one of the states; return it."""

        def reached() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["state"] in states else None

        try:
            return until(reached, seconds=seconds, what=f"{task_id} of {self.dag_id} in {' or '.join(states)}")
        except TimeoutError as error:
            error.add_note(self.story())
            raise

    def wait(self, seconds: float = RUN_SECONDS) -> str:
        """Wait until the run has ended; return its state."""
        try:
            return until(
                lambda: state if (state := self.state()) in ENDED else None,
                seconds=seconds,
                what=f"an end of {self.run_id} of {self.dag_id}",
            )
        except TimeoutError as error:
            error.add_note(self.story())
            raise

    def clear(self, *task_ids: str) -> None:
        """Clear tasks with what is downstream of them, as a person does in the UI."""
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "task_ids": list(task_ids),
            "include_downstream": True,
            "only_failed": False,
        }
        patiently(lambda: self.api.post(f"/dags/{self.dag_id}/clearTaskInstances", body))

    def mark_failed(self, task_id: str) -> None:
        """Mark a task failed, as a person does in the UI."""
        patiently(lambda: self.api.patch(f"{self.path}/taskInstances/{task_id}", {"new_state": "failed"}))

    def log(self, task_id: str, try_number: int = 1) -> str:
        """Return the log of one try as text."""
        return "\n".join(self.api.task_log(self.dag_id, self.run_id, task_id, try_number))

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.api.get(f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}")["value"]

    def xcoms(self) -> dict[tuple[str, str], Any]:
        """Return every value that the run's tasks left, by task and key."""
        found: dict[tuple[str, str], Any] = {}
        for task_id in self.tasks():
            for entry in self.api.get(f"{self.path}/taskInstances/{task_id}/xcomEntries")["xcom_entries"]:
                found[task_id, str(entry["key"])] = self.xcom(task_id, str(entry["key"]))
        return found

    def story(self) -> str:
        """Return what happened so far, for the message of a failed test."""
        lines = [f"{self.dag_id} {self.run_id}: {self.state()}"]
        for name, task in self.tasks().items():
            lines.append(f"  {name} {task['state']} try {task['try_number']}")
            if task["state"] in ("failed", "up_for_retry"):
                lines += [f"    {line}" for line in self.log(name, task["try_number"]).splitlines()[-15:]]
        return "\n".join(lines)


def start(api: AirflowApi, dag_id: str, conf: Mapping[str, object] | None = None) -> AirflowRun:
    """Trigger a run as soon as Airflow has read the DAG."""
    wait_for_dag(api, dag_id)
    run = AirflowRun(api=api, dag_id=dag_id, run_id=f"test__{time.time_ns()}")
    patiently(lambda: start_run(api, dag_id, run.run_id, conf))
    return run


def patiently(action: Callable[[], object]) -> None:
    """Do what writes to Airflow's database again while SQLite refuses it: it does so when two write at once."""

    def done() -> bool:
        try:
            action()
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                return True  # an earlier try did write
            if error.status != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            return False
        return True

    until(done, seconds=WRITE_SECONDS, what="written to Airflow's database")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProcesses:
    """The processes of one try: the worker, the task that it started, the task's children by command line."""

    worker: Identity
    task: Identity
    children: Mapping[Identity, str]

    @classmethod
    def of(cls, run: AirflowRun, task_id: str, *wanted: str, seconds: float = TASK_SECONDS) -> TaskProcesses:
        """Wait until a running task has children in whose command lines these words stand."""

        def found() -> TaskProcesses | None:
            task = identify(run.task(task_id)["pid"] or 0)
            if task is None:
                return None
            worker = identify(_parents().get(task.pid, 0))
            children = dict(_descendants(task.pid))
            ready = all(any(words in command for command in children.values()) for words in wanted)
            return cls(worker=worker, task=task, children=children) if worker and ready else None

        return until(found, seconds=seconds, what=f"{task_id} running {', '.join(wanted)}", pause=0.1)

    def kill_worker(self) -> None:
        os.kill(self.worker.pid, signal.SIGKILL)

    def kill_task(self) -> None:
        os.kill(self.task.pid, signal.SIGKILL)

    def alive(self) -> list[str]:
        """Return the command lines of what still runs of the task and its children."""
        everybody = {self.task: "the task itself", **self.children}
        return sorted(command for identity, command in everybody.items() if is_alive(identity))


def _parents() -> dict[int, int]:
    return {stat.pid: _parent(stat.pid) for stat in all_processes()}


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _descendants(pid: int) -> Iterator[tuple[Identity, str]]:
    parents = _parents()
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family - {pid}:
        identity = identify(member)
        if identity is not None:
            yield identity, _command(member)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def as_text(value: object) -> str:
    """Return a value as JSON, to look for secrets and measure it."""
    return json.dumps(value)
