"""Start, watch and stop one long-running program of the stack."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from include.local.credentials import write_private
from include.local.errors import ServiceFailedError, StackError
from include.local.layout import ROOT, Layout
from include.local.processes import (
    MARKER,
    Identity,
    identify,
    is_alive,
    session_members,
    signal_all,
    wait_until,
)

LOG_TAIL_LINES = 15
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run: secrets go into the environment, never into argv."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    term_seconds: float = 10.0


def stop_program(name: str, term_seconds: float) -> Program:
    """Return what is enough to find and stop a program that an earlier command started."""
    return Program(name=name, argv=(), environment={}, term_seconds=term_seconds)


class Service:
    """A program in a session of its own, known by a pid file, logging to one file."""

    def __init__(self, layout: Layout, program: Program) -> None:
        self._layout = layout
        self.program = program
        self.log = layout.logs / f"{program.name}.log"
        self._pid_file = layout.pids / f"{program.name}.json"

    def start(self) -> bool:
        """Start unless it runs; return whether this call started it. Call ``stop`` first after a crash."""
        if self.running():
            return False
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                self.program.argv,
                cwd=ROOT,
                env={**self.program.environment, MARKER: str(self._layout.state)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        identity = identify(child.pid)
        if identity is None:
            child.wait()
            raise ServiceFailedError(f"{self.program.name} ended at once; {self.log_tail()}")
        write_private(self._pid_file, json.dumps(identity.to_json()) + "\n")
        # Reaped here: as a zombie it would look like a process that does not stop.
        threading.Thread(target=child.wait, daemon=True).start()
        return True

    def running(self) -> bool:
        """Return whether the recorded process still is the one that was started."""
        identity = self.identity()
        return identity is not None and is_alive(identity)

    def identity(self) -> Identity | None:
        """Return whom the pid file names."""
        try:
            record = json.loads(self._pid_file.read_text())
            return Identity(
                pid=int(record["pid"]), started_ticks=int(record["started_ticks"]), boot=str(record["boot"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def stop(self) -> None:
        """End the program and everything in its session: SIGTERM, then SIGKILL for who is left."""
        leader = self.identity()
        if leader is not None:
            signal_all(session_members(leader), signal.SIGTERM)
            if not wait_until(lambda: not session_members(leader), self.program.term_seconds):
                kill_all(lambda: session_members(leader), self.program.name)
        self._pid_file.unlink(missing_ok=True)

    def require_running(self) -> None:
        """Raise ServiceFailedError with the end of the log when the program has ended."""
        if not self.running():
            raise ServiceFailedError(f"{self.program.name} has ended; {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the log's name and last lines."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"the end of {self.log}:", *lines])


def stop_all(services: Iterable[Service]) -> None:
    """Stop services at the same time; the first error is raised once all were tried."""
    listed = list(services)
    with ThreadPoolExecutor(max_workers=max(len(listed), 1)) as pool:
        list(pool.map(Service.stop, listed))


def kill_all(find: Callable[[], list[Identity]], name: str) -> None:
    """SIGKILL what ``find`` returns until it returns nothing."""

    def none_left() -> bool:
        left = find()
        signal_all(left, signal.SIGKILL)
        return not left

    if not wait_until(none_left, KILL_SECONDS):
        pids = ", ".join(str(identity.pid) for identity in find())
        raise StackError(f"{name}: these processes do not end: {pids}; are they another user's? kill them")
