"""Airflow's own database forgets old runs only once the store remembers them; against a migrated database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.metadata import CleanMetadataOperator, KeepRunsOperator, clean
from include.backup.errors import CommandError, MetadataCleanupError
from include.backup.process import Command, Runner
from include.backup.records import from_json
from include.backup.run_history import RunHistory, cutoff
from tests.dags.bag import read_dag, read_dags
from tests.dags.conftest import ENVIRONMENT
from tests.support.aged_bucket import PLAIN, Bucket

SOURCE, DAILY, OTHER = "pulse_messages", "pulse_messages.daily_backup", "somebody_else.etl"
NOW = datetime(2026, 6, 7, 6, 30, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(days=100), NOW - timedelta(days=80)
URL = ENVIRONMENT["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]


class Rest:
    """Answers from lists as Airflow's API does, page by page."""

    def __init__(self, *runs: dict[str, Any]) -> None:
        self.runs = runs
        self.tasks = [
            {**run, "task_id": task, "map_index": -1, "try_number": 1, "state": "success"}
            for run in runs
            for task in ("dump", "upload")
        ]

    def read(self, path: str) -> dict[str, Any]:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        before, offset = datetime.fromisoformat(query["start_date_lt"]), int(query["offset"])
        name, items = ("task_instances", self.tasks) if "taskInstances" in parts.path else ("dag_runs", self.runs)
        found = [item for item in items if datetime.fromisoformat(item["start_date"]) < before]
        return {name: found[offset : offset + int(query["limit"])]}


def run_of(dag_id: str, started: datetime, run_id: str = "r") -> dict[str, Any]:
    return {
        "dag_id": dag_id,
        "dag_run_id": run_id,
        "run_type": "manual",
        "state": "failed",
        "run_after": started.isoformat(),
        "start_date": started.isoformat(),
        "end_date": None,
        "triggering_user_name": "ann",
    }


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: None) -> Bucket:
    made = Bucket(tmp_path)
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: made.store)
    for module in ("include.backup.steps.context", "include.backup.evidence.ledger"):
        monkeypatch.setattr(f"{module}.encryption_of", lambda *_: PLAIN)
    for module in ("fleet", "metadata"):
        monkeypatch.setattr(f"backup_operators.{module}.die_with_parent", lambda: None)
    api = {"conn_type": "http", "host": "https://airflow.example", "login": "u", "password": "p"}
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_AIRFLOW_API", json.dumps(api))
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_AIRFLOW_METADATA", json.dumps({"conn_type": "generic", "password": URL}))
    return made


def context(run_type: str) -> Any:
    run = SimpleNamespace(
        dag_id="metadata_cleanup", run_id="r", run_after=NOW, run_type=run_type, triggering_user_name="ann"
    )
    return {"dag_run": run, "ti": SimpleNamespace(try_number=1)}


def keep(monkeypatch: pytest.MonkeyPatch, rest: Rest, run_type: str = "scheduled") -> dict[str, Any]:
    monkeypatch.setattr("backup_operators.metadata.AirflowRest.from_spec", lambda spec: rest)
    found: dict[str, Any] = KeepRunsOperator(task_id="keep_runs", source=SOURCE, delete="False", retries=0).execute(
        context(run_type)
    )
    return found


def remove(kept: list[dict[str, Any]], run_type: str = "scheduled") -> dict[str, Any]:
    operator = CleanMetadataOperator(task_id="clean_metadata", kept=kept, delete="False", retries=0)
    return operator.execute(context(run_type))


