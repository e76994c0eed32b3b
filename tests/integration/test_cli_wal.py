"""The wal command: a run without Airflow, the report of what can be recovered, and the slots of a source let go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.postgres.postmaster import end_lasting
from include.local.ports import free_port_base
from include.local.stack import Stack
from tests.integration.servers import enterable_folder
from tests.support.command_line import SOURCE, CommandLine, Server, connection_json
from tests.support.wal_kills import policy_with

pytest_plugins = ["tests.support.cli_fixtures"]

HOLD = f"{SOURCE}_hold"


@pytest.fixture(scope="module")
def first_run(cli: CommandLine, cli_server: Server) -> Iterator[dict[str, Any]]:
    """One run on the embedded stack, whose source and store speak TLS."""
    answer = cli.run("wal", SOURCE, "--run", "--json")
    assert answer.code == 0, answer.err
    document: dict[str, Any] = answer.document["run"]
    yield document
    with cli_server.session("postgres") as session:
        session.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (HOLD,)
        )


def test_a_run_stores_wal_and_says_that_a_base_backup_is_wanted(first_run: dict[str, Any]) -> None:
    assert first_run["segments"] >= 1
    assert first_run["source"] == SOURCE
    assert first_run["hold_slot"] == HOLD
    assert first_run["broken"] == []


def test_the_report_tells_window_gaps_lag_and_what_would_be_lost(cli: CommandLine, first_run: dict[str, Any]) -> None:
    report = cli.here("wal", SOURCE, "--json").document
    assert report["system_identifier"] == first_run["system_identifier"]
    assert report["segments"] >= first_run["segments"]
    assert report["gaps"] == []
    assert report["slot"]["name"] == HOLD
    assert report["slot"]["wal_status"] == "reserved"
    assert 0 <= report["slot"]["lag_bytes"] < report["slot"]["max_slot_wal_keep_bytes"]
    if report["recoverable"] is None:
        assert report["rpo_seconds"] is None
        assert any("cannot be recovered" in text for text in report["problems"])
    else:
        assert report["rpo_seconds"] >= 0


def test_the_report_for_people_begins_with_what_can_be_recovered(cli: CommandLine, first_run: dict[str, Any]) -> None:
    answer = cli.here("wal", SOURCE)
    assert answer.code == 0
    assert answer.out.startswith(f"{SOURCE} can")
    assert f"slot {HOLD}: reserved, keeps " in answer.out


def test_the_report_is_made_from_the_store_when_the_source_is_gone(cli: CommandLine, first_run: dict[str, Any]) -> None:
    gone = json.dumps(
        {"conn_type": "postgres", "host": "localhost", "port": 1, "schema": "x", "login": "y", "password": "z"}
    )
    report = cli.with_environment(AIRFLOW_CONN_PULSE_MESSAGES_DB=gone).here("wal", SOURCE, "--json").document
    assert report["slot"] is None
    assert report["segments"] >= first_run["segments"]
    assert any("the source does not answer" in text for text in report["problems"])


@pytest.fixture
def hosted(cli: CommandLine, stack: Stack) -> Iterator[CommandLine]:
    """The source as a hosted project, which nobody connects to."""
    address = json.dumps(
        {"conn_type": "postgres", "host": "db.x.supabase.co", "schema": "x", "login": "y", "password": "z"}
    )
    yield cli.with_environment(AIRFLOW_CONN_PULSE_MESSAGES_DB=address)
    stack.supabase.change(pitr_enabled=False)


def test_the_report_of_a_hosted_project_is_what_its_provider_says(hosted: CommandLine, stack: Stack) -> None:
    without = hosted.here("wal", SOURCE)
    assert (without.code, "its own PITR is not enabled" in without.error) == (1, True), without.err
    stack.supabase.change(pitr_enabled=True)
    assert "Supabase says that it can recover to any time from" in hosted.here("wal", SOURCE).out
    report = hosted.here("wal", SOURCE, "--json").document
    assert report["provider"]["earliest"] < report["provider"]["latest"]


def test_the_slots_of_a_source_that_is_protected_are_not_dropped(cli: CommandLine, first_run: dict[str, Any]) -> None:
    answer = cli.here("wal", SOURCE, "--drop-slots", "--yes", "--connection", "pulse_messages_db")
    assert answer.code == 5
    assert "remove the block first" in answer.error


@pytest.fixture(scope="module")
def full_base(cli: CommandLine, first_run: dict[str, Any]) -> str:
    """A base backup that nobody has proven, taken by the command line; its id."""
    answer = cli.run("base", SOURCE, "--full", "--no-proof", "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert (document["taken"], document["proven"]) == (True, False)
    assert set(document["steps"]) == {"take", "upload", "verify", "store_wal", "close_staging"}
    return str(document["backup_id"])


def test_base_backups_are_listed_with_what_they_build_on_and_a_recovery_is_previewed(
    cli: CommandLine, full_base: str, place: Path
) -> None:
    recover = ("recover", SOURCE, "--folder", str(place / "copy"))
    early = cli.here(*recover, "--unproven", "--to-time", "2020-01-01T00:00:00Z", "--dry-run")
    assert (early.code, "lies before what can be recovered" in early.error) == (2, True), early.err
    unproven = cli.here(*recover, "--to-latest", "--base", full_base, "--yes")
    assert (unproven.code, "not proven" in unproven.error) == (2, True), unproven.err
    unasked = cli.run(*recover, "--to-latest", "--unproven")
    assert (unasked.code, "add --yes" in unasked.error) == (2, True), unasked.err

    answer = cli.here("base", SOURCE, "--incremental", "--no-proof", "--json")
    assert answer.code == 0, answer.err
    base = answer.document["backup_id"]
    listed = cli.here("list", SOURCE, "--tier", "incremental", "--json").document["backups"]
    standings = {item["backup_id"]: (item["kind"], item["standing"]) for item in listed}
    assert (standings[full_base], standings[base]) == (("base", "unproven"), ("base", "unproven"))
    assert base in cli.here("list", SOURCE).out
    assert f"builds on    {full_base}" in cli.here("show", SOURCE, base).out
    shown = cli.here(*recover, "--to-latest", "--unproven", "--dry-run")
    assert (shown.code, base in shown.out) == (0, True), shown.err
    assert not (place / "copy").exists()


@pytest.fixture
def place() -> Iterator[Path]:
    with enterable_folder() as folder:
        yield folder


@pytest.mark.long
def test_what_was_written_comes_back_as_a_server(
    cli: CommandLine, cli_server: Server, full_base: str, place: Path
) -> None:
    with cli_server.session(SOURCE) as session:
        session.execute("CREATE TABLE public.recovered AS SELECT 42 AS answer")
    try:
        # Proven, whether it is a full one or builds on that.
        assert cli.here("base", SOURCE, "--json").document["proven"] is True
    finally:
        with cli_server.session(SOURCE) as session:
            session.execute("DROP TABLE public.recovered")
    folder = place / "copy"
    recover = ("recover", SOURCE, "--folder", str(folder), "--port", str(free_port_base()))
    answer = cli.run(*recover, "--to-latest", "--yes", "--json")
    try:
        assert answer.code == 0, answer.err
        assert answer.document["recorded"] is True
        report = answer.document["report"]
        login = f"host={report['socket']} port={report['port']} user={report['superuser']} dbname={SOURCE}"
        with psycopg.connect(login) as session:
            assert session.execute("SELECT answer FROM public.recovered").fetchone() == (42,)
    finally:
        end_lasting(folder / "data", seconds=30)


def test_options_of_another_action_are_refused(cli: CommandLine) -> None:
    assert cli.here("wal", SOURCE, "--dry-run").code == 2
    assert cli.here("wal", SOURCE, "--run", "--drop-slots").code == 2


def test_a_source_that_left_the_policy_is_let_go_of_and_its_wal_stays(
    cli: CommandLine, cli_server: Server, stack: Stack, tmp_path: Path
) -> None:
    keeping, leaving = tmp_path / "keeping.json", tmp_path / "leaving.json"
    policy_with(keeping, "departed")
    policy_with(leaving, "other")
    connection = connection_json(stack.database_connection())
    there = cli.with_environment(AIRFLOW_CONN_DEPARTED_DB=connection, AIRFLOW_CONN_OTHER_DB=connection)
    assert there.with_environment(BACKUP_POLICY=str(keeping)).here("wal", "departed", "--run").code == 0
    left = there.with_environment(BACKUP_POLICY=str(leaving))

    def slots() -> set[str]:
        with cli_server.session("postgres") as session:
            return {row[0] for row in session.execute("SELECT slot_name FROM pg_replication_slots").fetchall()}

    assert "departed_hold" in slots()
    looked = left.here("wal", "departed", "--drop-slots", "--dry-run", "--json").document
    assert (looked["found"], looked["removed"]) == (["departed_hold"], [])
    assert left.here("wal", "departed", "--drop-slots").code == 2
    assert "departed_hold" in slots()
    assert left.here("wal", "departed", "--drop-slots", "--yes", "--json").document["removed"] == ["departed_hold"]
    assert "departed_hold" not in slots()
    assert left.here("wal", "departed", "--drop-slots", "--yes", "--json").document["removed"] == []
    back = there.with_environment(BACKUP_POLICY=str(keeping)).here("wal", "departed", "--run", "--json")
    assert back.document["run"]["broken"] == []
    assert left.here("wal", "departed", "--drop-slots", "--yes").code == 0
