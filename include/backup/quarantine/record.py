"""The record of what is off, inside the copy itself: only one that this role or a superuser has made counts.

A source may bring a schema by its name along, with rows that somebody put there to have them run by a release. Such a
one stays as it was loaded, and the copy's own record has another name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from include.backup.quarantine.kinds import Item
from include.backup.quarantine.session import Session, changing_definitions

SCHEMA = "backup_quarantine"
_RECORDS = Path(__file__).resolve().parents[2] / "sql" / "quarantine" / "records.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seclusion:
    """One thing that is off; ``state`` is what it was."""

    kind: str
    name: str
    state: dict[str, Any]

    def line(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The table ``items`` of a schema."""

    session: Session
    schema: str

    def add(self, item: Item) -> None:
        """Note one thing; what is noted already stays as it was noted first."""
        self.session.execute(
            self._sql("INSERT INTO {}.items (kind, name, state) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"),
            (item.kind.value, item.name, Jsonb(dict(item.state))),
        )

    def items(self) -> tuple[Seclusion, ...]:
        """Return what is off."""
        rows = self.session.execute(self._sql("SELECT kind, name, state FROM {}.items ORDER BY kind, name")).fetchall()
        return tuple(Seclusion(kind=row["kind"], name=row["name"], state=row["state"]) for row in rows)

    def forget(self) -> None:
        """Remove it; nothing is off any more."""
        with changing_definitions(self.session):
            self.session.execute(self._sql("DROP SCHEMA {} CASCADE"))

    def _sql(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(sql.Identifier(self.schema))


def is_record(schema: str) -> bool:
    """Say whether a schema has the name of a record, whoever has made it.

    >>> is_record("backup_quarantine"), is_record("backup_quarantine_2"), is_record("backup_quarantine_log")
    (True, True, False)
    """
    return re.fullmatch(rf"{SCHEMA}(_[0-9]+)?", schema) is not None


def find_record(session: Session) -> Record | None:
    """Return the record of a database; None when it was never quarantined, or was released."""
    schema = next((row["schema"] for row in _records(session) if row["trusted"]), None)
    return None if schema is None else Record(session=session, schema=schema)


def strange_records(session: Session) -> tuple[str, ...]:
    """Return whose records do not count here."""
    return tuple(f"{row['schema']} of {row['owner']}" for row in _records(session) if not row["trusted"])


def make_record(session: Session, *, remark: str) -> Record:
    """Return the record, made where there was none; nobody else sees it. ``remark`` is for whoever finds its schema."""
    record = find_record(session) or Record(session=session, schema=_free_name(session))
    schema = sql.Identifier(record.schema)
    with changing_definitions(session):
        session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        session.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {}.items (kind pg_catalog.text NOT NULL, name pg_catalog.text NOT NULL,"
                " state pg_catalog.jsonb NOT NULL,"
                " switched_off_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (kind, name))"
            ).format(schema)
        )
    # A request that waits may hold a secret, and default privileges would show it to everybody.
    grantees = (sql.SQL("PUBLIC"), *map(sql.Identifier, _others(session, record)))
    with changing_definitions(session):
        for grantee in grantees:
            session.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(schema, grantee))
            session.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}").format(schema, grantee))
        session.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(remark)))
    return record


def _records(session: Session) -> list[dict[str, Any]]:
    return session.execute(_RECORDS.read_bytes()).fetchall()


def _free_name(session: Session) -> str:
    rows = session.execute("SELECT nspname::text AS name FROM pg_namespace").fetchall()
    taken = {row["name"] for row in rows}
    names = (SCHEMA if number == 1 else f"{SCHEMA}_{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def _others(session: Session, record: Record) -> list[str]:
    """Return who but the owner has been granted something by default privileges."""
    rows = session.execute(
        "SELECT DISTINCT pg_get_userbyid(a.grantee)::text AS name FROM pg_class c, aclexplode(c.relacl) a"
        " WHERE c.oid = to_regclass(%s) AND a.grantee NOT IN (0, c.relowner)",
        (f"{record.schema}.items",),
    ).fetchall()
    return [str(row["name"]) for row in rows]
