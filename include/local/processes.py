"""Read from /proc who a process is, so that no recycled pid is ever taken for ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_SECONDS = 0.05
EXEC_SECONDS = 0.2
# Set in the environment of everything that a stack starts; its value is the state folder.
MARKER = "PULSE_STACK_STATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process for all time: its pid, when it started, and in which boot of the machine."""

    pid: int
    started_ticks: int
    boot: str

    def to_json(self) -> dict[str, int | str]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """What /proc/<pid>/stat says."""

    pid: int
    state: str
    session: int
    started_ticks: int


def read_stat(pid: int) -> ProcessStat | None:
    """Return a living process's facts; a zombie counts as gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return ProcessStat(pid=pid, state=fields[0], session=int(fields[3]), started_ticks=int(fields[19]))


def boot_id() -> str:
    """Return what tells this boot of the machine from the one before."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> Identity | None:
    """Return who has this pid now."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid=pid, started_ticks=stat.started_ticks, boot=boot_id())


def is_alive(identity: Identity) -> bool:
    """Return whether this very process still runs."""
    return identify(identity.pid) == identity


def session_members(leader: Identity) -> list[Identity]:
    """Return the living processes of the session that ``leader`` opened, whether it still lives or not.

    The kernel does not hand out a pid while a session is named by it, so a living leader that started at
    another time means that the session is gone; members older than the leader are not its own either.
    """
    if leader.boot != boot_id():
        return []
    current = read_stat(leader.pid)
    if current is not None and current.started_ticks != leader.started_ticks:
        return []
    return [
        Identity(pid=stat.pid, started_ticks=stat.started_ticks, boot=leader.boot)
        for stat in all_processes()
        if stat.session == leader.pid and stat.started_ticks >= leader.started_ticks
    ]


def marked_processes(state: Path) -> list[Identity]:
    """Return the living processes that carry this stack's marker in their environment."""
    wanted = f"{MARKER}={state}".encode()
    found = []
    for stat in all_processes():
        with suppress(OSError):
            if wanted in _environment(PROC / str(stat.pid)).split(b"\0"):
                found.append(Identity(pid=stat.pid, started_ticks=stat.started_ticks, boot=boot_id()))
    return [identity for identity in found if identity.pid != os.getpid()]


def _environment(process: Path) -> bytes:
    """Return a process's environment.

    In the moment of its exec a process has none that others can read, so that is waited for; what the kernel runs
    itself has neither environment nor program.
    """
    found = b""

    def read() -> bool:
        nonlocal found
        found = (process / "environ").read_bytes()
        return bool(found) or not (process / "exe").exists()

    wait_until(read, EXEC_SECONDS)
    return found


def processes_naming(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield pid and command line of every process whose arguments, environment or place name the folder."""
    for stat in all_processes():
        process = PROC / str(stat.pid)
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
            place = str((process / "cwd").readlink()).encode()
            if any(_names(text, folder) for text in (command, environment, place)):
                yield stat.pid, command.replace(b"\0", b" ").decode(errors="replace").strip()


def all_processes() -> Iterator[ProcessStat]:
    """Yield every living process."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            stat = read_stat(int(entry.name))
            if stat is not None:
                yield stat


def signal_all(identities: Iterable[Identity], number: signal.Signals) -> None:
    """Signal those that still are who they were."""
    for identity in identities:
        if is_alive(identity):
            with suppress(ProcessLookupError):
                os.kill(identity.pid, number)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; return False when it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _names(text: bytes, folder: Path) -> bool:
    """Return whether the folder or something in it is named; ``/x/64001`` does not name ``/x/6400``."""
    path = str(folder).encode()
    at = text.find(path)
    while at >= 0:
        after = text[at + len(path) : at + len(path) + 1]
        if not after.isalnum():
            return True
        at = text.find(path, at + 1)
    return False
