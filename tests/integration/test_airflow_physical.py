"""Base backups and recoveries under the real scheduler."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from include.backup.postgres.postmaster import end_lasting
from include.local.ports import free_port_base
from tests.support.airflow_runs import AirflowRun
from tests.support.airflow_stack import AirflowStack

BASE = "pulse_messages.base_backup"
RECOVER = "pulse_messages.restore_point_in_time"


@pytest.fixture(scope="module")
def taken(airflow_stack: AirflowStack) -> AirflowRun:
    """A full base backup that was asked for, as incremental_backup asks."""
    run = airflow_stack.run(BASE, {"full": True, "reason": "a test"})
    assert run.wait(600) == "success", run.story()
    return run


def test_a_base_backup_goes_from_source_to_proof(airflow_stack: AirflowStack, taken: AirflowRun) -> None:
    assert set(taken.states().values()) == {"success"}
    assert "asked for: a test" in taken.log("preflight")
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
