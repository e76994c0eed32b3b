"""Which relations' rows belong to the tables that a policy names, and which are left out of the dump."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.backup.errors import CriticalTableMissingError
from include.backup.postgres.toc import Toc

TABLE_KINDS = frozenset({"r", "p"})
_NO_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}
SUGGESTED = 3
SHOWN = 10


@dataclass(frozen=True, slots=True, order=True)
class RelationName:
    """A relation by schema and name, as they are, without quotes."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSelection:
    """The named tables, the relations that hold their rows, and those whose rows are left out."""

    tables: tuple[RelationName, ...]
    with_rows: frozenset[RelationName]
    without_data: tuple[RelationName, ...]

    def differences(self, toc: Toc) -> Iterator[str]:
        """Yield how a dump's table of contents does not fit: a table changed while the dump began."""
        made = {RelationName(entry.namespace, entry.tag) for entry in toc.entries if entry.desc == "TABLE"}
        filled = {RelationName(entry.namespace, entry.tag) for entry in toc.table_data}
        for table in sorted({*self.tables, *self.with_rows}):
            if table not in made or (table in self.with_rows and table not in filled):
                yield f"{table} was dropped or renamed"
        yield from (f"{name} was made or renamed" for name in sorted(filled - self.with_rows))


def select_tables(relations: Sequence[Mapping[str, Any]], wanted: Iterable[str]) -> TableSelection:
    """Return the rows that the tables named ``schema.table`` have: their own, and those of all their children.

    ``relations`` are the rows of catalog/data_relations.sql. A sequence that fills a column of theirs keeps its value.
    Raises CriticalTableMissingError naming every table that is not there.
    """
    names = {row["oid"]: RelationName(row["schema"], row["name"]) for row in relations}
    kinds = {name: row["kind"] for row in relations for name in (names[row["oid"]],)}
    tables = tuple(RelationName(*text.split(".", 1)) for text in wanted)
    _refuse_missing(tables, kinds)
    chosen = {oid for oid, name in names.items() if name in set(tables)}
    chosen |= {row["oid"] for row in relations if chosen & set(row["ancestors"])}
    kept = chosen | {row["oid"] for row in relations if chosen & set(row["used_by"])}
    return TableSelection(
        tables=tables,
        with_rows=frozenset(names[oid] for oid in chosen if kinds[names[oid]] == "r"),
        without_data=tuple(sorted(name for oid, name in names.items() if oid not in kept and kinds[name] not in "vf")),
    )


def _refuse_missing(tables: Iterable[RelationName], kinds: Mapping[RelationName, str]) -> None:
    problems = [_problem(table, kinds) for table in tables if kinds.get(table) not in TABLE_KINDS]
    if problems:
        raise CriticalTableMissingError(
            f"{'; '.join(problems[:SHOWN])}. Nothing was backed up: correct critical_tables in the policy, exact and "
            "without quotes, or bring the table back"
        )


def _problem(table: RelationName, kinds: Mapping[RelationName, str]) -> str:
    if table in kinds:
        return f"{table} is {_NO_TABLES[kinds[table]]}, no table"
    there = sorted(name for name, kind in kinds.items() if kind in TABLE_KINDS)
    moved = [str(name) for name in there if name.name == table.name]
    by_text = {str(name).lower(): str(name) for name in there}
    alike = difflib.get_close_matches(str(table).lower(), by_text, n=SUGGESTED)
    found = list(dict.fromkeys([*moved, *(by_text[text] for text in alike)]))[:SUGGESTED]
    hint = f" (there is {', '.join(found)})" if found else ""
    return f"the critical table {table} does not exist{hint}"
