"""The running server process: its postmaster.pid, its entry in /proc, and how it is started as a child."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from include.backup.process import become

PROC = Path("/proc")
POLL_SECONDS = 0.01
# Nothing of this process's environment reaches a throw-away server: what it restores may run programs.
BARE_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
# As first process of its namespace the server would take orphans for its own children; a shell reaps them.
REAPER = ("/bin/sh", "-c", '"$@" & wait $!', "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class PidFile:
    """What postmaster.pid says; ``pid`` is the server's own view when it has a process namespace."""

    pid: int
    data: str
    port: int | None
    status: str
    identity: tuple[int, int]


def read_pid_file(folder: Path, *, name: str = "postmaster.pid") -> PidFile | None:
    """Return what a pid or lock file says, or None when there is none, or none yet."""
    try:
        with open(folder / name, "rb", opener=_open_no_link) as file:
            found = os.fstat(file.fileno())
            lines = file.read(4096).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    if not lines or not lines[0].strip().lstrip("-").isdigit():
        return None
    return PidFile(
        pid=abs(int(lines[0])),
        data=lines[1].strip() if len(lines) > 1 else "",
        port=int(lines[3]) if len(lines) > 3 and lines[3].strip().isdigit() else None,
        status=lines[7].strip() if len(lines) > 7 else "starting",
        identity=(found.st_ino, found.st_mtime_ns),
    )


def postmaster_of(data: Path) -> int | None:
    """Return the pid, in our view, of the server that runs on a data folder.

    A pid file alone proves nothing, as pids are used again: the process must stand in that very folder.
    """
    for pid in processes_in(data):
        argv = _argv(pid)
        if len(argv) > 1 and Path(argv[0]).name == "postgres" and "-D" in argv:
            return pid
    return None


def processes_in(data: Path) -> tuple[int, ...]:
    """Return the pids of every process whose working folder is the data folder, oldest first."""
    try:
        wanted = data.stat()
    except FileNotFoundError:
        return ()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # gone meanwhile, or another user's: not ours then
            stood = (entry / "cwd").stat()
            if (stood.st_dev, stood.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(int(entry.name))
    return tuple(sorted(found))


def child_argv(
    argv: tuple[str, ...], *, user: str | None, namespaces: tuple[str, ...], keep_user: bool
) -> tuple[str, ...]:
    """Return the argv of a server that ends with the thread that started it.

    ``namespaces`` are options of unshare(1). The death signal is cleared when credentials change, so it is
    set again after each change; ``keep_user`` says that a user namespace is made first, for ordinary users.
    """
    own_processes = "--pid" in namespaces
    death = ("--pdeathsig", "KILL" if own_processes else "QUIT")
    dropped = ("--no-new-privs", "--inh-caps=-all", *(("--ambient-caps=-all",) if keep_user else ()))
    inner = ("setpriv", *become(user), *dropped, *death, "--", *(REAPER if own_processes else ()), *argv)
    if not namespaces:
        return inner
    forked = ("--fork", "--kill-child=KILL") if own_processes else ()
    outer = ("setpriv", *death, "--", "unshare", *namespaces, *forked, "--", *inner)
    return ("unshare", "--user", "--map-current-user", "--keep-caps", "--", *outer) if keep_user else outer


def end_child(child: subprocess.Popen[bytes], data: Path, *, own_processes: bool) -> None:
    """End a server that is our child, and wait until nothing of it runs."""
    if own_processes:
        for pid in _children_of(child.pid):
            _send(pid, signal.SIGKILL)
        if not wait_for(lambda: child.poll() is not None, 10):
            child.kill()
    else:
        for signal_number, seconds in ((signal.SIGINT, 3), (signal.SIGQUIT, 6), (signal.SIGKILL, 6)):
            if child.poll() is None:
                child.send_signal(signal_number)
            if wait_for(lambda: child.poll() is not None, seconds):
                break
    child.wait()
    end_strays(data)


def end_strays(data: Path, *, grace_seconds: float = 3.0) -> None:
    """Kill what is left of a server on the data folder, and wait until it is gone."""
    if not wait_for(lambda: not left_of_server(data), grace_seconds):
        for pid in left_of_server(data):
            _send(pid, signal.SIGKILL)
        wait_for(lambda: not left_of_server(data), 3)


def end_lasting(data: Path, *, seconds: float) -> bool:
    """Stop a server that is not our child: fast, then immediate. Return whether it is gone."""
    for signal_number, share in ((signal.SIGINT, 0.7), (signal.SIGQUIT, 0.3)):
        pid = postmaster_of(data)
        if pid is None:
            return True
        _send(pid, signal_number)
        if wait_for(lambda: not left_of_server(data), seconds * share):
            return True
    return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds or time is up; return whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_alive(pid: int) -> bool:
    """Tell whether a process has this pid, whoever owns it."""
    return (PROC / str(pid)).exists()


def left_of_server(data: Path) -> list[int]:
    """Return who is in the data folder because of the server, and not, say, a person's shell."""
    return [
        pid
        for pid in processes_in(data)
        if _owner(pid) != os.geteuid() or _argv(pid)[0].startswith("postgres:") or "-D" in _argv(pid)
    ]


def _owner(pid: int) -> int:
    try:
        return (PROC / str(pid)).stat().st_uid
    except FileNotFoundError:
        return os.geteuid()


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[1]) == parent:
                    found.append(int(entry.name))
    return found


def _argv(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]


def _send(pid: int, signal_number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
