"""Run child processes from argv lists, so that none outlives the process that started it.

``setpriv --pdeathsig`` (util-linux) asks the kernel to signal the child when the thread that started it
ends: without it, a pg_dump whose worker was killed goes on and writes beside the retry.
"""

from __future__ import annotations

import logging
import os
import pwd
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from include.backup.errors import CommandError, CommandKilledError, ToolMissingError

LineHandler = Callable[[str], None]
KEPT_LINES = 40
TERM_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One child process: its argv, and what is added to a minimal environment.

    Secrets go into ``environment``, which is never logged; ``argv`` is.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None

    @property
    def name(self) -> str:
        return Path(self.argv[0]).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a child process ended."""

    command: Command
    seconds: float
    lines: tuple[str, ...]


class Runner:
    """Start children, hand on their lines, and end them all with ``kill``."""

    def __init__(self, *, log: logging.Logger | None = None) -> None:
        self._log = log or logging.getLogger(__name__)
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._killed = False

    def run(
        self,
        command: Command,
        *,
        on_line: LineHandler | None = None,
        stdout: Path | None = None,
        stdin: IO[bytes] | None = None,
    ) -> Completed:
        """Run to the end. Standard error (and output, unless it goes to ``stdout``) is read line by line.

        Raises CommandError with the last lines, CommandKilledError when a signal ended the child.
        """
        self._log.info("running %s", " ".join(command.argv))
        started = time.monotonic()
        kept: list[str] = []
        with _output(stdout) as output:
            child = self._start(command, output, stdin)
            try:
                for line in _lines(child):
                    kept = [*kept[-KEPT_LINES + 1 :], line]
                    if on_line is not None:
                        on_line(line)
                code = child.wait()
            except BaseException:
                _end(child)
                raise
            finally:
                with self._lock:
                    self._children.discard(child)
        if code < 0 or self._killed:
            raise CommandKilledError(f"{command.name} was ended by signal {-code}; retry the task")
        if code != 0:
            tail = "\n".join(kept[-8:]) or "it printed nothing"
            raise CommandError(f"{command.name} ended with exit code {code}: {tail}")
        return Completed(command=command, seconds=time.monotonic() - started, lines=tuple(kept))

    def kill(self) -> None:
        """End every living child; ``run`` then raises CommandKilledError."""
        self._killed = True
        with self._lock:
            children = list(self._children)
        for child in children:
            _end(child)

    def _start(
        self, command: Command, output: IO[bytes] | None, stdin: IO[bytes] | None
    ) -> subprocess.Popen[str]:
        try:
            child = subprocess.Popen(
                dying_with_parent(command),
                env=minimal_environment(command.environment),
                stdin=stdin or subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.PIPE if output else subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except FileNotFoundError as error:
            raise ToolMissingError(f"{error.filename} is not installed; install it and retry") from error
        with self._lock:
            self._children.add(child)
        if self._killed:
            _end(child)
        return child


def dying_with_parent(command: Command, *, signal_name: str = "TERM") -> tuple[str, ...]:
    """Return the argv that drops to ``command.user`` and gets a signal when its parent thread ends.

    >>> dying_with_parent(Command(argv=("pg_dump", "-Fd")))
    ('setpriv', '--pdeathsig', 'TERM', '--', 'pg_dump', '-Fd')
    """
    user = (
        () if command.user is None else ("--reuid", command.user, "--regid", command.user, "--clear-groups")
    )
    return ("setpriv", *user, "--pdeathsig", signal_name, "--", *command.argv)


def _become(user: str | None) -> tuple[str, ...]:
    if user is None:
        return ()
    entry = pwd.getpwnam(user)
    return ("--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups")


def minimal_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return PATH and locale of this process plus ``extra``; nothing else reaches a child."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return {**kept, **extra}


def _lines(child: subprocess.Popen[str]) -> Iterable[str]:
    stream = child.stderr or child.stdout
    if stream is None:
        return
    for line in stream:
        yield line.rstrip("\n")


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        child.wait(timeout=TERM_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _output:  # noqa: N801 - a context manager that reads as a function
    def __init__(self, path: Path | None) -> None:
        self._file: IO[bytes] | None = None if path is None else path.open("wb")

    def __enter__(self) -> IO[bytes] | None:
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
