"""What Airflow says of itself, for the health rules: DAGs, import errors, components, pools, tasks that wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from backup_operators.airflow_rest import AirflowRest
from include.backup.errors import AirflowApiError, ConnectionDefinitionError
from include.backup.health.facts import AirflowFacts, DagFact, TaskFact

PAGE = 100
# More of any kind is a finding of its own long before.
MOST = 5_000
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
UNFINISHED = ("scheduled", "queued", "running")
_SINCE = {"scheduled": "scheduled_when", "queued": "queued_when", "running": "start_date"}


def airflow_facts(rest: AirflowRest, source: str) -> AirflowFacts:
    """Return the facts of a source's DAGs and of the fleet's; that the API does not answer is one of them."""
    try:
        return AirflowFacts(
            dags=tuple(_dags(rest, source)),
            tasks=tuple(_tasks(rest, source)),
            import_errors={
                str(item["filename"]): str(item["stack_trace"]) for item in _all(rest, "/importErrors", "import_errors")
            },
            components=dict(_components(rest.read("/monitor/health"))),
            pools=frozenset(str(item["name"]) for item in _all(rest, "/pools", "pools")),
        )
    except (AirflowApiError, ConnectionDefinitionError) as error:
        return AirflowFacts(unreachable=str(error))


def belongs(dag_id: str, source: str) -> bool:
    """Tell whether a DAG is the source's own, or one of the fleet's.

    >>> belongs("pulse_messages.daily_backup", "pulse_messages"), belongs("backup_health", "pulse_messages")
    (True, True)
    >>> belongs("another.daily_backup", "pulse_messages")
    False
    """
    own, dot, _ = dag_id.partition(".")
    return not dot or own == source


def _dags(rest: AirflowRest, source: str) -> Iterator[DagFact]:
    for item in _all(rest, "/dags?exclude_stale=false", "dags"):
        dag_id = str(item["dag_id"])
        # One that is only triggered may be paused; who triggers it is told.
        if belongs(dag_id, source) and item.get("timetable_summary"):
            yield DagFact(dag_id=dag_id, paused=bool(item["is_paused"]), stale=bool(item.get("is_stale")))


def _tasks(rest: AirflowRest, source: str) -> Iterator[TaskFact]:
    states = "&".join(f"state={state}" for state in UNFINISHED)
    for item in _all(rest, f"/dags/~/dagRuns/~/taskInstances?{states}", "task_instances"):
        state, dag_id = str(item["state"]), str(item["dag_id"])
        since = item.get(_SINCE.get(state, "start_date"))
        if since and belongs(dag_id, source):
            yield TaskFact(
                dag_id=dag_id,
                run_id=str(item["dag_run_id"]),
                task_id=str(item["task_id"]),
                state=state,
                since=datetime.fromisoformat(since),
            )


def _components(health: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in COMPONENTS:
        component = health.get(name) or {}
        yield name, str(component.get("status"))


def _all(rest: AirflowRest, path: str, name: str) -> Iterator[dict[str, Any]]:
    joint = "&" if "?" in path else "?"
    for offset in range(0, MOST, PAGE):
        page = rest.read(f"{path}{joint}limit={PAGE}&offset={offset}").get(name, [])
        yield from page
        if len(page) < PAGE:
            return
