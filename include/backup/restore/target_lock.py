"""One restore into a target at a time: an advisory lock beside the target, held while anything is done to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from include.backup.connections import DatabaseConnection
from include.backup.errors import SourceLoginError, TargetBusyError
from include.backup.postgres.lock import lock_holder, try_lock, unlock
from include.backup.postgres.session import connect

# Advisory locks are a database's own; every restore has to look in the same one.
MEETING_PLACE = "postgres"
LONGEST_APPLICATION_NAME = 63


def target_key(database: str) -> int:
    """Return the lock's key of a database by its name."""
    digest = hashlib.sha256(f"pulse-restore:{database}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def target_lock(
    connection: DatabaseConnection, database: str, *, holder: str
) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """Hold the target's lock; give the session that holds it, which is never in the target itself.

    Raises TargetBusyError naming who holds it.
    """
    named = replace(connection, application_name=f"pulse_restore {holder}"[:LONGEST_APPLICATION_NAME])
    key = target_key(database)
    with _meet(named) as session:
        if not try_lock(session, key):
            raise TargetBusyError(
                f"another restore into {database} on {connection.host}:{connection.port} is under way "
                f"({lock_holder(session, key)}); wait for it to end, then trigger a new run; nothing was changed"
            )
        try:
            yield session
        finally:
            unlock(session, key)


def _meet(connection: DatabaseConnection) -> psycopg.Connection[dict[str, Any]]:
    try:
        return connect(replace(connection, dbname=MEETING_PLACE), settings={})
    except SourceLoginError:
        return connect(connection, settings={})
