"""What is left when rows and indexes are there: foreign keys to be checked, and statistics for the planner.

A restore brings no statistics, and ``ANALYZE`` of a whole database reads one table after the other in one session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import psycopg

from include.backup.postgres.foreign_keys import KEY_SETTINGS, UncheckedKey
from include.backup.postgres.session import Endpoint, connect, query
from include.backup.postgres.side_by_side import Session, side_by_side


def finish(
    endpoint: Endpoint,
    *,
    jobs: int,
    keys: Sequence[UncheckedKey] = (),
    statistics: bool = True,
    settings: Mapping[str, str] | None = None,
    on_key: Callable[[], None] = lambda: None,
) -> None:
    """Check the keys of every table and, for ``statistics``, analyze it, the catalog's too; raises psycopg.Error.

    Tables are shared out among ``jobs`` sessions, those with most to read first. ``on_key`` is called for each key that
    holds. Tables that this role may not analyze are passed over, as PostgreSQL does for the whole database.
    """
    tables = _analyzed_tables(endpoint) if statistics else {}
    reads = {oid: size for oid, (_, size) in tables.items()}
    of_table: dict[int, list[UncheckedKey]] = {}
    for key in keys:
        of_table.setdefault(key.table, []).append(key)
        reads[key.table] = reads.get(key.table, 0) + key.bytes
    works = [
        partial(_finish_table, tables[oid][0] if oid in tables else None, of_table.get(oid, ()), on_key)
        for oid in sorted(reads, key=lambda oid: -reads[oid])
    ]
    side_by_side(endpoint, works, jobs=jobs, settings={**KEY_SETTINGS, **(settings or {})})


def _analyzed_tables(endpoint: Endpoint) -> dict[int, tuple[str, int]]:
    """Return name and bytes of each table, by its oid."""
    with connect(endpoint, settings=KEY_SETTINGS) as session:
        return {int(row["oid"]): (str(row["name"]), int(row["bytes"])) for row in query(session, "analyzed_tables")}


def _finish_table(name: str | None, keys: Sequence[UncheckedKey], on_key: Callable[[], None], session: Session) -> None:
    for key in keys:
        session.execute(key.check.encode())
        on_key()
    if name is not None:
        with suppress(psycopg.errors.UndefinedTable):  # somebody has dropped it meanwhile
            session.execute(f"ANALYZE {name}".encode())
