"""What a database has taken since some moment, by PostgreSQL's statistics: what going back would lose from view."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from include.backup.connections import DatabaseConnection
from include.backup.postgres.session import connect
from include.backup.postgres.toc import TocEntry
from include.backup.records import from_json, to_json
from include.backup.restore.order import record_key
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
NAME = "written"
_COUNTS = (
    "WITH known AS (SELECT c.oid FROM unnest(%(spaces)s::text[], %(tags)s::text[]) AS t (space, tag)"
    " JOIN pg_catalog.pg_namespace n ON n.nspname = t.space"
    " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tag)"
    " SELECT format('%%I.%%I', schemaname, relname) AS name, n_tup_ins AS inserted, n_tup_upd AS updated,"
    " n_tup_del AS deleted FROM pg_catalog.pg_stat_user_tables"
    " WHERE %(spaces)s::text[] IS NULL OR relid IN (SELECT oid FROM known)"
    # A new partition goes with its table, wherever it is.
    " OR EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(relid) a WHERE a IN (SELECT oid FROM known)) ORDER BY 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Rows that a table has taken; the load of a restore counts too."""

    table: str
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counts of all tables at one moment."""

    tables: tuple[Written, ...]


def written(
    connection: DatabaseConnection, database: str, *, tables: Collection[TocEntry] | None = None
) -> tuple[Written, ...]:
    """Return what each table of a database, or only these with their partitions, has taken since it was made."""
    names: dict[str, list[str] | None] = {"spaces": None, "tags": None}
    if tables is not None:
        names = {"spaces": [table.namespace for table in tables], "tags": [table.tag for table in tables]}
    with connect(replace(connection, dbname=database)) as session:
        rows = session.execute(_COUNTS, names).fetchall()
    return tuple(
        Written(table=str(row["name"]), inserted=row["inserted"], updated=row["updated"], deleted=row["deleted"])
        for row in rows
    )


def written_since(before: tuple[Written, ...], now: tuple[Written, ...]) -> tuple[Written, ...]:
    """Return what each table took between two looks, without those that took nothing.

    >>> one = Written(table="t", inserted=5, updated=0, deleted=0)
    >>> written_since((one,), (replace(one, inserted=7),))
    (Written(table='t', inserted=2, updated=0, deleted=0),)
    """
    known = {item.table: item for item in before}
    nothing = Written(table="", inserted=0, updated=0, deleted=0)
    changes = []
    for item in now:
        old = known.get(item.table, nothing)
        change = Written(
            table=item.table,
            inserted=max(item.inserted - old.inserted, 0),
            updated=max(item.updated - old.updated, 0),
            deleted=max(item.deleted - old.deleted, 0),
        )
        if change.inserted or change.updated or change.deleted:
            changes.append(change)
    return tuple(changes)


def began_anew(before: tuple[Written, ...], now: tuple[Written, ...]) -> tuple[str, ...]:
    """Return the tables whose counters went back between two looks: after a crash, a reset, or with a new table.

    >>> one = Written(table="t", inserted=5, updated=0, deleted=0)
    >>> began_anew((one,), (replace(one, inserted=4, updated=9),))
    ('t',)
    """
    known = {item.table: item for item in before}
    names = ("inserted", "updated", "deleted")
    return tuple(
        item.table
        for item in now
        if item.table in known and any(getattr(item, name) < getattr(known[item.table], name) for name in names)
    )


def counts_json(connection: DatabaseConnection, database: str) -> bytes:
    """Return what each table of a database has taken, as it is written down."""
    return to_json(Counts(tables=written(connection, database)), format_version=FORMAT_VERSION)


def keep_written(
    store: ObjectStore, restore_id: str, connection: DatabaseConnection, database: str, *, encryption: Encryption
) -> None:
    """Write down what a database had taken when it came into its place; the first time counts.

    A later try may find it closed, and does not look.
    """
    key = record_key(restore_id, NAME)
    if store.head(key) is None:
        store.put_if_absent(key, counts_json(connection, database), encryption=encryption)


def read_written(store: ObjectStore, restore_id: str, *, name: str = NAME) -> tuple[Written, ...]:
    """Return what was written down; nothing when it never was."""
    key = record_key(restore_id, name)
    if store.head(key) is None:
        return ()
    return from_json(Counts, store.get(key), format_version=FORMAT_VERSION, name=key).tables
