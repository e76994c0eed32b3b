"""Trigger one run of a DAG and follow it to its end through the REST API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from include.local.airflow_api import AirflowApi, ApiError, ApiUnreachableError
from include.local.errors import StackError

POLL_SECONDS = 0.5
DAG_SECONDS = 180.0
# The api-server may be restarted while a run goes on; the run goes on without it.
SILENCE_SECONDS = 120.0
ENDED = ("success", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task of a run as the API shows it; ``seconds`` is None until it has ended."""

    task_id: str
    state: str
    seconds: float | None
    started_at: datetime | None
    try_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as the API shows it, its tasks in the order in which they run."""

    dag_id: str
    run_id: str
    state: str
    run_after: datetime
    tasks: tuple[TaskView, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def failed_task(self) -> TaskView | None:
        """Return the first task that failed, for good or until it is tried again."""
        failed = [task for task in self.tasks if task.state in ("failed", "up_for_retry")]
        return failed[0] if failed else None


def wait_for_dag(api: AirflowApi, dag_id: str) -> None:
    """Wait until Airflow has read the DAG; raises StackError with the import error when it cannot."""
    deadline = time.monotonic() + DAG_SECONDS
    while True:
        try:
            api.get(f"/dags/{dag_id}")
        except ApiError as error:
            if error.status != 404:
                raise
        else:
            return
        broken = api.get("/importErrors")["import_errors"]
        if broken:
            raise StackError(f"{broken[0]['filename']} cannot be read: {broken[0]['stack_trace'].strip()}")
        if time.monotonic() > deadline:
            raise StackError(
                f"Airflow does not know the DAG {dag_id} after {DAG_SECONDS:.0f} s; see the dag-processor's log"
            )
        time.sleep(POLL_SECONDS)


def start_run(api: AirflowApi, dag_id: str, run_id: str, conf: Mapping[str, object] | None = None) -> None:
    """Trigger a run and let the DAG run.

    Unpausing makes the scheduler create the run of the last missed slot, which would go first. So the run
    takes that slot: the scheduler then sees it as made.
    """
    slot = missed_slot(api.get(f"/dags/{dag_id}"), datetime.now(UTC))
    try:
        api.trigger(dag_id, run_id, conf or {}, logical_date=slot)
    except ApiError as error:
        if slot is None or error.status != HTTPStatus.CONFLICT:
            raise
        # A run before this one took the slot, and the scheduler has not gone on to the next yet.
        api.trigger(dag_id, run_id, conf or {})
    api.unpause(dag_id)


def missed_slot(dag: Mapping[str, Any], now: datetime) -> str | None:
    """Return the slot that the scheduler would make up for at once, if there is one.

    >>> dag = {"next_dagrun_logical_date": "2025-01-19T02:00:00Z", "next_dagrun_run_after": "2025-01-19T02:00:00Z"}
    >>> missed_slot(dag, datetime(2025, 1, 19, 12, tzinfo=UTC))
    '2025-01-19T02:00:00Z'
    >>> missed_slot(dag, datetime(2025, 1, 19, 1, tzinfo=UTC)) is None
    True
    """
    due = dag.get("next_dagrun_run_after")
    if due is None or datetime.fromisoformat(due) > now:
        return None
    slot = dag.get("next_dagrun_logical_date")
    return None if slot is None else str(slot)


def follow_run(
    api: AirflowApi, dag_id: str, run_id: str, *, seconds: float, on_view: Callable[[RunView], None]
) -> RunView:
    """Poll until the run has ended or a task waits to be tried again, showing each view.

    Raises StackError when it takes too long.
    """
    order = task_order(api, dag_id)
    deadline = time.monotonic() + seconds
    heard = time.monotonic()
    while True:
        try:
            view = read_run(api, dag_id, run_id, order)
        except ApiUnreachableError:
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise
        else:
            heard = time.monotonic()
            on_view(view)
            if view.ended or any(task.state == "up_for_retry" for task in view.tasks):
                return view
        if time.monotonic() > deadline:
            raise StackError(f"run {run_id} of {dag_id} has not ended after {seconds:.0f} s; it goes on, see the UI")
        time.sleep(POLL_SECONDS)


def read_run(api: AirflowApi, dag_id: str, run_id: str, order: Sequence[str]) -> RunView:
    """Return the run as it is now."""
    run = api.run(dag_id, run_id)
    tasks = {str(task["task_id"]): task for task in api.tasks(dag_id, run_id)}
    names = [name for name in order if name in tasks] + sorted(tasks.keys() - set(order))
    return RunView(
        dag_id=dag_id,
        run_id=run_id,
        state=str(run["state"]),
        run_after=datetime.fromisoformat(run["run_after"]),
        tasks=tuple(_task(tasks[name]) for name in names),
    )


def task_order(api: AirflowApi, dag_id: str) -> tuple[str, ...]:
    """Return the DAG's task ids, each after those that it waits for.

    >>> _sorted({"dump": ["upload"], "upload": [], "preflight": ["dump"]})
    ('preflight', 'dump', 'upload')
    """
    tasks = api.get(f"/dags/{dag_id}/tasks")["tasks"]
    return _sorted({str(task["task_id"]): [str(name) for name in task["downstream_task_ids"]] for task in tasks})


def _sorted(downstream: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    remaining = dict(downstream)
    ordered: list[str] = []
    while remaining:
        waiting = {name for targets in remaining.values() for name in targets}
        ready = sorted(remaining.keys() - waiting) or sorted(remaining)
        ordered += ready
        for name in ready:
            del remaining[name]
    return tuple(ordered)


def _task(task: Mapping[str, Any]) -> TaskView:
    started, duration = task.get("start_date"), task.get("duration")
    return TaskView(
        task_id=str(task["task_id"]),
        state=str(task.get("state") or "waiting"),
        seconds=None if duration is None else float(duration),
        started_at=datetime.fromisoformat(started) if started else None,
        try_number=int(task.get("try_number") or 0),
    )
