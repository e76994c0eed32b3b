"""What foreign keys would do: children that a merge touches or that stand in its way, and parents that are gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from include.backup.table_restore.catalog import (
    ACTIONS,
    Reference,
    Session,
    read_references,
    read_relation,
    read_triggers,
)
from include.backup.table_restore.names import TableName
from include.backup.table_restore.sql_parts import Part, differ, matching, same_key
from include.backup.table_restore.staged import Change, StagedTable, count_rows, scope_by

# What is done to a child when its parent goes; the other two actions refuse.
TOUCHING = frozenset("cnd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Rows of a child that hang on rows that a merge would delete or change, and what would happen to them.

    ``owner`` is who alone could keep the child's triggers from firing, None where this role can or none would fire.
    """

    table: str
    constraint: str
    action: str
    rows: int
    refuses: bool
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Rows of the archive whose parents would not be there."""

    table: str
    constraint: str
    parent: str
    rows: int


class Bonds:
    """The foreign keys around some staged tables."""

    def __init__(self, session: Session, staged: Sequence[StagedTable]) -> None:
        self._session = session
        self._staged = {table.relation.oid: table for table in staged}
        self._known: dict[int, tuple[Reference, ...]] = {}

    def order(self) -> list[StagedTable]:
        """Return the tables with parents before children, as far as that can be."""
        left, ordered = dict(self._staged), list[StagedTable]()
        while left:
            free = [oid for oid in left if not self._parents(oid) & (left.keys() - {oid})] or [next(iter(left))]
            ordered.extend(left.pop(oid) for oid in free)
        return ordered

    def touched(self) -> Iterator[Touched]:
        """Yield the children of rows that would be deleted, level by level, and of keys that would change."""
        for staged in self._staged.values():
            surplus = sql.SQL("EXISTS (SELECT FROM {} x WHERE {})").format(
                staged.keys(Change.SURPLUS), same_key(staged.key, "p0", "x")
            )
            if staged.counts[Change.SURPLUS]:
                yield from self._below(staged.relation.oid, surplus, depth=0, passed=frozenset())
            if staged.counts[Change.CHANGED]:
                yield from self._renamed(staged)

    def orphans(self, *, keeps_present: bool) -> Iterator[Orphans]:
        """Yield what of the archive would have no parent; ``keeps_present``: no parent is deleted."""
        for staged in self._staged.values():
            for reference in self._around(staged.relation.oid):
                if reference.child == staged.relation.oid:
                    count = self._without_parent(staged, reference, keeps_present=keeps_present)
                    if count:
                        yield Orphans(
                            table=str(staged.table.name),
                            constraint=reference.name,
                            parent=str(reference.parent_name),
                            rows=count,
                        )

    def children_to_lock(self) -> list[TableName]:
        """Return the tables whose rows a deletion could touch: nobody may add one meanwhile."""
        found: dict[int, TableName] = {}
        todo = list(self._staged)
        while todo:
            oid = todo.pop()
            for reference in self._around(oid):
                new = reference.parent == oid and reference.child not in found and reference.child not in self._staged
                if new and {reference.on_delete, reference.on_update} & TOUCHING:
                    found[reference.child] = reference.child_name
                    todo.append(reference.child)
        return list(found.values())

    def _around(self, oid: int) -> tuple[Reference, ...]:
        if oid not in self._known:
            self._known[oid] = read_references(self._session, [oid])
        return self._known[oid]

    def _parents(self, oid: int) -> set[int]:
        return {reference.parent for reference in self._around(oid) if reference.child == oid}

    def _below(
        self, oid: int, doomed: Part, *, depth: int, passed: frozenset[int], changed: frozenset[str] | None = None
    ) -> Iterator[Touched]:
        """Follow the foreign keys to a table whose rows ``p<depth>`` go where ``doomed`` holds, or change columns."""
        if changed is None:
            doomed = self._with_descendants(oid, doomed, f"p{depth}")
        for reference in self._around(oid):
            hit = changed is None or changed & set(reference.parent_columns)
            if reference.parent == oid and reference.oid not in passed and hit:
                yield from self._across(reference, doomed, depth=depth, passed=passed, deletes=changed is None)

    def _across(
        self, reference: Reference, doomed: Part, *, depth: int, passed: frozenset[int], deletes: bool
    ) -> Iterator[Touched]:
        """Follow one foreign key; its action deletes the children, or changes the columns by which they refer."""
        parent, child = f"p{depth}", f"p{depth + 1}"
        hangs = sql.SQL("EXISTS (SELECT FROM {} {} WHERE {} AND {})").format(
            scope_by(reference.parent_name.schema, reference.parent_name.table, reference.parent_kind),
            sql.Identifier(parent),
            matching(reference.parent_columns, reference.operators, reference.child_columns, left=parent, right=child),
            doomed,
        )
        action = reference.on_delete if deletes else reference.on_update
        rows = self._count_children(reference, child, hangs)
        if not rows:
            return
        yield self._touched(reference, action, "" if deletes else "ON UPDATE ", rows)
        if action in TOUCHING and not (deletes and _cascades_within(reference)):
            yield from self._below(
                reference.child,
                hangs,
                depth=depth + 1,
                passed=passed | {reference.oid},
                changed=None if deletes and action == "c" else frozenset(reference.child_columns),
            )

    def _with_descendants(self, oid: int, doomed: Part, alias: str) -> Part:
        """Let a condition hold for the rows below too, where a table's rows cascade to others of it at any depth."""
        own = [one for one in self._around(oid) if one.parent == oid and _cascades_within(one)]
        if not own:
            return doomed
        hangs = (
            matching(one.parent_columns, one.operators, one.child_columns, left="above", right="below") for one in own
        )
        return sql.SQL(
            "({alias}.tableoid, {alias}.ctid::text) IN (WITH RECURSIVE gone (part, place) AS ("
            "SELECT {alias}.tableoid, {alias}.ctid::text FROM {scope} {alias} WHERE {doomed}"
            " UNION SELECT below.tableoid, below.ctid::text FROM gone"
            " JOIN {scope} above ON above.tableoid = gone.part AND above.ctid = gone.place::tid"
            " JOIN {scope} below ON ({hangs})) SELECT part, place FROM gone)"
        ).format(
            alias=sql.Identifier(alias),
            scope=scope_by(own[0].parent_name.schema, own[0].parent_name.table, own[0].parent_kind),
            doomed=doomed,
            hangs=sql.SQL(") OR (").join(hangs),
        )

    def _count_children(self, reference: Reference, child: str, hangs: Part) -> int:
        """Count a child's rows, but for those that the merge itself deletes."""
        own = self._staged.get(reference.child)
        stays: Part = sql.SQL("true")
        if own is not None:
            stays = sql.SQL("NOT EXISTS (SELECT FROM {} y WHERE {})").format(
                own.keys(Change.SURPLUS), same_key(own.key, child, "y")
            )
        query = sql.SQL("SELECT count(*) AS n FROM {} {} WHERE {} AND {}").format(
            scope_by(reference.child_name.schema, reference.child_name.table, reference.child_kind),
            sql.Identifier(child),
            hangs,
            stays,
        )
        return count_rows(self._session, query)

    def _renamed(self, staged: StagedTable) -> Iterator[Touched]:
        """Yield the children of unique columns outside the key, where the merge would change them."""
        for reference in self._around(staged.relation.oid):
            columns = reference.parent_columns
            if reference.parent != staged.relation.oid or not set(columns) <= set(staged.columns):
                continue
            differs = sql.SQL("EXISTS (SELECT FROM {} x JOIN {} s ON {} WHERE {} AND {})").format(
                staged.keys(Change.CHANGED),
                staged.rows,
                same_key(staged.key, "s", "x"),
                same_key(staged.key, "p0", "x"),
                differ(columns, "p0", "s"),
            )
            yield from self._across(reference, differs, depth=0, passed=frozenset(), deletes=False)

    def _without_parent(self, staged: StagedTable, reference: Reference, *, keeps_present: bool) -> int:
        parent = self._staged.get(reference.parent)
        places: list[Part] = []
        if parent is None or keeps_present:
            places.append(scope_by(reference.parent_name.schema, reference.parent_name.table, reference.parent_kind))
        if parent is not None:
            places.append(parent.rows)
        found = sql.SQL(" AND ").join(
            sql.SQL("NOT EXISTS (SELECT FROM {} p WHERE {})").format(
                place,
                matching(reference.parent_columns, reference.operators, reference.child_columns, left="p", right="s"),
            )
            for place in places
        )
        changes = (Change.MISSING,) if keeps_present else (Change.MISSING, Change.CHANGED)
        new = sql.SQL(" OR ").join(
            sql.SQL("EXISTS (SELECT FROM {} x WHERE {})").format(staged.keys(change), same_key(staged.key, "s", "x"))
            for change in changes
        )
        whole = sql.SQL(" AND ").join(
            sql.SQL("pg_catalog.num_nulls(s.{}) = 0").format(sql.Identifier(column))
            for column in reference.child_columns
        )
        query = sql.SQL("SELECT count(*) AS n FROM {} s WHERE ({}) AND {} AND {}").format(
            staged.rows, new, whole, found
        )
        return count_rows(self._session, query)

    def _touched(self, reference: Reference, action: str, when: str, rows: int) -> Touched:
        return Touched(
            table=str(reference.child_name),
            constraint=reference.name,
            action=f"{when}{ACTIONS[action]}",
            rows=rows,
            refuses=action not in TOUCHING,
            owner=self._owner_of_triggers(reference.child_name) if action in TOUCHING else None,
        )

    def _owner_of_triggers(self, name: TableName) -> str | None:
        relation = read_relation(self._session, name)
        if relation is None or relation.may_own:
            return None
        fires = any(trigger.fires for trigger in read_triggers(self._session, relation.parts))
        return relation.owner if fires else None


def _cascades_within(reference: Reference) -> bool:
    return reference.child == reference.parent and reference.on_delete == "c"
