"""WAL under the real scheduler: stored by a run, and a base backup asked for by the one that finds none."""

from __future__ import annotations

import json

import pytest

from include.local.s3 import BUCKET
from tests.support.airflow_runs import AirflowRun, as_text
from tests.support.airflow_stack import AirflowStack

DAG_ID = "pulse_messages.incremental_backup"
WORK = ("preflight", "receive", "upload", "advance", "catch_up", "report")


@pytest.fixture(scope="module")
def first(airflow_stack: AirflowStack) -> AirflowRun:
    run = airflow_stack.run(DAG_ID)
    run.wait()
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


def test_without_a_base_backup_the_run_asks_for_one_or_says_that_nobody_takes_it(first: AirflowRun) -> None:
    """The stack's DAG base_backup is paused unless another test has unpaused it."""
    wanted = first.xcom("preflight")["base_wanted"]
    state = first.states()["request_base"]
    assert state in ({"success", "failed"} if wanted else {"skipped"})
    assert first.state() == ("failed" if state == "failed" else "success")
    if state == "failed":
        assert "base_backup" in as_text(first.log("request_base"))
