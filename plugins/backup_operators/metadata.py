"""Airflow's own database: its old runs go to the store as evidence, then they are removed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.airflow_rest import AirflowRest
from backup_operators.fleet import FleetOperator
from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.step import run_identity, step_log
from include.backup.errors import CommandError, ConnectionDefinitionError, MetadataCleanupError
from include.backup.lateness import SCHEDULED
from include.backup.policy import load_policy, policy_path
from include.backup.policy.metadata import MetadataPolicy
from include.backup.process import Command, Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import Policy, SourcePolicy
    from include.backup.run_history import RunRecord, TaskRecord

PAGE = 100
# Runs and all that hangs on them, by cascades too. Who did what in the UI (``log``) and asset events stay.
TABLES = ("dag_run", "task_instance", "task_instance_history", "xcom", "job")
# Airflow 3.3.2 cannot clean it for some DAGs alone, for it has no such column. Its rows go with their runs.
CASCADED = ("deadline",)
_FAILED_TABLES = re.compile(r"did not clean them: \[(?P<tables>[^\]]*)\]")
_NOT_FOUND = re.compile(r"Table \S+ not found")
_URL = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_URLS = (_URL, "AIRFLOW__CORE__SQL_ALCHEMY_CONN")


class KeepRunsOperator(FleetOperator):
    """Write the old runs of one source, and of the DAGs for all sources, to its store.

    :param source: source of the policy (templated)
    :param delete: ``True`` or ``False``: whether a run that a person starts removes anything (templated)

    Returns how many runs there are, and where they were written; a run that only shows writes nothing.
    """

    template_fields: Sequence[str] = ("source", "delete")
    next_step = "Nothing is removed from Airflow's database until its runs are in the store. Clear this task."

    def __init__(self, *, delete: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delete = delete

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.evidence import open_ledger
        from include.backup.run_history import RunHistory, as_facts, cutoff, keep_history
        from include.backup.steps.context import encryption_of, open_store

        run = run_identity(context)
        before = cutoff(run.run_after, _metadata(load_policy(policy_path(os.environ))).keep)
        if source.health is None or source.health.airflow_connection is None:
            raise AirflowFailException(
                f"the health block of {source.name} names no airflow_connection to read runs with"
            )
        rest = AirflowRest.from_spec(BackupHook().spec(source.health.airflow_connection))
        history = RunHistory(source=source.name, before=before, runs=tuple(old_runs(rest, source.name, before)))
        step_log().info("%s: %s runs began before %s: %s", source.name, len(history.runs), before, as_facts(history))
        key = None
        if removes(run.run_type, self.delete):
            store = open_store(source, BackupHook().store(source.store.connection))
            key = keep_history(
                store, open_ledger(source, store), history, encryption=encryption_of(source, store), actor=run.actor
            )
        return {"runs": len(history.runs), "key": key, "dags": sorted({one.dag_id for one in history.runs})}


class CleanMetadataOperator(BaseOperator):
    """Let ``airflow db clean`` remove the runs that were kept, of the DAGs of this project and of no others.

    :param kept: what ``KeepRunsOperator`` returned for each source (templated)
    :param delete: ``True`` or ``False``: whether a run that a person starts removes anything (templated)

    Returns what was, or would be, removed.
    """

    template_fields: Sequence[str] = ("kept", "delete")
    ui_color = "#f1f3f4"
    _runner: Runner | None = None

    def __init__(self, *, kept: Any, delete: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept = kept
        self.delete = delete

    def execute(self, context: Context) -> dict[str, Any]:
        from include.backup.run_history import cutoff

        die_with_parent()
        policy = load_policy(policy_path(os.environ))
        run = run_identity(context)
        before = cutoff(run.run_after, _metadata(policy).keep)
        kept = [report for report in self.kept if isinstance(report, dict)]
        if len(kept) != len(policy.sources):
            raise AirflowFailException("not every source has kept its runs, so nothing is removed")
        delete = removes(run.run_type, self.delete)
        if delete and any(report["runs"] and not report["key"] for report in kept):
            raise AirflowFailException("a source has runs that are not in its store, so nothing is removed")
        dags = sorted({dag_id for report in kept for dag_id in report["dags"]})
        if not dags:
            step_log().info("no run is older than %s", before)
            return {"before": before.isoformat(), "dags": [], "removed": False}
        self._runner = Runner(log=step_log())
        clean(self._runner, dags=dags, before=before, url=_url(_metadata(policy)), delete=delete)
        return {"before": before.isoformat(), "dags": dags, "removed": delete}

    def on_kill(self) -> None:
        """End the command."""
        if self._runner is not None:
            self._runner.kill()


def removes(run_type: str, delete: str) -> bool:
    """Say whether a run removes anything: a scheduled one does, one that a person starts only when it is asked to."""
    if delete not in ("True", "False"):
        raise AirflowFailException(f"delete is {delete!r}; allowed: True, False")
    return run_type == SCHEDULED or delete == "True"


def clean(runner: Runner, *, dags: Sequence[str], before: datetime, url: str, delete: bool) -> None:
    """Run Airflow's command; raises MetadataCleanupError when it could not clean a table."""
    argv = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat()]
    argv += ["--dag-ids", ",".join(dags), "--tables", ",".join(TABLES)]
    argv += ["--skip-archive", "--error-on-cleanup-failure", "--yes"] if delete else ["--dry-run"]
    # A task has Airflow's database taken from its own environment.
    passed = {name: value for name, value in os.environ.items() if not name.startswith(_URLS)}
    command = Command(argv=tuple(argv), environment={**passed, _URL: url})
    absent: list[str] = []
    failed: set[str] = set()

    def read(line: str) -> None:
        step_log().info("%s", line)
        absent.extend(_NOT_FOUND.findall(line))
        # Not in the error's last lines: what the command prints may be flushed after what it says of its end.
        if found := _FAILED_TABLES.search(line):
            failed.update(name.strip(" '") for name in found["tables"].split(","))

    try:
        runner.run(command, on_line=read)
    except CommandError as error:
        if not failed or not failed <= set(CASCADED):
            raise MetadataCleanupError(f"airflow db clean failed: {error}") from error
        step_log().info("the rows of %s went with their runs; that error is Airflow's own, and expected", *CASCADED)
    if absent:
        raise MetadataCleanupError(f"that is no database of this Airflow ({absent[0]}); correct the connection")


