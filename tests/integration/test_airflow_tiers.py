"""The tiers beside the daily one under the real scheduler."""

from __future__ import annotations

import pytest

from tests.support.airflow_runs import AirflowRun
from tests.support.airflow_stack import AirflowStack


@pytest.fixture(scope="module")
def weekly(airflow_stack: AirflowStack) -> AirflowRun:
    run = airflow_stack.run("tiers.weekly_backup")
    assert run.wait() == "success", run.story()
    return run


def test_a_weekly_run_leaves_two_proven_archives_and_nothing_else(
    weekly: AirflowRun, airflow_stack: AirflowStack
) -> None:
    ids = [weekly.backup_id_of(kind=kind) for kind in ("full", "schema")]
    expected = sorted(f"weekly/{backup_id}{end}" for backup_id in ids for end in (".manifest.json", ".tar"))
    assert airflow_stack.keys(weekly) == expected
    for backup_id in ids:
        (proof,) = airflow_stack.proofs_of(backup_id)
        assert (proof["result"], proof["level"]) == ("passed", "complete"), proof["differences"]
    assert airflow_stack.staged(weekly.source) == []
    assert airflow_stack.unfinished_uploads(weekly) == []


def test_a_partial_backup_says_so_wherever_a_person_looks(weekly: AirflowRun, airflow_stack: AirflowStack) -> None:
    words = "partial: without table public.left_out"
    assert words in weekly.log("preflight")
    assert words in weekly.log("verify")
    (message,) = airflow_stack.messages(weekly)
    assert words in message
    assert "schema archive proven" in message
    manifest = airflow_stack.manifest(weekly)
    assert manifest["excluded_tables"] == ["public.left_out"]
    tables = [member["table_data"]["table"] for member in manifest["members"] if member["table_data"]]
    assert "left_out" not in tables
    assert "orders" in tables
