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


@pytest.fixture(scope="module")
def monthly(airflow_stack: AirflowStack) -> AirflowRun:
    run = airflow_stack.run("pulse_messages.monthly_archive", {"yearly": "yes"})
    assert run.wait(seconds=600) == "success", run.story()
    return run


def test_a_monthly_run_leaves_proven_archives_in_their_classes_and_copies_for_years(
    monthly: AirflowRun, airflow_stack: AirflowStack
) -> None:
    classes = {"monthly": "GLACIER", "yearly": "DEEP_ARCHIVE"}
    for tier, storage_class in classes.items():
        for kind in ("full", "attachments"):
            backup_id = monthly.backup_id_of(kind=kind, tier=tier)
            assert airflow_stack.versions_of(f"{tier}/{backup_id}.tar") == [storage_class]
            (proof,) = airflow_stack.proofs_of(backup_id)
            assert (proof["result"], proof["level"]) == ("passed", "complete"), proof["differences"]
            assert (proof["inherited_from"] is None) == (tier == "monthly")
    assert airflow_stack.staged(monthly.source) == []
    assert airflow_stack.unfinished_uploads(monthly) == []


def test_files_and_database_of_a_monthly_run_agree(monthly: AirflowRun, airflow_stack: AirflowStack) -> None:
    report = monthly.xcom("archive_attachments")
    assert (report["missing"], report["extra"], report["changed"], report["troubled"]) == (0, 0, 0, 0)
    assert report["files"] >= 200
    assert report["based_on"] is None
    assert "all as storage.objects says" in monthly.log("archive_attachments")
    (message,) = airflow_stack.messages(monthly)
    assert "every row identical" in message
    assert f"{report['files']} files (0 unchanged since an earlier archive), all as storage.objects says" in message
    assert "also kept 7 years in yearly/" in message
    assert "GLACIER" in message


def test_a_cleared_class_change_finds_what_was_done(monthly: AirflowRun, airflow_stack: AirflowStack) -> None:
    monthly.clear("copy_yearly")
    assert monthly.wait(seconds=300) == "success", monthly.story()
    report = monthly.xcom("change_class")
    assert (report["archives"], report["changed"], report["left"]) == (2, 0, 0)


def test_without_a_shared_folder_one_task_dumps_and_stores_and_the_backup_is_proven(
    airflow_stack: AirflowStack,
) -> None:
    run = airflow_stack.daily("unshared")
    assert run.wait() == "success", run.story()
    assert {"dump", "compress", "upload"}.isdisjoint(run.states())
    assert airflow_stack.keys(run) == airflow_stack.expected_keys(run)
    (proof,) = airflow_stack.proofs(run)
    assert (proof["result"], proof["level"]) == ("passed", "complete"), proof["differences"]
    assert run.xcom("restore_test")["rows"] == run.xcom("dump_to_store")["rows"] > 5_000
    (message,) = airflow_stack.messages(run)
    assert "every row identical" in message
    assert airflow_stack.staged(run.source) == []
