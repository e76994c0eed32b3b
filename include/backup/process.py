"""Run child processes from argv lists, so that none outlives the process that started it.

``setpriv --pdeathsig`` (util-linux) asks the kernel to signal the child when the thread that started it
ends: without it, a pg_dump whose worker was killed goes on and writes beside the retry.
"""

from __future__ import annotations

import logging
import os
import pwd
import shlex
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from include.backup.errors import CommandError, CommandKilledError, CommandTimeoutError, ToolMissingError

LineHandler = Callable[[str], None]
Consumed = TypeVar("Consumed")
KEPT_LINES = 40
SHOWN_LINES = 8
TERM_GRACE_SECONDS = 3.0
POLL_SECONDS = 0.02
SETPRIV_EXEC_FAILED = (126, 127)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One child process: its argv, and what is added to a minimal environment.

    Secrets go into ``environment``, which is never logged; ``argv`` is. ``folder`` is where it runs: another
    ``user`` may not be able to enter this process's own.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    folder: Path | None = None

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
        self._children: set[subprocess.Popen[Any]] = set()
        self._lock = threading.RLock()
        self._killed = False

    @property
    def killed(self) -> bool:
        """Say whether ``kill`` was called: no child starts any more."""
        return self._killed

    def run(
        self,
        command: Command,
        *,
        on_line: LineHandler | None = None,
        stdout: Path | None = None,
        stdin: IO[bytes] | None = None,
        timeout_seconds: float | None = None,
    ) -> Completed:
        """Run to the end. Standard error (and output, unless it goes to ``stdout``) is read line by line.

        Raises CommandError with the last lines, CommandKilledError when a signal ended the child, and
        CommandTimeoutError when it was ended because it took longer than ``timeout_seconds``.
        """
        self._log.info("running %s", shlex.join(command.argv))
        started = time.monotonic()
        kept: deque[str] = deque(maxlen=KEPT_LINES)
        with _output(stdout) as output:
            child = self._start(command, output, stdin)
            try:
                with _limited(child, timeout_seconds) as late:
                    for line in _lines(child):
                        kept.append(line)
                        if on_line is not None:
                            on_line(line)
                    code = child.wait()
            except BaseException:
                _end(child)
                child.wait()
                raise
            finally:
                with self._lock:
                    self._children.discard(child)
        if late.is_set() and not self._killed:
            raise CommandTimeoutError(f"{command.name} took longer than {timeout_seconds:g} s and was ended; retry")
        self._check(command, code, kept)
        return Completed(command=command, seconds=time.monotonic() - started, lines=tuple(kept))

    def stream(self, command: Command, consume: Callable[[IO[bytes]], Consumed]) -> Consumed:
        """Run to the end while ``consume`` reads what the child writes; return what ``consume`` returns.

        Raises as ``run`` does. Safe in several threads at once.
        """
        child = self._start(command, subprocess.PIPE, None, text=False)
        with child:
            try:
                if child.stdout is None or child.stderr is None:
                    raise CommandError(f"{command.name} was started without an output")
                result = consume(child.stdout)
                message = child.stderr.read().decode(errors="replace").splitlines()
                code = child.wait()
            except BaseException:
                _end(child)
                raise
            finally:
                with self._lock:
                    self._children.discard(child)
        self._check(command, code, message)
        return result

    def kill(self) -> None:
        """End every living child, and let no other start; ``run`` then raises CommandKilledError.

        Safe in a signal handler that interrupted ``run`` in the same thread.
        """
        self._killed = True
        with self._lock:
            children = list(self._children)
        for child in children:
            _end(child)

    def _check(self, command: Command, code: int, kept: Sequence[str]) -> None:
        if code < 0 or self._killed:
            raise CommandKilledError(f"{command.name} was ended {_by(code)}; retry the task")
        if code != 0:
            _refuse(command, code, kept)

    def _start(
        self, command: Command, output: IO[bytes] | int | None, stdin: IO[bytes] | None, *, text: bool = True
    ) -> subprocess.Popen[Any]:
        if self._killed:
            raise CommandKilledError(f"{command.name} was not started, as the run was ended; retry the task")
        try:
            child = subprocess.Popen(
                dying_with_parent(command),
                env=minimal_environment(command.environment),
                cwd=command.folder,
                stdin=stdin or subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.PIPE if output else subprocess.STDOUT,
                text=text,
                errors="replace" if text else None,
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
    return ("setpriv", *become(command.user), "--pdeathsig", signal_name, "--", *command.argv)


def become(user: str | None) -> tuple[str, ...]:
    """Return setpriv's options for another user, by number: no group need have the user's name."""
    if user is None:
        return ()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ToolMissingError(f"there is no user {user!r} on this machine; create it and retry") from error
    return ("--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups")


def minimal_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return PATH and TZ of this process, an English UTF-8 locale, and ``extra``; a child sees nothing else.

    The locale is fixed because children's lines are read, and PostgreSQL translates them.
    """
    kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **kept, **extra}


def _lines(child: subprocess.Popen[str]) -> Iterator[str]:
    stream = child.stderr or child.stdout
    if stream is None:
        return
    with stream:
        for line in stream:
            yield line.rstrip("\n")


def _refuse(command: Command, code: int, kept: Sequence[str]) -> None:
    tail = "\n".join(list(kept)[-SHOWN_LINES:]) or "it printed nothing"
    if code in SETPRIV_EXEC_FAILED and tail.startswith("setpriv: failed to execute"):
        raise ToolMissingError(f"{command.argv[0]} cannot be run ({tail}); install it and retry")
    raise CommandError(f"{command.name} ended with exit code {code}: {tail}")


def _by(code: int) -> str:
    return f"by signal {-code}" if code < 0 else "by this process"


def _end(child: subprocess.Popen[Any]) -> None:
    with suppress(ProcessLookupError):
        child.terminate()
    if not _ends_within(child, TERM_GRACE_SECONDS):
        with suppress(ProcessLookupError):
            child.kill()
        _ends_within(child, TERM_GRACE_SECONDS)


def _ends_within(child: subprocess.Popen[Any], seconds: float) -> bool:
    """Wait without reaping: Popen.wait takes a lock that an interrupted wait in the same thread holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        time.sleep(POLL_SECONDS)
    return False


@contextmanager
def _limited(child: subprocess.Popen[Any], seconds: float | None) -> Iterator[threading.Event]:
    """End the child when time is up; the event says that it was."""
    late = threading.Event()
    if seconds is None:
        yield late
        return

    def end() -> None:
        late.set()
        _end(child)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


@contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    with path.open("wb") as file:
        yield file
