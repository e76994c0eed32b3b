"""The one lock per source: an advisory lock on the source itself, shared by DAGs and command line."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.backup.errors import SourceBusyError

logger = logging.getLogger(__name__)
IDLE_TIMEOUT_SINCE = 140000


def lock_key(source: str) -> int:
    """Return the advisory lock's key (a signed bigint) for a source.

    >>> lock_key("pulse_messages") == lock_key("pulse_messages")
    True
    """
    digest = hashlib.sha256(f"pulse-backup:{source}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def source_lock(
    connection: psycopg.Connection[dict[str, Any]],
    source: str,
    *,
    wait_seconds: float,
    on_wait: Callable[[str], None],
) -> Iterator[None]:
    """Hold the source's lock in this session; PostgreSQL lets go when the session ends.

    Raises SourceBusyError, naming who holds it, when it is not free within ``wait_seconds``.
    """
    key = lock_key(source)
    if not try_lock(connection, key):
        holder = lock_holder(connection, key)
        if wait_seconds <= 0 or not _wait_for(connection, key, wait_seconds, on_wait, holder):
            raise SourceBusyError(f"another backup of {source} is running ({holder}); wait for it to end and retry")
    try:
        yield
    finally:
        unlock(connection, key)


def try_lock(connection: psycopg.Connection[dict[str, Any]], key: int) -> bool:
    """Take an advisory lock of the session if it is free; the server lets the session idle from now on."""
    if connection.info.server_version >= IDLE_TIMEOUT_SINCE:
        # It idles for as long as the tools work, and with its end the lock would be gone.
        connection.execute("SET idle_session_timeout = 0")
    row = connection.execute("SELECT pg_try_advisory_lock(%s) AS got", (key,)).fetchone()
    return bool(row and row["got"])


def unlock(connection: psycopg.Connection[dict[str, Any]], key: int) -> None:
    """Let an advisory lock go; a session that ended before is told, and what was done under its lock still counts."""
    if connection.closed or connection.broken:
        return
    try:
        connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        logger.warning("the session of a lock ended before the work did (%s): another may have begun meanwhile", text)


def _wait_for(
    connection: psycopg.Connection[dict[str, Any]],
    key: int,
    wait_seconds: float,
    on_wait: Callable[[str], None],
    holder: str,
) -> bool:
    on_wait(f"waiting up to {wait_seconds:.0f} s for another backup of the source ({holder})")
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(wait_seconds * 1000)}ms",))
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (key,))
    except psycopg.errors.LockNotAvailable:
        return False
    connection.execute("SET lock_timeout = 0")
    return True


def lock_holder(connection: psycopg.Connection[dict[str, Any]], key: int) -> str:
    """Return who holds an advisory lock, for a person."""
    row = connection.execute(
        "SELECT a.pid, a.application_name, a.backend_start FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
        "   AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
        (key,),
    ).fetchone()
    if row is None:
        return "it has just ended"
    if row["backend_start"] is None:
        return f"pid {row['pid']}, of another role, which shows this one nothing else"
    return f"pid {row['pid']}, {row['application_name'] or 'no application name'}, since {row['backend_start']:%F %T}"
