"""Watch one process of ours from outside: the most memory that it had, the most disk that a folder took."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.1
DISK_BLOCK_BYTES = 512


class BenchmarkError(Exception):
    """Raised when something that is measured fails; there is no figure for half a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How a process went; sizes in bytes. Memory is that of the process alone, without PostgreSQL's tools."""

    seconds: float
    output: str
    memory: int
    disk: int


def watched(argv: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> Watched:
    """Run a program to its end and watch it and ``folder``; raises BenchmarkError with its last words."""
    peaks = _Peaks(folder)
    started = time.monotonic()
    with subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        ended = threading.Event()
        watcher = threading.Thread(target=peaks.watch, args=(child.pid, ended))
        watcher.start()
        try:
            output, errors = child.communicate()
        finally:
            ended.set()
            watcher.join()
    seconds = time.monotonic() - started
    if child.returncode != 0:
        raise BenchmarkError(f"{' '.join(argv[:4])} ended with {child.returncode}: {errors[-2000:]}")
    return Watched(seconds=seconds, output=output, memory=peaks.memory, disk=peaks.disk)


class _Peaks:
    """The kernel keeps the high-water mark of memory, so that no peak falls between two looks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.memory = self.disk = 0

    def watch(self, pid: int, ended: threading.Event) -> None:
        status = Path(f"/proc/{pid}/status")
        while not ended.wait(POLL_SECONDS):
            with suppress(OSError):
                for line in status.read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.memory = max(self.memory, int(line.split()[1]) * 1024)
            self.disk = max(self.disk, disk_bytes(self._folder))


def disk_bytes(folder: Path) -> int:
    """Return the bytes that the files below a folder take on disk; files may come and go meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * DISK_BLOCK_BYTES
    return total
