"""Restore by the command line: what comes back, what is refused, what a person sees."""

from __future__ import annotations

import os
import pty
import signal
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.local.ports import free_port_base
from include.local.source import SUPERUSER
from tests.support.command_line import SOURCE, TARGET, CommandLine, Forger, Server, restore_on_record, wait_for
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]
pytestmark = pytest.mark.usefixtures("new_databases")


def test_restore_brings_back_identical_content(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup, cli_server: Server, cli_staging: Path
) -> None:
    answer = cli.run(
        "restore", SOURCE, taken["backup_id"], "--to-database", "restored", "--create", *TARGET, "--yes", "--json"
    )
    assert answer.code == 0, answer.err
    report = answer.document["report"]
    assert report["compared"]["rows"] == report["rows"] == taken["steps"]["compress"]["rows"]
    assert report["compared"]["differences"] == []
    assert set(report["durations"]) == {"objects", "rows", "indexes", "finish", "compare"}
    assert report["refused_properties"] == []
    told = restore_on_record(taken_backup.store, answer.document)
    assert (told["backup_id"], told["database"], told["production"]) == (taken["backup_id"], "restored", False)
    assert (told["rows"], told["compared"]) == (report["rows"], True)
    assert cli_server.contents("restored") == cli_server.contents(SOURCE)
    assert properties(cli_server, "restored") == properties(cli_server, SOURCE)
    assert list(cli_staging.iterdir()) == []


def properties(cli_server: Server, database: str) -> tuple[Any, ...]:
    """Return what a database itself has: owner, grants, comment, settings."""
    with cli_server.session("postgres") as session:
        row = session.execute(
            "SELECT datdba::regrole::text, datacl::text, shobj_description(oid, 'pg_database'), datcollate,"
            " (SELECT array_agg(setrole::text || setconfig::text ORDER BY setrole) FROM pg_db_role_setting"
            "   WHERE setdatabase = d.oid)"
            " FROM pg_database d WHERE datname = %s",
            (database,),
        ).fetchone()
    assert row is not None
    return tuple(row)


def test_restore_fills_an_existing_empty_database_and_says_so_in_plain_lines(
    cli: CommandLine, taken: dict[str, Any], cli_server: Server
) -> None:
    name = "x'; DROP DATABASE pulse_messages; --\""
    with cli_server.session("postgres") as session:
        session.execute(psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(psycopg.sql.Identifier(name)))
    answer = cli.here(
        "restore", SOURCE, taken["backup_id"], "--to-database", name, *TARGET, "--yes", "--jobs", "1", "--no-compare"
    )
    assert answer.code == 0, answer.err
    assert "an existing, empty database" in answer.out
    assert "not compared yet" in answer.out
    assert cli_server.contents(name) == cli_server.contents(SOURCE)


def test_a_dry_run_only_tells(cli: CommandLine, taken: dict[str, Any], cli_server: Server) -> None:
    arguments = ("restore", SOURCE, "latest-proven", "--to-database", "never", "--create", *TARGET, "--dry-run")
    plain = cli.run(*arguments)
    assert plain.code == 0, plain.err
    assert f"{taken['steps']['compress']['rows']} rows" in plain.out
    assert "its restore test of" in plain.out
    preview = cli.here(*arguments, "--json").document["preview"]
    assert preview["estimated_seconds"] > 0
    assert preview["archive_bytes"] == taken["steps"]["upload"]["size"]
    assert "never" not in cli_server.databases()


def test_a_person_at_a_terminal_is_asked_and_sees_a_bar(
    cli: CommandLine, taken: dict[str, Any], cli_server: Server
) -> None:
    for answer, code in (("no", 2), ("asked", 0)):
        ours, theirs = pty.openpty()
        arguments = (
            "restore",
            SOURCE,
            taken["backup_id"],
            "--to-database",
            "asked",
            "--create",
            *TARGET,
            "--no-compare",
        )
        with cli.started(*arguments, stdin=theirs, stderr=theirs) as child:
            os.close(theirs)
            seen = Terminal(ours)
            seen.wait_for("Type the name")
            os.write(ours, f"{answer}\n".encode())
            assert child.wait(60) == code, seen.text
            seen.thread.join(10)
        os.close(ours)
        assert ("asked" in cli_server.databases()) is (code == 0)
    assert "\x1b[" in seen.text


class Terminal:
    """Reads what a child shows on its terminal."""

    def __init__(self, descriptor: int) -> None:
        self.text = ""
        self._descriptor = descriptor
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text, text)

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:  # the child has closed its side
                return


