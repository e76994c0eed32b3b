"""How far a restore is, told in rows and bytes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

LINE_SECONDS = 10.0
# What took less says nothing of what is left.
GUESS_SECONDS = 2.0


class Progress(Protocol):
    """Who is told how far a restore is; may be called by any thread."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin a phase of ``total`` bytes or rows."""

    def at(self, done: int, size: int = 0) -> None:
        """Say how much of the phase is done, and how many bytes that were if it is told in something else."""


class Counter:
    """Adds up what several threads have done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._bytes = 0
        self._lock = threading.Lock()

    def add(self, count: int, size: int = 0) -> None:
        with self._lock:
            self._done += count
            self._bytes += size
            self._progress.at(self._done, self._bytes)


class LineProgress:
    """Says a line of a phase that takes long, once in some seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._name = self._unit = ""
        self._total = 0
        self._began = self._next = 0.0

    def phase(self, name: str, total: int, unit: str) -> None:
        with self._lock:
            self._name, self._total, self._unit = name, total, unit
            self._began = time.monotonic()
            self._next = self._began + LINE_SECONDS

    def at(self, done: int, size: int = 0) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + LINE_SECONDS
            text = how_far(done, self._total, self._unit, size=size, seconds=now - self._began)
            self._say(f"{self._name}: {text}")


class LogProgress(LineProgress):
    """Writes those lines to a log."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(lambda text: log.info("%s", text))


def how_far(done: int, total: int, unit: str, *, size: int = 0, seconds: float = 0.0) -> str:
    """Return how much is done, how many bytes that were, and how long the rest takes at this speed.

    >>> how_far(250, 1000, "rows"), how_far(5_000_000, 20_000_000, "bytes")
    ('250 of 1000 rows (25 %)', '5.0 MB of 20.0 MB (25 %)')
    >>> how_far(250, 1000, "rows", size=9_000_000, seconds=30.0)
    '250 of 1000 rows (25 %), 9.0 MB, about 90 s left'
    """
    percent = 100 * min(done, total) // total if total else 100
    if unit == "bytes":
        text = f"{size_text(done)} of {size_text(total)} ({percent} %)"
    else:
        text = f"{done} of {total} {unit} ({percent} %)"
    if size:
        text += f", {size_text(size)}"
    if 0 < done < total and seconds >= GUESS_SECONDS:
        text += f", about {seconds * (total - done) / done:.0f} s left"
    return text


def size_text(size: int | None) -> str:
    """Return bytes as people read them, in powers of 1000.

    >>> size_text(1234), size_text(987_654_321), size_text(None)
    ('1.2 kB', '987.7 MB', '-')
    """
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
