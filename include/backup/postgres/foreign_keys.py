"""Foreign keys of an archive, made in two steps so that several tables are checked at once.

``ALTER TABLE … ADD FOREIGN KEY`` reads the rows while it holds SHARE ROW EXCLUSIVE on both tables, so that all keys
that lead to one table wait for each other, in pg_restore too. A key that is added NOT VALID holds that lock for a
moment; ``VALIDATE CONSTRAINT`` then reads the rows, with SHARE UPDATE EXCLUSIVE on its own table and ROW SHARE on the
other.
Source: https://www.postgresql.org/docs/current/sql-altertable.html, "ADD table_constraint [ NOT VALID ]". What is there
in the end is the same: a key that was checked against every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import psycopg

from include.backup.postgres.session import query
from include.backup.postgres.side_by_side import Session
from include.backup.postgres.toc import Section, TocEntry

# Of the session that adds keys, as pg_restore sets its own.
KEY_SETTINGS: Mapping[str, str] = MappingProxyType(
    {"search_path": "", "statement_timeout": "0", "lock_timeout": "0", "synchronous_commit": "off"}
)
_KEY = "FK CONSTRAINT"
_EVENT_TRIGGER = "EVENT TRIGGER"
# pg_dump leaves ONLY out for partitioned tables. A key that comes from one is added checked or not at all; one that
# leads to one is, up to PostgreSQL 17, added unchecked, and VALIDATE leaves what it is for each partition so.
_BEGIN = "ALTER TABLE ONLY "
_PARTED = "PARTITION BY "
# Keys in one transaction, which locks their tables.
BATCH = 100
_STAYS_UNCHECKED = (" NOT VALID;", " NOT ENFORCED;")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The entries after the rows: what pg_restore makes first, the keys, and what comes after them.

    The latter is what depends on a key, as remarks on it, and event triggers, which a key would set off.
    """

    first: tuple[TocEntry, ...]
    keys: tuple[TocEntry, ...]
    last: tuple[TocEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UncheckedKey:
    """A key that is there and was not checked; ``table`` is its table's oid, ``bytes`` that table's size.

    ``check`` is the statement that checks it.
    """

    oid: int
    table: int
    bytes: int
    check: str


def split_keys(entries: Sequence[TocEntry]) -> Split:
    """Part the entries of an archive that come after its rows, each in the archive's order."""
    parted = {entry.dump_id for entry in entries if entry.desc == "TABLE" and _PARTED in entry.definition}
    first: list[TocEntry] = []
    keys: list[TocEntry] = []
    last: list[TocEntry] = []
    behind: set[int] = set()
    for entry in entries:
        if entry.section is not Section.POST_DATA:
            continue
        if _can_wait(entry) and not parted.intersection(entry.dependencies):
            keys.append(entry)
        elif entry.desc == _EVENT_TRIGGER or behind.intersection(entry.dependencies):
            last.append(entry)
        else:
            first.append(entry)
            continue
        behind.add(entry.dump_id)
    return Split(first=tuple(first), keys=tuple(keys), last=tuple(last))


def add_unchecked(session: Session, keys: Sequence[TocEntry]) -> tuple[tuple[UncheckedKey, ...], tuple[TocEntry, ...]]:
    """Add keys without reading a row; return those to be checked, and the entries that have to be made checked.

    Raises psycopg.Error for what PostgreSQL refuses.
    """
    before = {key.oid for key in _unchecked(session)}
    refused: list[TocEntry] = []
    for begin in range(0, len(keys), BATCH):
        batch = keys[begin : begin + BATCH]
        try:
            with session.transaction():
                for entry in batch:
                    session.execute(_unchecked_statement(entry))
                if query(session, "unchecked_parts"):
                    raise psycopg.errors.FeatureNotSupported("VALIDATE CONSTRAINT would leave parts of a key unchecked")
        except (psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported):
            refused += batch
    return tuple(key for key in _unchecked(session) if key.oid not in before), tuple(refused)


def _can_wait(entry: TocEntry) -> bool:
    definition = entry.definition.rstrip()
    return entry.desc == _KEY and definition.startswith(_BEGIN) and not definition.endswith(_STAYS_UNCHECKED)


def _unchecked_statement(entry: TocEntry) -> bytes:
    definition = entry.definition.rstrip().removesuffix(";")
    return f"{definition} NOT VALID".encode("utf-8", "surrogateescape")


def _unchecked(session: Session) -> list[UncheckedKey]:
    return [
        UncheckedKey(oid=row["oid"], table=row["table_oid"], bytes=row["bytes"], check=str(row["statement"]))
        for row in query(session, "unchecked_keys")
    ]
