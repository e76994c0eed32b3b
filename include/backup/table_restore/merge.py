"""Merge the archive's rows into tables by key, in one transaction: all that hangs on the tables stays as it is.

TRUNCATE would be refused by foreign keys, DELETE and INSERT would cascade, and the replica role would leave orphans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from include.backup.errors import RestoreDiffersError
from include.backup.postgres.toc import Toc, parse_setval
from include.backup.table_restore.catalog import (
    FIRING,
    OwnedSequence,
    Relation,
    Session,
    Trigger,
    read_sequences,
    read_triggers,
)
from include.backup.table_restore.sql_parts import fields, names, same_key
from include.backup.table_restore.staged import Change, StagedTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did to one table."""

    table: str
    inserted: int
    updated: int
    deleted: int


def apply(
    session: Session, ordered: Sequence[StagedTable], *, children: Sequence[Relation], toc: Toc, replace: bool
) -> tuple[Merged, ...]:
    """Change the tables, parents before children, within the transaction that the caller has begun and locked.

    Without ``replace`` only missing rows are added. No trigger of the tables fires, nor one of ``children``, whose rows
    foreign keys may delete or change. Ends with a comparison; raises RestoreDiffersError when it fails, and then the
    caller rolls everything back.
    """
    relations = (*(table.relation for table in ordered), *children)
    triggers = read_triggers(session, [oid for relation in relations for oid in relation.parts])
    _switch_off(session, triggers)
    deleted = {}
    if replace:
        deleted = {table.number: _delete(table) for table in reversed(ordered)}
    merged = []
    for table in ordered:
        updated, inserted = _update_and_insert(table) if replace else (0, _insert(table))
        merged.append(
            Merged(
                table=str(table.table.name),
                inserted=inserted,
                updated=updated,
                deleted=deleted.get(table.number, 0),
            )
        )
    session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    _switch_on(session, triggers)
    for table in ordered:
        _check(table, replace=replace)
    for table in ordered:
        _advance(session, table, toc)
    return tuple(merged)


def _delete(table: StagedTable) -> int:
    query = sql.SQL("DELETE FROM {} t USING {} x WHERE {}").format(
        table.scope, table.keys(Change.SURPLUS), same_key(table.key, "t", "x")
    )
    return table.session.execute(query).rowcount


def _update_and_insert(table: StagedTable) -> tuple[int, int]:
    """Change rows back and add what is missing; return how many each.

    In one statement, at whose end PostgreSQL checks foreign keys: a row that is changed back may refer to a missing
    one of the same table. Changes come first all the same, since unique keys are checked at once, and a row that is
    added may need a value that another one still has.
    """
    update = _update(table)
    if update is None:
        return 0, _insert(table)
    query = sql.SQL(
        "WITH updated AS ({} RETURNING 1), inserted AS ({} AND (SELECT count(*) FROM updated) >= 0 RETURNING 1)"
        " SELECT (SELECT count(*) FROM updated) AS updated, (SELECT count(*) FROM inserted) AS inserted"
    ).format(update, _insertion(table))
    row = table.session.execute(query).fetchone() or {}
    return int(row["updated"]), int(row["inserted"])


def _update(table: StagedTable) -> sql.Composed | None:
    columns = [column for column in table.columns if column not in table.always_identity]
    if not columns or not table.counts[Change.CHANGED]:
        return None
    return sql.SQL("UPDATE {} t SET ({}) = ROW({}) FROM {} s, {} x WHERE {} AND {}").format(
        table.scope,
        names(columns),
        fields("s", columns),
        table.rows,
        table.keys(Change.CHANGED),
        same_key(table.key, "t", "x"),
        same_key(table.key, "s", "x"),
    )


def _insert(table: StagedTable) -> int:
    return table.session.execute(_insertion(table)).rowcount


def _insertion(table: StagedTable) -> sql.Composed:
    """Add what is not there now; also what a cascade of this very merge has taken away."""
    return sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} s WHERE NOT EXISTS (SELECT FROM {} t WHERE {})"
    ).format(
        sql.Identifier(table.table.name.schema, table.table.name.table),
        names(table.columns),
        fields("s", table.columns),
        table.rows,
        table.scope,
        same_key(table.key, "t", "s"),
    )


def _switch_off(session: Session, triggers: Sequence[Trigger]) -> None:
    for trigger in triggers:
        if trigger.fires:
            _alter(session, trigger, "DISABLE")


def _switch_on(session: Session, triggers: Sequence[Trigger]) -> None:
    """Give each trigger the state that it had, not just ENABLE: some fire always, some were off."""
    for trigger in triggers:
        if trigger.fires:
            _alter(session, trigger, FIRING[trigger.state])


def _alter(session: Session, trigger: Trigger, verb: str) -> None:
    session.execute(
        sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(
            sql.Identifier(*trigger.relation), sql.SQL(verb), sql.Identifier(trigger.name)
        )
    )


def _check(table: StagedTable, *, replace: bool) -> None:
    """Compare what is there now: every row by its text when all were replaced, else that none is missing."""
    name = table.table.name
    if replace:
        found = table.digest()
        if found != table.wanted:
            raise RestoreDiffersError(
                f"{name} has {found.rows} rows after the merge that are not the archive's {table.wanted.rows}; "
                "all was rolled back, restore it beside and report this"
            )
        return
    changed, surplus = table.counts[Change.CHANGED], table.counts[Change.SURPLUS]
    table.compare()
    now = table.counts
    if now[Change.MISSING] or (now[Change.CHANGED], now[Change.SURPLUS]) != (changed, surplus):
        raise RestoreDiffersError(
            f"{name} lacks {now[Change.MISSING]} rows after they were added, or others have changed; "
            "all was rolled back, restore it beside and report this"
        )


def _advance(session: Session, table: StagedTable, toc: Toc) -> None:
    """Let sequences go on after the highest of what they are at, what the archive says and what the rows hold."""
    archived = {
        (entry.namespace, entry.tag): parse_setval(entry.definition).value
        for entry in toc.entries
        if entry.desc == "SEQUENCE SET"
    }
    for sequence in read_sequences(session, [table.relation.oid]):
        if sequence.column in table.columns:
            _advance_one(session, table, sequence, archived.get((sequence.schema, sequence.table)))


def _advance_one(session: Session, table: StagedTable, sequence: OwnedSequence, archived: int | None) -> None:
    name = sql.Identifier(sequence.schema, sequence.table)
    far = sql.SQL("max" if sequence.ascending else "min")
    further = sql.SQL("greatest" if sequence.ascending else "least")
    column = sql.Identifier(sequence.column)
    query = sql.SQL("SELECT q.last_value, q.is_called, (SELECT {}(t.{})::bigint FROM {} t) AS held FROM {} q").format(
        far, column, table.scope, name
    )
    row = session.execute(query).fetchone() or {}
    values = [value for value in (row["held"], archived) if value is not None]
    values = [value for value in values if sequence.least <= value <= sequence.most]
    if not values:
        return
    wanted = max(values) if sequence.ascending else min(values)
    behind = wanted > row["last_value"] if sequence.ascending else wanted < row["last_value"]
    if behind or (wanted == row["last_value"] and not row["is_called"]):
        session.execute(
            sql.SQL("SELECT pg_catalog.setval({}::regclass, {}(last_value, {}), true) FROM {}").format(
                sql.Literal(name.as_string(session)), further, sql.Literal(wanted), name
            )
        )
