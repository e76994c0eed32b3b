"""Faults of the machine that a copy is made on: a full disk, no memory, a server that was killed.

They say nothing of the backup: who made a finding of them would call a good one bad, for ever.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from include.backup.errors import CommandError, CommandKilledError, RestoreError, ScratchError
from include.backup.process import Command, LineHandler, Runner
from include.backup.proof.masking import without_row
from include.backup.staging import FULL_DISK_BYTES

_ERRORS = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.CrashShutdown,
    psycopg.errors.DiskFull,
    psycopg.errors.IoError,
    psycopg.errors.OutOfMemory,
)
_LOST = (
    "server closed the connection unexpectedly|connection to server was lost|"
    "could not (?:send data to|receive data from) server"
)
_MACHINE = (
    "No space left on device|Disk quota exceeded|could not extend file|out of memory|out of shared memory|"
    "Cannot allocate memory|Input/output error|the database system is |connection to server on socket|"
    "terminating connection (?:because of crash|due to administrator command)"
)
# Of a tool's lines those in which it speaks itself: the others show statements and rows, which may say anything.
_SPEAKS = r"(?:pg_\w+: (?:error|detail): (?!Command was|Query was)|psql:|(?:ERROR|FATAL|PANIC|WARNING): )"
_FAULT = re.compile(rf"(?:\w+ ended with exit code \d+: )?(?:{_SPEAKS}.*?(?:{_LOST}|{_MACHINE})|(?:{_LOST}))")
_TO_DO = "free disk (or set BACKUP_SCRATCH_DIR to a larger one) and memory, look for a kill, then retry"


def own_fault(error: psycopg.Error | CommandError) -> bool:
    """Say whether an error is the machine's and not of what was asked."""
    if isinstance(error, CommandError):
        return any(map(says_own_fault, str(error).splitlines()))
    # Without a code it is not the server's answer: the connection has ended.
    return isinstance(error, _ERRORS) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)


def says_own_fault(line: str) -> bool:
    """Say whether a line of a PostgreSQL tool tells of such a fault.

    >>> says_own_fault("pg_restore: error: could not execute query: server closed the connection unexpectedly")
    True
    >>> says_own_fault("Command was: COMMENT ON TABLE t IS 'out of memory';")
    False
    """
    return _FAULT.match(without_row(line)) is not None


def run_on_scratch(runner: Runner, command: Command, *, folder: Path, on_line: LineHandler = lambda _: None) -> None:
    """Run a tool that works on the scratch server and in ``folder``.

    Raises ScratchError when the machine failed it, else CommandError. All lines are listened to: the error has but the
    last ones, which may be those of a long statement.
    """
    failed = False

    def line(text: str) -> None:
        nonlocal failed
        failed = failed or says_own_fault(text)
        on_line(text)

    try:
        runner.run(command, on_line=line)
    except CommandKilledError:
        raise
    except CommandError:
        # pg_dump does not always say so: closing a compressed file may fail with "Success".
        if failed or shutil.disk_usage(folder).free < FULL_DISK_BYTES:
            raise ScratchError(f"the scratch server or its disk failed under {command.name}; {_TO_DO}") from None
        raise


@contextmanager
def blaming_archive(finding: str) -> Iterator[None]:
    """Raise RestoreError with the finding for what PostgreSQL refuses, ScratchError for the machine's faults."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split())
        if own_fault(error):
            raise ScratchError(f"the scratch server failed ({said}); {_TO_DO}") from None
        raise RestoreError(f"{finding}: {said}") from None
