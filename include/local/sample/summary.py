"""What a sample database holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import psycopg
from psycopg import sql

# Partitions are counted at their root, children of inheritance by themselves: no row twice.
_COUNTED_TABLES = """
SELECT n.nspname, c.relname, c.relkind = 'p'
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSummary:
    """What a sample database holds; `seconds` is how long loading took, 0.0 if it was there already."""

    database: str
    size_mb: int
    seed: int
    database_bytes: int
    messages: int
    messages_bytes: int
    tables: Mapping[str, int]
    large_objects: int
    seconds: float

    @property
    def rows(self) -> int:
        """Return how many rows all tables hold together."""
        return sum(self.tables.values())


def sample_is_loaded(conninfo: str) -> bool:
    """Tell whether the database holds the whole sample."""
    with psycopg.connect(conninfo) as connection:
        return loaded_size_and_seed(connection) is not None


def loaded_size_and_seed(connection: psycopg.Connection) -> tuple[int, int] | None:
    """Return the size and seed that the sample was loaded with, or None if it is not there."""
    present = _one(connection, "SELECT pg_catalog.to_regclass('private.sample_load') IS NOT NULL")[0]
    if not present:
        return None
    row = _one(connection, "SELECT size_mb, seed FROM private.sample_load")
    return cast(int, row[0]), cast(int, row[1])


def summarise_sample(connection: psycopg.Connection, *, seconds: float = 0.0) -> SampleSummary:
    """Count what the sample database holds."""
    row = _one(
        connection,
        """
        SELECT pg_catalog.current_database(), l.size_mb, l.seed, l.messages,
               pg_catalog.pg_database_size(pg_catalog.current_database()),
               pg_catalog.pg_total_relation_size('public.messages'),
               (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)
        FROM private.sample_load AS l
        """,
    )
    database, size_mb, seed, messages, database_bytes, messages_bytes, large_objects = row
    return SampleSummary(
        database=cast(str, database),
        size_mb=cast(int, size_mb),
        seed=cast(int, seed),
        database_bytes=cast(int, database_bytes),
        messages=cast(int, messages),
        messages_bytes=cast(int, messages_bytes),
        tables=count_rows(connection),
        large_objects=cast(int, large_objects),
        seconds=seconds,
    )


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    """Count the rows of every table of the application by its quoted name."""
    counts: dict[str, int] = {}
    for schema, table, is_partitioned in connection.execute(_COUNTED_TABLES).fetchall():
        name = sql.Identifier(schema, table)
        only = sql.SQL("") if is_partitioned else sql.SQL("ONLY ")
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}{}").format(only, name)).fetchone()
        counts[name.as_string(connection)] = cast(int, row[0]) if row else 0
    return counts


def _one(connection: psycopg.Connection, query: bytes | str) -> tuple[object, ...]:
    row = connection.execute(query.encode() if isinstance(query, str) else query).fetchone()
    if row is None:
        raise LookupError(f"no row from: {query!r}")
    return cast("tuple[object, ...]", row)
