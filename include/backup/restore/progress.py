"""How far a restore is, told in bytes and rows."""

from __future__ import annotations

import threading
from typing import Protocol


class Progress(Protocol):
    """Who is told how far a restore is; may be called by any thread."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin a phase of ``total`` bytes or rows."""

    def at(self, done: int) -> None:
        """Say how much of the phase is done."""


class Counter:
    """Adds up what several threads have done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress.at(self._done)
