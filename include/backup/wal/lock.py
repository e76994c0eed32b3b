"""One WAL run of a source at a time. A lock of its own: a dump of hours must not stop the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.backup.postgres.lock import source_lock

WAIT_SECONDS = 120.0


@contextmanager
def wal_lock(connection: psycopg.Connection[dict[str, Any]], source: str) -> Iterator[None]:
    """Hold the lock in this session; raises SourceBusyError when another run has it for too long."""
    with source_lock(connection, f"{source}/wal", wait_seconds=WAIT_SECONDS, on_wait=lambda text: None):
        yield
