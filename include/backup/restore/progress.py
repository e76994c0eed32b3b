"""How far a restore is, told in bytes and rows."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg

from include.backup.connections import DatabaseConnection
from include.backup.errors import SourceError
from include.backup.manifest import Manifest
from include.backup.postgres.session import connect

POLL_SECONDS = 1.0
_FINISHED = re.compile(r"finished item (?P<dump_id>\d+) TABLE DATA ")
_COPYING = (
    "SELECT coalesce(sum(tuples_processed), 0)::bigint AS rows FROM pg_catalog.pg_stat_progress_copy"
    " WHERE datname = %s AND command = 'COPY FROM'"
)


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


class LoadWatch:
    """Counts rows while pg_restore loads: whole tables by its messages, those in between by the server's view."""

    def __init__(self, endpoint: DatabaseConnection, manifest: Manifest, progress: Progress) -> None:
        self._endpoint = endpoint
        self._rows = {table.dump_id: table.rows for table in manifest.table_data}
        self._progress = progress
        self._finished = 0
        self._ended = threading.Event()

    def line(self, text: str) -> None:
        """Take one line of pg_restore's messages."""
        match = _FINISHED.search(text)
        if match:
            self._finished += self._rows.get(int(match["dump_id"]), 0)
            self._progress.at(self._finished)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ask the server once in a while, until the block ends."""
        thread = threading.Thread(target=self._poll, name="load-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _poll(self) -> None:
        try:
            with connect(self._endpoint, settings={}) as session:
                while not self._ended.wait(POLL_SECONDS):
                    row = session.execute(_COPYING, (self._endpoint.dbname,)).fetchone()
                    self._progress.at(self._finished + int(row["rows"] if row else 0))
        except (psycopg.Error, SourceError) as error:
            logging.getLogger(__name__).debug("the server does not say how far it is: %s", error)
