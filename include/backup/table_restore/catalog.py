"""What a server's catalogue says of the tables that rows go into, and of what hangs on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from include.backup.postgres.session import query
from include.backup.table_restore.names import TableName

Session = psycopg.Connection[dict[str, Any]]
ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
# Triggers in these states fire in an ordinary session; with what gives each its state again.
FIRING = {"O": "ENABLE", "A": "ENABLE ALWAYS"}
KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; ``labels`` are an enum's, ``shape`` what a domain or composite type is made of."""

    name: str
    type: str
    collation: str | None
    generated: bool
    always_identity: bool
    labels: tuple[str, ...]
    shape: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Columns by which rows are matched, and the operators that say that two values are the same key."""

    name: str
    columns: tuple[str, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A trigger and its state (tgenabled)."""

    relation: tuple[str, str]
    name: str
    state: str

    @property
    def fires(self) -> bool:
        return self.state in FIRING


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedSequence:
    """A sequence behind a column; ``owned`` says that it goes where the column's table goes."""

    schema: str
    table: str
    column: str
    owned: bool
    ascending: bool
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table of the target."""

    name: TableName
    oid: int
    kind: str
    owner: str
    may_own: bool
    bytes: int
    rules: tuple[str, ...]
    parts: tuple[int, ...]
    columns: tuple[Column, ...]
    key: Key | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key; ``operators`` compare a parent's value with a child's."""

    oid: int
    name: str
    child: int
    parent: int
    child_name: TableName
    parent_name: TableName
    child_kind: str
    parent_kind: str
    on_delete: str
    on_update: str
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    operators: tuple[str, ...]


def read_relation(session: Session, name: TableName) -> Relation | None:
    """Return a table, or None when there is no relation of that name."""
    found = query(session, "table_relation", {"schema": name.schema, "table": name.table})
    if not found:
        return None
    row = found[0]
    keys = query(session, "table_keys", {"oid": row["oid"]})
    key = None
    if keys:
        first = keys[0]
        key = Key(name=first["name"], columns=tuple(first["columns"]), operators=tuple(first["operators"]))
    return Relation(
        name=name,
        oid=row["oid"],
        kind=row["kind"],
        owner=row["owner"],
        may_own=row["may_own"],
        bytes=row["bytes"],
        rules=tuple(row["rules"]),
        parts=tuple(row["parts"]),
        columns=read_columns(session, row["oid"]),
        key=key,
    )


def read_columns(session: Session, oid: int) -> tuple[Column, ...]:
    """Return the columns of a table."""
    rows = query(session, "table_columns", {"oid": oid})
    return tuple(Column(**{**row, "labels": tuple(row["labels"])}) for row in rows)


def read_references(session: Session, oids: Iterable[int]) -> tuple[Reference, ...]:
    """Return the foreign keys from and to these tables."""
    rows = query(session, "table_references", {"oids": list(oids)})
    return tuple(
        Reference(
            **{name: row[name] for name in ("oid", "name", "child", "parent", "child_kind", "parent_kind")},
            child_name=TableName(schema=row["child_schema"], table=row["child_table"]),
            parent_name=TableName(schema=row["parent_schema"], table=row["parent_table"]),
            on_delete=row["on_delete"],
            on_update=row["on_update"],
            child_columns=tuple(row["child_columns"]),
            parent_columns=tuple(row["parent_columns"]),
            operators=tuple(row["operators"]),
        )
        for row in rows
    )


def read_triggers(session: Session, oids: Iterable[int]) -> tuple[Trigger, ...]:
    """Return the triggers of these tables that are not PostgreSQL's own."""
    return tuple(
        Trigger(**{**row, "relation": tuple(row["relation"])})
        for row in query(session, "table_triggers", {"oids": list(oids)})
    )


def read_sequences(session: Session, oids: Iterable[int]) -> tuple[OwnedSequence, ...]:
    """Return the sequences behind these tables' columns."""
    rows = query(session, "table_sequences", {"oids": list(oids)})
    return tuple(
        OwnedSequence(
            **{name: row[name] for name in ("schema", "owned", "ascending", "least", "most")},
            table=row["name"],
            column=row["column_name"],
        )
        for row in rows
    )


def drift(archived: Sequence[Column], present: Sequence[Column]) -> tuple[str, ...]:
    """Return how the columns that hold data differ; an enum may have gained labels, all else is a difference."""
    old = {column.name: column for column in archived if not column.generated}
    new = {column.name: column for column in present if not column.generated}
    found = [f"column {name} is not there any more" for name in old if name not in new]
    found += [f"column {name} is new" for name in new if name not in old]
    for name, column in old.items():
        if name in new:
            found.extend(f"column {name} {text}" for text in _changes(column, new[name]))
    return tuple(found)


def _changes(old: Column, new: Column) -> Iterable[str]:
    if old.type != new.type:
        yield f"was {old.type} and is {new.type}"
    elif (old.shape, old.collation) != (new.shape, new.collation):
        yield f"has a type {old.type} that was changed"
    if lost := sorted(set(old.labels) - set(new.labels)):
        yield f"may not be {', '.join(lost)} any more"
