"""One WAL run of a source at a time, and each for a limited time. A dump of hours must not stop the log."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from include.backup.errors import WalTimeoutError
from include.backup.postgres.lock import source_lock

WAIT_SECONDS = 120.0


@contextmanager
def wal_lock(connection: psycopg.Connection[dict[str, Any]], source: str) -> Iterator[None]:
    """Hold the lock in this session; raises SourceBusyError when another run has it for too long."""
    with source_lock(connection, f"{source}/wal", wait_seconds=WAIT_SECONDS, on_wait=lambda text: None):
        yield


@contextmanager
def bounded(connection: psycopg.Connection[dict[str, Any]], *, seconds: float) -> Iterator[None]:
    """Cut a session's connection when time is up: a query to a network that is gone would wait for ever.

    Raises WalTimeoutError then, whatever the block raised.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error as error:
        if not late.is_set():
            raise
        raise WalTimeoutError(
            f"the source did not answer within {seconds:.0f} s; nothing is lost, it keeps its log: look at its load "
            "and the network, the next run goes on"
        ) from error
    finally:
        timer.cancel()
