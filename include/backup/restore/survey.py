"""A target as it is before a restore: its rows, what a swap has to carry over, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from include.backup.connections import DatabaseConnection
from include.backup.manifest import Manifest
from include.backup.postgres.session import connect, query
from include.backup.text import one_line

# Below this a table is counted, above it the planner's estimate is good enough for a person.
COUNTED_BYTES = 256 << 20
COUNT_TIMEOUT = "60s"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """One database seen from beside it. ``grants`` are JSON: grantee (null: PUBLIC), privilege, grantable."""

    oid: int
    name: str
    owner: str
    connection_limit: int
    allows_connections: bool
    is_template: bool
    comment: str | None
    bytes: int
    system_identifier: str | None
    grants: tuple[str, ...]
    sessions: tuple[str, ...]
    slots: tuple[str, ...]
    subscriptions: tuple[str, ...]
    prepared: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """What tells this very database from another one of the same name."""
        return f"{self.name}, oid {self.oid}, of the cluster {self.system_identifier or 'unknown'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """A table's rows now and after the restore; None: the table is not there."""

    table: str
    now: int | None
    then: int | None
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCount:
    """How many rows a table has; ``exact`` False: what the planner believes."""

    rows: int
    exact: bool


def database_facts(session: psycopg.Connection[dict[str, Any]], database: str) -> DatabaseFacts | None:
    """Return what is known of a database from a session beside it; None when there is none."""
    rows = query(session, "target_database", {"database": database})
    if not rows:
        return None
    row: dict[str, Any] = dict(rows[0])
    lists = ("grants", "sessions", "slots", "subscriptions", "prepared")
    row |= {name: tuple(row[name]) for name in lists}
    return DatabaseFacts(**row)


def count_rows(connection: DatabaseConnection, database: str) -> dict[str, RowCount]:
    """Return the rows of each table of a database by ``schema.table``."""
    with connect(replace(connection, dbname=database)) as session:
        session.execute("SELECT set_config('statement_timeout', %s, false)", (COUNT_TIMEOUT,))
        found = {}
        for row in query(session, "target_tables"):
            found[f"{row['schema']}.{row['table']}"] = _count(session, row)
        return found


def publications(connection: DatabaseConnection, database: str) -> tuple[str, ...]:
    """Return the publications of a database; they move with the swap as the backup has them."""
    with connect(replace(connection, dbname=database)) as session:
        rows = session.execute("SELECT pubname::text AS name FROM pg_catalog.pg_publication ORDER BY 1").fetchall()
    return tuple(str(row["name"]) for row in rows)


def table_changes(now: dict[str, RowCount], manifest: Manifest) -> tuple[TableChange, ...]:
    """Return each table's rows now and in the backup, those that change the most first."""
    then: dict[str, int] = {}
    for table in manifest.table_data:
        name = f"{table.schema}.{table.table}"
        then[name] = then.get(name, 0) + table.rows
    found = []
    for name in {**now, **then}:
        count = now.get(name)
        found.append(
            TableChange(
                table=name,
                now=None if count is None else count.rows,
                then=then.get(name),
                estimated=count is not None and not count.exact,
            )
        )
    return tuple(sorted(found, key=lambda change: (-_difference(change), change.table)))


def change_lines(changes: Sequence[TableChange], *, most: int = 40) -> Iterator[str]:
    """Yield the changes as a table for a log."""
    shown = list(changes[:most])
    names = [one_line(change.table) for change in shown]
    width = max([len("table"), *map(len, names)])
    yield f"{'table':<{width}}  {'rows now':>12}  {'rows then':>12}  {'change':>12}"
    for name, change in zip(names, shown, strict=True):
        now = "not there" if change.now is None else f"{'~' if change.estimated else ''}{change.now}"
        then = "not there" if change.then is None else str(change.then)
        yield f"{name:<{width}}  {now:>12}  {then:>12}  {(change.then or 0) - (change.now or 0):>+12}"
    if len(changes) > most:
        yield f"and {len(changes) - most} more tables, none of which changes more"


def obstacles(facts: DatabaseFacts, *, in_place: bool = False) -> Iterable[str]:
    """Yield what makes a swap by rename, or a restore ``in_place``, impossible, or lose something without a word."""
    if facts.prepared:
        yield f"{len(facts.prepared)} prepared transactions are open in it ({', '.join(facts.prepared[:3])})"
    stay = "stay with the old database"
    if facts.subscriptions:
        then = "no longer know the tables that are made anew" if in_place else f"{stay} and go on writing there"
        yield f"the subscriptions {', '.join(facts.subscriptions)} {then}"
    if facts.slots:
        then = "pass the whole restore on to their readers" if in_place else f"{stay}; their readers would read nothing"
        yield f"the logical slots {', '.join(facts.slots)} {then}"


def _count(session: psycopg.Connection[dict[str, Any]], row: dict[str, Any]) -> RowCount:
    if row["bytes"] > COUNTED_BYTES:
        return RowCount(rows=row["estimate"], exact=False)
    statement = sql.SQL("SELECT count(*) AS rows FROM ONLY {}").format(sql.Identifier(row["schema"], row["table"]))
    try:
        found = session.execute(statement).fetchone()
    except psycopg.errors.QueryCanceled:
        return RowCount(rows=row["estimate"], exact=False)
    return RowCount(rows=int(found["rows"]) if found else 0, exact=True)


def _difference(change: TableChange) -> int:
    return abs((change.then or 0) - (change.now or 0)) + (change.now is None) + (change.then is None)
