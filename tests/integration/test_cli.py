"""Take, list, show and verify backups by the command line, against real servers."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from include.backup.errors import StoreUnreachableError
from include.backup.postgres.lock import lock_key
from include.backup.steps import upload
from tests.support.command_line import SOURCE, CommandLine, Forger, Server
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]


def test_run_takes_a_backup_and_proves_it(taken: dict[str, Any], taken_backup: StoredBackup) -> None:
    assert taken["proven"] is True
    assert taken["run_id"].startswith("command_line__")
    assert set(taken["steps"]) == {
        "preflight",
        "dump",
        "compress",
        "upload",
        "verify",
        "restore_test",
        "close_staging",
    }
    assert taken["steps"]["restore_test"]["rows"] == taken["steps"]["compress"]["rows"] == taken_backup.manifest.rows
    assert taken_backup.manifest.run.dag_id == "command_line"
    assert taken_backup.manifest.run.run_id == taken["run_id"]


def test_run_guards_a_release_and_says_what_it_did_in_plain_lines(cli: CommandLine) -> None:
    answer = cli.run(
        "run", SOURCE, "--tier", "pre_deployment", "--release", "2025.3.1", "--git-sha", "4f2c91e", "--no-proof"
    )
    assert answer.code == 0, answer.err
    assert "is stored and verified" in answer.out
    assert "not proven (--no-proof)" in answer.out
    assert "SHA-256" in answer.err
    shown = cli.here("show", SOURCE, "latest", "--tier", "pre_deployment", "--json").document
    assert shown["manifest"]["release"] == {"name": "2025.3.1", "git_sha": "4f2c91e"}
    assert shown["standing"] == "unproven"


def test_run_refuses_while_another_backup_of_the_source_runs(
    cli: CommandLine, cli_server: Server, cli_staging: Path
) -> None:
    with cli_server.session(SOURCE) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key(SOURCE),))
        answer = cli.run("run", SOURCE, "--tier", "daily", "--wait", "0")
    assert answer.code == 1
    assert "another backup of pulse_messages is running (pid " in answer.error
    assert list(cli_staging.iterdir()) == []


def test_an_interrupted_run_ends_its_children_and_leaves_nothing(
    cli: CommandLine, cli_server: Server, cli_staging: Path
) -> None:
    with cli_server.session(SOURCE) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key(SOURCE),))
        with cli.started("run", SOURCE, "--tier", "daily") as child:
            assert child.stderr is not None
            while "waiting up to" not in child.stderr.readline():
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            rest = child.stderr.read()
            assert child.wait(30) == 130
    assert rest.splitlines()[-1] == "error: ended by SIGINT"
    assert "Traceback" not in rest
    assert list(cli_staging.iterdir()) == []


def test_a_run_that_failed_to_store_its_dump_goes_on_with_it(
    cli: CommandLine, cli_staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(ctx: object) -> None:
        raise StoreUnreachableError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(upload, "run", away)
        failed = cli.here("run", SOURCE, "--tier", "daily", "--no-proof")
    assert (failed.code, failed.error) == (3, "error: the store is away")
    (left,) = cli_staging.iterdir()
    assert f"--resume {left.name}" in failed.err

    resumed = cli.here("run", SOURCE, "--resume", left.name, "--no-proof", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.document["backup_id"] == left.name
    assert resumed.document["steps"]["dump"]["reused"] is True
    assert list(cli_staging.iterdir()) == []


def test_list_shows_each_backup_with_its_standing(cli: CommandLine, taken: dict[str, Any]) -> None:
    backups = {item["backup_id"]: item for item in cli.run("list", SOURCE, "--json").document["backups"]}
    found = backups[taken["backup_id"]]
    assert (found["tier"], found["completeness"], found["standing"]) == ("daily", "complete", "proven")
    assert found["size"] == taken["steps"]["upload"]["size"]
    plain = cli.run("list", SOURCE, "--tier", "daily")
    assert plain.code == 0
    (line,) = [line for line in plain.out.splitlines() if line.startswith(taken["backup_id"])]
    assert line.split()[-2:] == ["complete", "proven"]
    assert "pre_deployment" not in plain.out


def test_list_shows_what_is_half_there(cli: CommandLine, forger: Forger) -> None:
    no_manifest, no_archive = forger.new_id(), forger.new_id()
    forger.put(f"daily/{no_manifest}.tar", b"x")
    forger.put(f"daily/{no_archive}.manifest.json", b"{}")
    states = {
        item["backup_id"]: item["completeness"] for item in cli.here("list", SOURCE, "--json").document["backups"]
    }
    assert states[no_manifest] == "no manifest"
    assert states[no_archive] == "no archive"


@pytest.mark.parametrize("wanted", ["id", "latest-proven"])
def test_show_tells_what_a_backup_holds(cli: CommandLine, taken: dict[str, Any], wanted: str) -> None:
    name = taken["backup_id"] if wanted == "id" else wanted
    shown = cli.run("show", SOURCE, name, "--json").document
    assert shown["backup_id"] == taken["backup_id"]
    assert shown["rows"] == taken["steps"]["compress"]["rows"]
    assert shown["manifest"]["format_version"] == 1
    assert shown["proofs"][0]["result"] == "passed"
    plain = cli.here("show", SOURCE, name).out
    assert "public.messages" in plain
    assert "passed (complete)" in plain


def test_verify_asks_the_store(cli: CommandLine, taken: dict[str, Any]) -> None:
    document = cli.run("verify", SOURCE, taken["backup_id"], "--json").document
    assert document["store"]["method"] == "kept by the store"
    assert document["proof"] is None
    assert "verified" in cli.here("verify", SOURCE, taken["backup_id"]).out


def test_verify_can_prove_a_backup_that_is_not(cli: CommandLine, taken_backup: StoredBackup, forger: Forger) -> None:
    backup_id = forger.backup(taken_backup)
    answer = cli.run("verify", SOURCE, backup_id, "--restore-test", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["proof"]["result"] == "passed"
    assert cli.here("show", SOURCE, backup_id, "--json").document["standing"] == "proven"


def test_verify_says_of_a_forged_backup_what_differs(
    cli: CommandLine, taken_backup: StoredBackup, forger: Forger
) -> None:
    name = taken_backup.data_member("public.users").name
    forged = taken_backup.repacked({name: taken_backup.stored(name)[:-9] + b"corrupted"}, rehashed=False)
    backup_id = forger.backup(forged)
    answer = cli.here("verify", SOURCE, backup_id, "--restore-test", "--json")
    # The forged object was not encrypted with the key that the manifest names.
    assert answer.code == 4
    assert answer.document["error"]["kind"] == "ObjectDiffersError"
    assert answer.document["error"]["message"] in answer.error
