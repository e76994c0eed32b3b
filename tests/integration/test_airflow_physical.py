"""WAL, the base backup that it asks for, and recoveries under the real scheduler."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from include.backup.postgres.postmaster import end_lasting
from include.local.ports import free_port_base
from include.local.run import missed_slot, wait_for_dag
from include.local.s3 import BUCKET
from tests.support.airflow_runs import AirflowRun, until
from tests.support.airflow_stack import AirflowStack

INCREMENTAL = "pulse_messages.incremental_backup"
WORK = ("preflight", "receive", "upload", "advance", "catch_up", "report")
BASE = "pulse_messages.base_backup"
RECOVER = "pulse_messages.restore_point_in_time"


def let_run(stack: AirflowStack, dag_id: str) -> None:
    """Unpause a DAG without the run of its last slot, which the scheduler would make up for."""
    wait_for_dag(stack.api, dag_id)
    slot = missed_slot(stack.api.get(f"/dags/{dag_id}"), datetime.now(UTC))
    if slot is not None:
        stack.api.trigger(dag_id, "made-up-for", {}, logical_date=slot)
        stack.api.patch(f"/dags/{dag_id}/dagRuns/made-up-for", {"state": "success"})
    stack.api.unpause(dag_id)


@pytest.fixture(scope="module")
def first(airflow_stack: AirflowStack) -> AirflowRun:
    """A source's first run, which finds no base backup."""
    let_run(airflow_stack, BASE)
    run = airflow_stack.run(INCREMENTAL)
    assert run.wait() == "success", run.story()
    return run


@pytest.fixture(scope="module")
def taken(airflow_stack: AirflowStack, first: AirflowRun) -> AirflowRun:
    """The base backup that it asked for."""

    def asked_for() -> str | None:
        runs = airflow_stack.api.get(f"/dags/{BASE}/dagRuns")["dag_runs"]
        return next((str(run["dag_run_id"]) for run in runs if run["conf"].get("full")), None)

    run_id = until(asked_for, seconds=60, what="the base backup that the first run wants")
    run = AirflowRun(api=airflow_stack.api, dag_id=BASE, run_id=run_id)
    assert run.wait(600) == "success", run.story()
    return run


def test_a_run_stores_wal_and_leaves_a_record(airflow_stack: AirflowStack, first: AirflowRun) -> None:
    states = first.states()
    assert {task: states[task] for task in WORK} == dict.fromkeys(WORK, "success"), first.story()
    assert states["watch_provider"] == "skipped"
    report = first.xcom("report")
    found = airflow_stack.s3.list_objects_v2(Bucket=BUCKET, Prefix="incremental/runs/pulse_messages/")["Contents"]
    records = [json.loads(airflow_stack.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()) for item in found]
    (record,) = [record for record in records if record["run_id"] == first.run_id]
    assert (record["end_lsn"], record["segments"]) == (report["end_lsn"], report["segments"])
    assert record["segments"] >= 1
    prefix = f"incremental/{record['system_identifier']}/wal/{record['timeline']:08X}/"
    segments = airflow_stack.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    assert len(segments) >= record["segments"]


def test_a_run_without_a_base_backup_has_one_taken_at_once_and_says_why(first: AirflowRun, taken: AirflowRun) -> None:
    wanted = first.xcom("preflight")["base_wanted"]
    assert first.states()["request_base"] == "success"
    assert wanted
    assert f"asked for: {wanted}" in taken.log("preflight")


def test_a_base_backup_goes_from_source_to_proof(airflow_stack: AirflowStack, taken: AirflowRun) -> None:
    assert set(taken.states().values()) == {"success"}
    report = taken.xcom("restore_test")
    assert (report["result"], report["backup_id"]) == ("passed", taken.xcom("take_base")["backup_id"])
    assert airflow_stack.staged("pulse_messages_incremental_base") == []
    assert airflow_stack.scratch_leftovers() == []


def test_a_form_recovers_the_source_beside_it(airflow_stack: AirflowStack, taken: AirflowRun) -> None:
    port = free_port_base()
    form = {"target_kind": "latest", "folder": "from-a-form", "port": port}
    run = airflow_stack.run(RECOVER, form)
    assert run.wait(300) == "success", run.story()
    assert run.states()["approve"] == "skipped"
    report = run.xcom("recover")
    try:
        assert f"enter it with: psql -h {report['socket']} -p {port} -U" in run.log("recover")
        assert report["backup_id"] == taken.xcom("take_base")["backup_id"]
        login = f"host={report['socket']} port={port} user={report['superuser']} dbname=pulse_messages"
        with psycopg.connect(login) as copy, psycopg.connect(airflow_stack.conninfo("pulse_messages")) as source:
            query = "SELECT count(*), max(id::text) FROM public.messages"
            assert copy.execute(query).fetchall() == source.execute(query).fetchall()
    finally:
        end_lasting(Path(report["folder"]) / "data", seconds=30)


def test_a_time_that_cannot_be_recovered_fails_before_anything_is_made(
    airflow_stack: AirflowStack, taken: AirflowRun
) -> None:
    form = {"target_kind": "time", "target_time": "2020-01-01T00:00:00Z", "folder": "never-made"}
    run = airflow_stack.run(RECOVER, form)
    assert run.wait(300) == "failed"
    assert run.states()["preview_recovery"] == "failed"
    assert "what can be recovered" in run.log("preview_recovery")
    texts = [str(entry["message"]) for entry in airflow_stack.stack.slack.messages()]
    (message,) = [text for text in texts if run.run_id in text]
    assert "TargetOutsideWindowError" in message
