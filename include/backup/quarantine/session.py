"""How a session in a copy finds names, and how it changes definitions beside the copy's own event triggers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from include.backup.postgres.tools import EVENT_TRIGGERS_SINCE

Session = psycopg.Connection[dict[str, Any]]
# PostgreSQL's own functions by their names, and no others.
OWN_FUNCTIONS = "SET search_path TO pg_catalog"


@contextmanager
def search_path_of_copy(session: Session) -> Iterator[None]:
    """Find names as a person does who connects to the copy; what fails within ends the transaction or savepoint."""
    session.execute("RESET search_path")
    yield
    session.execute(OWN_FUNCTIONS)


@contextmanager
def changing_definitions(session: Session) -> Iterator[None]:
    """Change definitions, each named with its schema: event triggers that came with the copy fire, and log it in rows.

    A superuser does so without them: the rows stay those of the backup, and no function of the source's is run with a
    superuser's rights (before PostgreSQL 17, those that fire ALWAYS are). Any other role may not, and lets them find
    their tables as they do at the source.
    """
    if session.info.parameter_status("is_superuser") != "on":
        with search_path_of_copy(session):
            yield
        return
    by_setting = session.info.server_version // 10_000 >= EVENT_TRIGGERS_SINCE
    name, off = ("event_triggers", "off") if by_setting else ("session_replication_role", "replica")
    session.execute(f"SET {name} TO {off}")
    yield
    session.execute(f"RESET {name}")
