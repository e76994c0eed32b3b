"""Compare what is not rows but was set by the restore: sequences, and whether materialized views are filled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import psycopg

from include.backup.postgres.toc import Toc
from include.backup.proof.record import Difference
from include.backup.proof.schema import compare_populated, sequence_entries


def compare_sequences(
    connection: psycopg.Connection[dict[str, Any]], toc: Toc, *, skipped: Collection[int] = ()
) -> tuple[int, tuple[Difference, ...]]:
    """Compare each sequence with what the archive sets it to; return how many there are, and what differs."""
    count, differences = 0, []
    for name, value, is_called in sequence_entries(toc, skipped=skipped):
        count += 1
        found = _state(connection, name)
        if found != (value, is_called):
            detail = (
                "is not there after the restore" if found is None else f"is at {found}, not at {(value, is_called)}"
            )
            differences.append(Difference(what="SEQUENCE", name=name, detail=detail))
    return count, tuple(differences)


def _state(connection: psycopg.Connection[dict[str, Any]], name: str) -> tuple[int, bool] | None:
    """Return last value and whether it was called, or None; the name is as pg_dump quoted it."""
    try:
        row = connection.execute(b"SELECT last_value, is_called FROM " + name.encode()).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else (row["last_value"], row["is_called"])


def compare_views(
    connection: psycopg.Connection[dict[str, Any]], toc: Toc, *, skipped: Collection[int] = ()
) -> tuple[Difference, ...]:
    """Return the materialized views that are filled on one side only."""
    populated = connection.execute(
        "SELECT n.nspname || '.' || c.relname AS name FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'm' AND c.relispopulated"
    ).fetchall()
    return tuple(compare_populated(toc, [str(row["name"]) for row in populated], skipped=skipped))
