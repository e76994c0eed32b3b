"""Statistics for the planner, which a restore brings none of: ANALYZE of all tables, several at once.

``ANALYZE`` of a whole database reads one table after the other in one session.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg

from include.backup.postgres.session import Endpoint, connect, query

# Smaller tables are not worth a task of their own.
LARGE_BYTES = 1 << 23
_SETTINGS = {"statement_timeout": "0"}


def analyze(endpoint: Endpoint, *, jobs: int) -> None:
    """Analyze every table of a database, its catalog's too, in ``jobs`` sessions; raises psycopg.Error.

    Tables that this role may not analyze are passed over, as PostgreSQL does for the whole database.
    """
    with connect(endpoint, settings=_SETTINGS) as session:
        tables = [(str(row["name"]), int(row["bytes"])) for row in query(session, "analyzed_tables")]
    with ThreadPoolExecutor(jobs, thread_name_prefix="analyze") as pool:
        for future in [pool.submit(_analyze, endpoint, names) for names in shares(tables)]:
            future.result()


def shares(tables: Iterable[tuple[str, int]]) -> list[list[str]]:
    """Return each large table alone, and all the small ones together at the end.

    >>> shares([("a", 1 << 30), ("b", 5), ("c", 4)])
    [['a'], ['b', 'c']]
    """
    large, small = [], []
    for name, size in tables:
        if size >= LARGE_BYTES:
            large.append([name])
        else:
            small.append(name)
    return [*large, small] if small else large


def _analyze(endpoint: Endpoint, names: list[str]) -> None:
    with connect(endpoint, settings=_SETTINGS) as session:
        for name in names:
            with suppress(psycopg.errors.UndefinedTable):  # somebody has dropped it meanwhile
                session.execute(f"ANALYZE {name}".encode())