def test_without_a_terminal_nobody_is_asked(cli: CommandLine, taken: dict[str, Any]) -> None:
    answer = cli.run("restore", SOURCE, taken["backup_id"], "--to-database", "unasked", "--create", *TARGET)
    assert answer.code == 2
    assert "add --yes" in answer.error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--to-database", SOURCE, *TARGET), 5, "is the source itself"),
        (("--to-database", SOURCE, "--create", *TARGET), 5, "is the source itself"),
        (("--to-database", "postgres", "--create", *TARGET), 5, "is there already"),
        (("--to-database", "nowhere", *TARGET), 5, "add --create to make it"),
        (("--to-database", "new", "--create"), 5, "pulse_backup may not create databases"),
        (("--to-database", "template1", *TARGET), 2, "PostgreSQL's own"),
        (("--to-database", "x" * 64, *TARGET), 2, "1 to 63 bytes"),
        (("--to-database", "new", "--create", "--connection", "unknown"), 2, "there is no connection unknown"),
        (("--to-database", "new", "--create", "--connection", "pulse_backups_s3"), 2, "has type 'aws'"),
        (("--to-database", "new", "--create", *TARGET, "--host", "x"), 2, "give one"),
        (("--to-database", "new", "--create", "--port", "5"), 2, "--port goes with --host only"),
        (("--to-database", "new", "--create", "--host", "x", "--sslmode", "bad"), 2, "sslmode 'bad'"),
    ],
)
def test_restore_refuses_before_anything_is_changed(
    cli: CommandLine, taken: dict[str, Any], cli_server: Server, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = cli_server.databases()
    answer = cli.here("restore", SOURCE, taken["backup_id"], *arguments, "--yes")
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert cli_server.databases() == before


def test_a_target_with_anything_in_it_is_refused(cli: CommandLine, taken: dict[str, Any], cli_server: Server) -> None:
    with cli_server.session("postgres") as session:
        session.execute("CREATE DATABASE in_use TEMPLATE template0")
    with cli_server.session("in_use") as session:
        session.execute("CREATE FUNCTION keep() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    answer = cli.here("restore", SOURCE, taken["backup_id"], "--to-database", "in_use", *TARGET, "--yes")
    assert answer.code == 5
    assert "is not empty, it holds function public.keep" in answer.error
    with cli_server.session("in_use") as session:
        assert session.execute("SELECT keep()").fetchone() == (1,)


def test_an_unreachable_target_and_a_wrong_password_are_3(
    cli: CommandLine, taken: dict[str, Any], cli_server: Server
) -> None:
    arguments = (
        "restore",
        SOURCE,
        taken["backup_id"],
        "--to-database",
        "new",
        "--create",
        "--yes",
        "--host",
        "localhost",
    )
    closed = cli.here(*arguments, "--port", str(free_port_base()))
    assert closed.code == 3
    there = (*arguments, "--port", str(cli_server.superuser.port), "--user", SUPERUSER)
    ca = cli_server.superuser.sslrootcert or ""
    wrong = cli.with_environment(PGPASSWORD="not-the-password").here(*there, "--sslrootcert", ca)
    assert wrong.code == 3
    assert "password authentication failed" in wrong.error
    assert "not-the-password" not in wrong.err
    untrusted = cli.here(*there, "--sslrootcert", str(Path(__file__)))
    assert untrusted.code == 3


def test_an_unproven_backup_is_refused_unless_a_person_insists(
    cli: CommandLine, taken_backup: StoredBackup, forger: Forger
) -> None:
    arguments = (
        "restore",
        SOURCE,
        forger.backup(taken_backup),
        "--to-database",
        "new",
        "--create",
        *TARGET,
        "--dry-run",
    )
    answer = cli.here(*arguments)
    assert answer.code == 5
    assert "nobody has shown that it restores" in answer.error
    insisted = cli.here(*arguments, "--unproven")
    assert insisted.code == 0
    assert "warning     this backup is unproven" in insisted.out


def test_an_interrupted_restore_ends_pg_restore(cli: CommandLine, taken: dict[str, Any], cli_server: Server) -> None:
    """A lock on pg_namespace lets nobody make a schema, so that pg_restore waits for as long as the test wants."""
    with cli_server.session("postgres") as session:
        session.execute("CREATE DATABASE slow TEMPLATE template0")
    with cli_server.session("slow") as other, cli_server.session("postgres") as look:
        other.autocommit = False
        other.execute("LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE")
        arguments = ("restore", SOURCE, taken["backup_id"], "--to-database", "slow", *TARGET, "--yes")
        with cli.started(*arguments) as child:
            wait_for(lambda: waiting(look) > 0, "pg_restore's wait")
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 143
            assert child.stderr is not None
            lines = child.stderr.read().splitlines()
        wait_for(lambda: waiting(look) == 0, "the end of pg_restore's session")
    assert "error: ended by SIGTERM" in lines
    assert any("slow" in line and "may hold a part of the backup" in line for line in lines)


def waiting(session: psycopg.Connection[Any]) -> int:
    row = session.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'slow' AND application_name = 'pulse_restore'"
        " AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(row[0]) if row else 0
