"""What keeps a scratch server apart from the machine: restoring runs the source users' code."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from enum import StrEnum

from include.backup.postgres.postmaster import BARE_ENVIRONMENT, child_argv

PROBE_TIMEOUT_SECONDS = 30
# Options of unshare(1), strictest first; containers often allow only some, or none.
LADDER: tuple[tuple[str, ...], ...] = (
    ("--net", "--ipc", "--pid", "--mount-proc"),
    ("--net", "--ipc", "--pid"),
    ("--net", "--ipc"),
)


class Network(StrEnum):
    NONE = "none"
    HOST = "host"


class Uid(StrEnum):
    OWN = "own"
    SAME = "same"


class Processes(StrEnum):
    """Whether the server sees, and could signal, other processes."""

    OWN = "own"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How far a scratch server is kept apart; goes into the proof."""

    network: Network
    uid: Uid
    processes: Processes
    namespaces: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str]:
        return {"network": self.network, "uid": self.uid, "processes": self.processes}

    def gaps(self) -> tuple[str, ...]:
        """Return, in words, what code inside a restored database could reach."""
        gaps = []
        if self.network is Network.HOST:
            gaps.append("the network")
        if self.uid is Uid.SAME:
            gaps.append("the files of the user that runs the restore test")
        if self.processes is Processes.HOST:
            gaps.append("the list of processes")
        return tuple(gaps)


@functools.cache
def probe_isolation(user: str | None) -> Isolation:
    """Return the strictest isolation that this machine allows for a server run by the user, by trying."""
    namespaces = next((rung for rung in LADDER if _works(rung, user)), ())
    return Isolation(
        network=Network.NONE if "--net" in namespaces else Network.HOST,
        uid=Uid.SAME if user is None else Uid.OWN,
        processes=Processes.OWN if "--mount-proc" in namespaces else Processes.HOST,
        namespaces=namespaces,
    )


def _works(namespaces: tuple[str, ...], user: str | None) -> bool:
    try:
        answer = subprocess.run(
            child_argv(("/bin/true",), user=user, namespaces=namespaces, keep_user=user is None),
            env=BARE_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