def old_runs(rest: AirflowRest, source: str, before: datetime) -> Iterator[RunRecord]:
    """Yield the runs of a source's and of the fleet's DAGs that began before a time, each with its tasks."""
    from backup_operators.airflow_facts import belongs

    started = {"start_date_lt": before.isoformat()}
    tasks: dict[tuple[str, str], list[TaskRecord]] = {}
    for item in _all(rest, "/dags/~/dagRuns/~/taskInstances", "task_instances", started):
        if belongs(str(item["dag_id"]), source):
            tasks.setdefault((item["dag_id"], item["dag_run_id"]), []).append(_task(item))
    for item in _all(rest, "/dags/~/dagRuns", "dag_runs", started):
        if belongs(str(item["dag_id"]), source):
            yield _run(item, tasks.get((item["dag_id"], item["dag_run_id"]), []))


def _all(rest: AirflowRest, path: str, name: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        asked = urlencode({**query, "limit": PAGE, "offset": offset, "order_by": "id"})
        page = rest.read(f"{path}?{asked}").get(name, [])
        yield from page
        offset += len(page)
        if len(page) < PAGE:
            return


def _run(item: dict[str, Any], tasks: list[TaskRecord]) -> RunRecord:
    from include.backup.run_history import RunRecord

    return RunRecord(
        dag_id=item["dag_id"],
        run_id=item["dag_run_id"],
        run_type=item["run_type"],
        state=item["state"],
        run_after=datetime.fromisoformat(item["run_after"]),
        started_at=_time(item.get("start_date")),
        ended_at=_time(item.get("end_date")),
        triggered_by=item.get("triggering_user_name"),
        tasks=tuple(sorted(tasks, key=lambda task: (task.task_id, task.map_index))),
    )


def _task(item: dict[str, Any]) -> TaskRecord:
    from include.backup.run_history import TaskRecord

    return TaskRecord(
        task_id=item["task_id"],
        map_index=item["map_index"],
        state=item["state"],
        tries=item["try_number"],
        started_at=_time(item.get("start_date")),
        ended_at=_time(item.get("end_date")),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _metadata(policy: Policy) -> MetadataPolicy:
    if policy.metadata is None:
        raise AirflowFailException("the policy has no metadata block any more")
    return policy.metadata


def _url(metadata: MetadataPolicy) -> str:
    spec = BackupHook().spec(metadata.connection)
    if not spec.password:
        raise ConnectionDefinitionError(
            f"connection {metadata.connection} needs the SQLAlchemy URL of Airflow's database as its password"
        )
    return str(spec.password)
