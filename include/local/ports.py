"""Find out whether ports are free, and who holds them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from include.local.errors import PortTakenError
from include.local.layout import HOST, PORTS_NEEDED

LISTENING = "0A"
# Above the usual fixed ports and below the kernel's range for outgoing connections.
FREE_RANGE = range(20000, 32000, 10)


def is_free(port: int) -> bool:
    """Return whether a server could bind this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """Return whether something accepts connections on this port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def require_free(name: str, port: int) -> None:
    """Raise PortTakenError with the holder's name when the port is not free."""
    if is_free(port):
        return
    held = holder(port) or "a process of another user"
    raise PortTakenError(
        f"port {port} ({name}) is held by {held}; stop it, or take other ports: PORT_BASE={port + 1000}"
    )


def free_port_base() -> int:
    """Return the first of as many free ports as a stack needs."""
    candidates = list(FREE_RANGE)
    random.shuffle(candidates)
    for base in candidates:
        if all(is_free(base + offset) for offset in range(PORTS_NEEDED)):
            return base
    raise PortTakenError(f"no {PORTS_NEEDED} free ports in a row from {FREE_RANGE.start} to {FREE_RANGE.stop}")


def holder(port: int) -> str | None:
    """Return "name (pid N)" of the process that listens on the port, as far as /proc shows it."""
    inodes = set(_listening_inodes(port))
    for process in Path("/proc").glob("[0-9]*"):
        if not inodes.isdisjoint(_socket_inodes(process)):
            with suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _socket_inodes(process: Path) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                target = descriptor.readlink().name
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]
