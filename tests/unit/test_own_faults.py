"""What this machine does to a restore test is no finding about the backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.errors import CommandError, RestoreError, ScratchError
from include.backup.postgres.tools import find_tools
from include.backup.process import Command, Runner
from include.backup.proof.loading import ScratchLoader
from include.backup.proof.own_faults import own_fault, run_on_scratch, says_own_fault

LONG_STATEMENT = "Command was: CREATE FUNCTION f()\n" + "  SELECT 1;\n" * 20


@pytest.mark.parametrize(
    "line",
    [
        'pg_restore: error: could not execute query: ERROR:  could not extend file "base/5/1": No space left on device',
        'pg_restore: error: COPY failed for table "t": ERROR:  out of memory',
        "pg_restore: error: could not execute query: server closed the connection unexpectedly",
        "pg_dump: detail: Error message from server: ERROR:  out of shared memory",
        'pg_dump: error: could not write to file "dump/1.dat.zst": No space left on device',
        "psql:globals.sql:7: FATAL:  terminating connection due to administrator command",
        'psql: error: connection to server on socket "/s/.s.PGSQL.5432" failed: No such file or directory',
        "FATAL:  the database system is in recovery mode",
        "server closed the connection unexpectedly",
        "psql ended with exit code 2: server closed the connection unexpectedly",
        "WARNING:  terminating connection because of crash of another server process",
    ],
)
def test_what_a_tool_says_of_the_machine(line: str) -> None:
    assert says_own_fault(line)
    assert own_fault(CommandError(f"psql ended with exit code 1: first\n{line}\nlast"))


@pytest.mark.parametrize(
    "line",
    [
        'pg_restore: error: could not execute query: ERROR:  relation "t" does not exist',
        'ERROR:  invalid input syntax for type integer: "out of memory"',
        "FATAL:  terminating connection due to transaction timeout",
        "Command was: COMMENT ON TABLE t IS 'No space left on device'",
        "pg_dump: detail: Query was: SELECT 'out of memory'",
        "CONTEXT:  COPY t, line 1, column a: out of memory",
        "  RAISE EXCEPTION 'server closed the connection unexpectedly'",
    ],
)
def test_what_a_statement_or_a_row_holds_is_not_what_a_tool_says(line: str) -> None:
    assert not says_own_fault(line)


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: psycopg.Error) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(ScratchLoader, "_load", failing)
    scratch: Any = None
    loader = ScratchLoader(scratch=scratch, tools=find_tools(17), runner=Runner(), dump=tmp_path, jobs=1)
    nothing: Any = None
    loader.load(nothing, nothing, tmp_path, log=lambda _: None)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.DiskFull("could not extend file"),
        psycopg.errors.OutOfMemory("out of memory"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"),
    ],
)
def test_a_session_that_the_machine_ended_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: psycopg.Error
) -> None:
    with pytest.raises(ScratchError, match="BACKUP_SCRATCH_DIR"):
        load(tmp_path, monkeypatch, error)


@pytest.mark.parametrize("kind", [psycopg.errors.ForeignKeyViolation, psycopg.errors.QueryCanceled])
def test_what_the_server_refuses_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[psycopg.Error]
) -> None:
    with pytest.raises(RestoreError, match="does not restore: refused"):
        load(tmp_path, monkeypatch, kind("refused"))


@pytest.mark.parametrize(("cause", "raised"), [("out of memory", ScratchError), ("syntax error", CommandError)])
def test_the_cause_is_heard_before_a_long_statement(tmp_path: Path, cause: str, raised: type[Exception]) -> None:
    said = f"pg_restore: error: could not execute query: ERROR:  {cause}\n{LONG_STATEMENT}"
    command = Command(argv=("sh", "-c", 'printf %s "$0"; exit 1', said))
    with pytest.raises(raised):
        run_on_scratch(Runner(), command, folder=tmp_path)


def test_a_full_disk_is_seen_where_the_tool_does_not_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(argv=("sh", "-c", "echo could not close data file: Success; exit 1"))
    with pytest.raises(CommandError):
        run_on_scratch(Runner(), command, folder=tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(ScratchError):
        run_on_scratch(Runner(), command, folder=tmp_path)
