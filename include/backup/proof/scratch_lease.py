"""Who holds a scratch server's folder, and the reaper of those that nobody holds any more."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from include.backup.errors import ScratchError
from include.backup.postgres.account import stand_in
from include.backup.postgres.cluster import write_private
from include.backup.postgres.postmaster import PROC, end_strays, wait_for

LEASE_FILE = "lease.json"
DATA_FOLDER = "data"
# Folders without the dot were given their lease; one with it was left by a start that was cut short.
SCRATCH_NAME = re.compile(r"\.?scratch-[0-9a-f]{8}")
REMOVE_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Which process uses a scratch folder. ``process_started`` tells it from a later one with the same pid."""

    pid: int
    process_started: int
    created: str
    hostname: str

    @classmethod
    def of_this_process(cls, *, now: datetime) -> Self:
        return cls(
            pid=os.getpid(),
            process_started=_started(os.getpid()) or 0,
            created=now.isoformat(),
            hostname=socket.gethostname(),
        )

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return a folder's lease, or None when there is none that can be read."""
        try:
            fields = json.loads((folder / LEASE_FILE).read_text())
            lease = cls(**fields)
            datetime.fromisoformat(lease.created)
        except (OSError, ValueError, TypeError):
            return None
        return lease

    def write(self, folder: Path) -> None:
        write_private(folder / LEASE_FILE, json.dumps(asdict(self)), user=None)

    def is_over(self, *, older_than_seconds: float, now: datetime) -> bool:
        """Tell whether the holder is dead, or has held the folder for too long. Unknown means held."""
        if (now - datetime.fromisoformat(self.created)).total_seconds() > older_than_seconds:
            return True
        return self.hostname == socket.gethostname() and _started(self.pid) != self.process_started


def reap_scratch(root: Path, *, older_than_seconds: float, now: datetime) -> tuple[str, ...]:
    """Remove scratch servers whose holder is dead or whose lease is too old; return their ids.

    Servers that still run are killed first, if they stand in that very folder. Looks below ``root`` and below
    the folder that stands in for it. A folder without a lease counts from its last change.
    """
    removed = []
    for base in (root, stand_in(root)):
        for folder in sorted(base.glob("*scratch-*")) if base.is_dir() else ():
            if SCRATCH_NAME.fullmatch(folder.name) and _is_over(folder, older_than_seconds, now):
                logger.warning("removing %s, left by a restore test that did not end", folder)
                remove_scratch(folder)
                removed.append(folder.name.lstrip("."))
    release_stand_in(root)
    return tuple(removed)


def remove_scratch(folder: Path) -> None:
    """Kill what still runs in a scratch folder and remove it. Raises ScratchError if it stays."""
    end_strays(folder / DATA_FOLDER, grace_seconds=0)
    if not wait_for(lambda: _is_removed(folder), REMOVE_SECONDS):
        raise ScratchError(f"{folder} cannot be removed; look who uses it, and remove it")


def release_stand_in(root: Path) -> None:
    """Remove the folder that stands in for ``root``, unless other scratch servers are in it."""
    with suppress(OSError):
        stand_in(root).rmdir()


def _is_over(folder: Path, older_than_seconds: float, now: datetime) -> bool:
    lease = Lease.read(folder)
    if lease is not None:
        return lease.is_over(older_than_seconds=older_than_seconds, now=now)
    try:
        changed = datetime.fromtimestamp(folder.lstat().st_mtime, tz=UTC)
    except FileNotFoundError:
        return False
    return (now - changed).total_seconds() > older_than_seconds


def _is_removed(folder: Path) -> bool:
    with suppress(OSError):  # a process that is just ending may still write; the next try sees
        shutil.rmtree(folder)
    return not folder.exists()


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when there is no such process."""
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
