"""A real Airflow whose DAGs stand in for backups: same ids and parameters; the release says what happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from include.local.airflow import DEPLOYER, Airflow, now
from include.local.airflow_api import AirflowApi
from include.local.credentials import load_credentials
from include.local.layout import layout_of
from include.local.ports import free_port_base
from include.local.processes import marked_processes, wait_until
from include.local.service import Service

SECONDS = 60.0
SOURCES = ("pulse_messages", "paused", "strict", "breaks_later")
BROKEN = """
from airflow.sdk import dag

raise RuntimeError("this source's policy is ::error::not readable")
"""
DAG = """
from __future__ import annotations

import logging
import time
from pathlib import Path

from airflow.sdk import Param, dag, task

GATE = Path("{gate}")
log = logging.getLogger(__name__)


@task
def dump(params=None):
    log.info("dumping for %s\\n::error::would command CI\\n##[error]so would this", params["release"])
    while params["release"].startswith("waits") and not (GATE / params["release"]).exists():
        time.sleep(0.1)


@task
def verify(params=None):
    if params["release"].startswith("fails"):
        raise RuntimeError("the archive is short by one byte")


@dag(
    dag_id="{source}.pre_deployment_backup",
    schedule=None,
    is_paused_upon_creation={paused},
    params={{
        "release": Param(type="string", pattern=r"{pattern}"),
        "git_sha": Param(type="string", pattern=r"^[0-9a-f]{{7,40}}$"),
        "wait_for_proof": Param(True, type="boolean"),
    }},
)
def pre_deployment_backup():
    dump() >> verify()


pre_deployment_backup()
"""


def dag_text(source: str, gate: Path) -> str:
    """Return the DAG file of a source: ``paused`` is paused, ``strict`` takes releases with a v only."""
    pattern = "^v[0-9]" if source == "strict" else "^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
    return DAG.format(source=source, gate=gate, pattern=pattern, paused=source == "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """The running Airflow, and a user who may trigger and no more."""

    url: str
    user: str
    password: str = field(repr=False)
    admin: AirflowApi
    dags: Path
    gate: Path

    def open(self, release: str) -> None:
        """Let the dump of a release that begins with "waits" end."""
        (self.gate / release).touch()

    def runs(self, source: str, release: str) -> dict[str, str]:
        """Return id and state of every run for a release."""
        answer = self.admin.get(f"/dags/{source}.pre_deployment_backup/dagRuns?limit=100")
        return {run["dag_run_id"]: run["state"] for run in answer["dag_runs"] if run["conf"]["release"] == release}

    def run(self, source: str, run_id: str) -> dict[str, Any]:
        return self.admin.get(f"/dags/{source}.pre_deployment_backup/dagRuns/{quote(run_id, safe='')}")

    def broken(self, source: str) -> bool:
        return bool(self.admin.get(f"/dags/{source}.pre_deployment_backup")["has_import_errors"])

    def pause(self, source: str, *, paused: bool) -> None:
        self.admin.patch(f"/dags/{source}.pre_deployment_backup", {"is_paused": paused})


class SmallAirflow(Airflow):
    """Airflow without a triggerer, which nothing here waits for."""

    def services(self) -> list[Service]:
        return [service for service in super().services() if service.program.name != "airflow-triggerer"]

    def states(self, since: datetime | None = None) -> dict[str, str]:
        return {name: state for name, state in super().states(since).items() if name != "triggerer"}


@contextmanager
def stand_in_airflow(folder: Path) -> Iterator[StandIn]:
    """Run Airflow on the stand-in DAGs and one file that cannot be imported; nothing is left of it afterwards."""
    layout = layout_of(free_port_base(), folder / "state")
    layout.make_folders()
    dags, gate = folder / "dags", folder / "gate"
    dags.mkdir()
    gate.mkdir()
    for source in SOURCES:
        (dags / f"{source}.py").write_text(dag_text(source, gate))
    (dags / "breaks_at_once.py").write_text(BROKEN)
    airflow = SmallAirflow(
        layout,
        extra={
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        },
    )
    airflow.set_up(lambda: {"connections": {}, "pools": {}, "variables": {}, "overwrite": False})
    try:
        since = now()
        airflow.start()
        airflow.wait(since)
        stand_in = StandIn(
            url=airflow.url,
            user=DEPLOYER,
            password=load_credentials(layout.credentials).airflow_deploy_password,
            admin=airflow.api(),
            dags=dags,
            gate=gate,
        )
        wait_for_dags(stand_in.admin)
        # Read once as it was: the DAG stays in Airflow, marked as broken when the file is read again.
        (dags / "breaks_later.py").write_text(BROKEN)
        yield stand_in
    finally:
        airflow.stop()
    left = marked_processes(layout.state)
    if left:
        raise AssertionError(f"Airflow left processes behind: {left}")


def wait_for_dags(admin: AirflowApi) -> None:
    """Wait until every file was read."""

    def read() -> bool:
        dags, errors = admin.get("/dags")["total_entries"], admin.get("/importErrors")["total_entries"]
        return bool(dags == len(SOURCES) and errors == 1)

    if not wait_until(read, SECONDS):
        raise TimeoutError(f"Airflow did not read the DAG files in {SECONDS} s: {admin.get('/importErrors')}")
