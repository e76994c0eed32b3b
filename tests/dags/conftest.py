"""One throw-away Airflow for the tests of the DAG files; set up before Airflow is imported."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from include.backup.policy import SHIPPED_POLICY
from tests.dags.fakes import FakeSteps
from tests.dags.runs import Ended, Runner
from tests.faults.slack_capture import SlackCapture
from tests.support.supabase_api import REF, TOKEN, RunningApi, running_api

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.mkdtemp(prefix="airflow-dags-test-"))
DATABASE_PASSWORD = "d4tenbank-Passwort/1"
STORE_SECRET = "sp3icher+Geheimnis=="
STORAGE_SECRET = "anh4enge/Geheimnis=="

SLACK_TOKEN = "T0TEST/B0TEST/abcdefSECRETghi"
ENVIRONMENT = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__API__BASE_URL": "http://airflow.example:8080",
    "BACKUP_POLICY": str(SHIPPED_POLICY),
    "BACKUP_STAGING_DIR": str(HOME / "staging"),
    "BACKUP_SCRATCH_DIR": str(HOME / "scratch"),
}


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Set Airflow up before anything imports it; after the other conftest has removed the developer's settings."""
    os.environ.update(ENVIRONMENT)


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def slack() -> Iterator[SlackCapture]:
    with SlackCapture() as server:
        yield server


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, slack: SlackCapture) -> None:
    """Give Airflow the policy's connections."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_MESSAGES_DB",
        f"postgres://pulse_backup:{DATABASE_PASSWORD.replace('/', '%2F')}@db.example:5432/pulse_messages",
    )
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_BACKUPS_S3",
        f'{{"conn_type": "aws", "login": "AKIAEXAMPLE", "password": "{STORE_SECRET}", '
        '"extra": {"region_name": "us-east-1", "endpoint_url": "https://s3.example"}}',
    )
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_MESSAGES_STORAGE",
        f'{{"conn_type": "aws", "login": "AKIAFILES", "password": "{STORAGE_SECRET}", '
        '"extra": {"region_name": "us-east-1", "endpoint_url": "https://files.example"}}',
    )
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_SLACK", f'{{"conn_type": "slackwebhook", "password": "{slack.webhook_host}/{SLACK_TOKEN}"}}'
    )


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Make the metadata database."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FakeSteps:
    fakes = FakeSteps()
    fakes.install(monkeypatch)
    monkeypatch.setattr("backup_operators.step.die_with_parent", lambda: None)
    monkeypatch.setattr("backup_operators.scratch.die_with_parent", lambda: None)
    # dag.test() sleeps for a second whenever no task can start.
    monkeypatch.setattr(time, "sleep", partial(_sleep, time.sleep))
    return fakes


def _sleep(sleep: Callable[[float], None], seconds: float) -> None:
    sleep(min(seconds, 0.01))


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped policy, without retries."""
    path = tmp_path / "policy.yaml"
    path.write_text(re.sub(r"retries: \d+", "retries: 0", SHIPPED_POLICY.read_text()))
    monkeypatch.setenv("BACKUP_POLICY", str(path))
    return path


@pytest.fixture
def run(policy: Path, steps: FakeSteps, monkeypatch: pytest.MonkeyPatch) -> Runner:
    def run_dag(dag_id: str, conf: dict[str, Any] | None = None) -> Ended:
        from airflow.dag_processing import dagbag

        from tests.dags.bag import file_of, read_dags

        file = file_of(dag_id)
        dag = read_dags(file).dags[dag_id]
        # dag.test() writes every DAG of the folder anew, which takes longer than the run.
        bag = partial(dagbag.DagBag, str(file))
        monkeypatch.setattr(
            dagbag,
            "BundleDagBag",
            lambda dag_folder, bundle_path, bundle_name: bag(bundle_path=bundle_path, bundle_name=bundle_name),
        )
        # dag.test() calls it with a serialized DAG, which no real run does; test_ended_runs.py covers it.
        dag.on_failure_callback, dag.has_on_failure_callback = None, False
        for task in dag.tasks:
            task.retry_delay = timedelta()
        # Of its deadlines dag.test() has none stored, and fails at the end of a good run that has some.
        dag.deadline = None
        found = dag.test(run_conf=conf, logical_date=None)
        tasks = {ti.task_id: str(ti.state) for ti in found.get_task_instances()}
        return Ended(state=str(found.state), tasks=tasks, run=found)

    return run_dag


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch, policy: Path, connections: None) -> Iterator[RunningApi]:
    """The source as a hosted project, whose Management API answers."""
    policy.write_text(policy.read_text().replace("pulsemessagesdemoref", REF))
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_MESSAGES_DB", "postgres://postgres:x@db.abcdefghij.supabase.co:5432/postgres"
    )
    with running_api(pitr_enabled=True) as api:
        connection = {"conn_type": "http", "host": api.url, "password": TOKEN}
        monkeypatch.setenv("AIRFLOW_CONN_PULSE_SUPABASE", json.dumps(connection))
        yield api