def test_old_runs_of_the_source_and_of_the_fleet_are_kept_with_their_tasks_and_who_started_them(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [run_of(DAILY, OLD, f"r{number}") for number in range(120)]
    rest = Rest(*many, run_of(DAILY, YOUNG), run_of("backup_health", OLD), run_of(OTHER, OLD))
    report = keep(monkeypatch, rest)
    assert (report["runs"], report["dags"]) == (121, ["backup_health", DAILY])
    history = from_json(RunHistory, bucket.store.get(report["key"]), format_version=1, name="x")
    assert (len(history.runs), history.before) == (121, datetime(2026, 3, 9, tzinfo=UTC))
    first = history.runs[0]
    assert (first.triggered_by, [task.task_id for task in first.tasks]) == ("ann", ["dump", "upload"])
    assert keep(monkeypatch, rest) == report
    assert len([key for key in bucket.s3.visible() if "/records/" in key]) == 1


def test_a_run_by_hand_writes_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep(monkeypatch, Rest(run_of(DAILY, OLD)), "manual")["key"] is None
    assert list(bucket.s3.visible()) == []


def test_a_store_that_holds_something_else_stops_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    get = bucket.store.get

    def other(key: str) -> bytes:
        return get(key).replace(b'"ann"', b'"bob"') if "/runs/" in key else get(key)

    monkeypatch.setattr(bucket.store, "get", other)
    with pytest.raises(AirflowFailException, match="nothing may be removed"):
        keep(monkeypatch, Rest(run_of(DAILY, OLD)))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([], "not every source"),
        ([None], "not every source"),
        ([{"runs": 3, "key": None, "dags": [DAILY]}], "not in its store"),
    ],
)
def test_nothing_is_removed_that_is_not_in_the_store(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, kept: list[Any], message: str
) -> None:
    monkeypatch.setattr("backup_operators.metadata.clean", lambda *_, **__: pytest.fail("it was removed"))
    with pytest.raises(AirflowFailException, match=message):
        remove(kept)


def stored_runs() -> set[tuple[str, str]]:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.execute(select(DagRun.dag_id, DagRun.run_id).where(DagRun.run_id.startswith("aged-")))
        return {(dag_id, run_id) for dag_id, run_id in rows}


def store_run(dag_id: str, started: datetime, run_id: str) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        run = DagRun(dag_id=dag_id, run_id=run_id, run_type="manual", run_after=started, start_date=started)
        run.state = "success"
        session.add(run)


class Says:
    """In place of the runner of commands: a command that prints lines and fails."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def run(self, command: Command, *, on_line: Callable[[str], None]) -> None:
        for line in self.lines:
            on_line(line)
        raise CommandError("it ended with exit code 1")


@pytest.mark.parametrize("lines", [(), ("did not clean them: ['deadline', 'xcom'].",), ("RuntimeError: no database",)])
def test_what_could_not_be_cleaned_makes_the_task_red(lines: tuple[str, ...]) -> None:
    runner: Any = Says(*lines, "Checking table job")
    with pytest.raises(MetadataCleanupError, match="exit code 1"):
        clean(runner, dags=[DAILY], before=OLD, url=URL, delete=True)


def test_what_goes_with_its_runs_is_no_failure_whatever_the_command_printed_last() -> None:
    runner: Any = Says("RuntimeError: errors, and did not clean them: ['deadline'].", "Checking table job")
    clean(runner, dags=[DAILY], before=OLD, url=URL, delete=True)


def test_a_real_database_loses_the_old_runs_of_our_dags_and_nothing_else(
    bucket: Bucket, airflow_database: None
) -> None:
    for dag_id in (DAILY, OTHER):
        store_run(dag_id, OLD, "aged-old")
        store_run(dag_id, YOUNG, "aged-young")
    before = stored_runs()
    kept = [{"runs": 1, "key": "audit/x", "dags": [DAILY]}]
    assert remove(kept, "manual")["removed"] is False
    assert stored_runs() == before
    assert remove(kept)["removed"] is True
    assert before - stored_runs() == {(DAILY, "aged-old")}


def test_a_database_that_cannot_be_cleaned_fails_the_task(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    with pytest.raises(MetadataCleanupError, match="no database of this Airflow"):
        clean(Runner(), dags=[DAILY], before=cutoff(NOW, timedelta(days=90)), url=url, delete=True)


def test_the_dag_keeps_first_and_is_there_only_when_the_policy_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.backup.policy import SHIPPED_POLICY

    dag = read_dag("metadata_cleanup")
    assert dag.get_task("clean_metadata").upstream_task_ids == {"keep_runs"}
    assert dag.get_task("keep_runs").upstream_task_ids == {"check_lateness"}
    path = tmp_path / "policy.yaml"
    text = SHIPPED_POLICY.read_text()
    start = text.index("metadata:")
    path.write_text(text[:start] + text[text.index("defaults:\n", start) :])
    monkeypatch.setenv("BACKUP_POLICY", str(path))
    assert "metadata_cleanup" not in read_dags().dags
