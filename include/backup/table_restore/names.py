"""Which tables of an archive a person means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.manifest import Manifest, Member, TableData
from include.backup.postgres.toc import Toc, TocEntry, parse_copy

_PART = r'"(?:[^"]|"")+"|[^".]+'
_NAME = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<table>{_PART})")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_VIEWS = ("VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE")
NEAR = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TableName:
    """A schema and a table, as they are stored."""

    schema: str
    table: str

    def __str__(self) -> str:
        """Return the name as a person writes it, and as it can be given again."""
        return f"{_shown(self.schema)}.{_shown(self.table)}"

    @property
    def quoted(self) -> str:
        """The name for SQL text; always quoted."""
        return f"{_quoted(self.schema)}.{_quoted(self.table)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenTable:
    """A table of the archive, its partitions, and the members that hold their rows."""

    name: TableName
    entry: TocEntry
    parts: tuple[TocEntry, ...]
    members: tuple[Member, ...]

    @property
    def data(self) -> tuple[TableData, ...]:
        return tuple(member.table_data for member in self.members if member.table_data is not None)

    @property
    def rows(self) -> int:
        return sum(data.rows for data in self.data)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the archive holds, in the order of its COPY."""
        return column_names(parse_copy(self.data[0].copy_statement).columns) if self.data else ()


def parse_table_name(text: str) -> tuple[str | None, str]:
    """Split a name as a person writes it: letters as they are, odd names in double quotes.

    >>> parse_table_name("public.users"), parse_table_name('"My.Schema"."a ""b"" c"')
    (('public', 'users'), ('My.Schema', 'a "b" c'))
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise ParameterError(
            f'{text!r} is no table name; write schema.table, with double quotes around an odd part ("My Schema".table)'
        )
    schema = match["schema"]
    return None if schema is None else _unquoted(schema), _unquoted(match["table"])


def column_names(columns: str) -> tuple[str, ...]:
    """Return the names of a COPY statement's column list.

    >>> column_names('(id, "odd, ""one"" name") ')
    ('id', 'odd, "one" name')
    """
    inside = columns.strip()[1:-1]
    return tuple(_unquoted(part) for part in re.findall(r'"(?:[^"]|"")*"|[^", ]+', inside))


def choose_tables(toc: Toc, manifest: Manifest, texts: Sequence[str]) -> tuple[ChosenTable, ...]:
    """Return the tables that the texts name, in that order.

    Raises ParameterError for no name, an unknown one (with those that are near), an ambiguous one, or one twice;
    RestoreRefusedError for what has no rows in the archive.
    """
    if not texts:
        raise ParameterError("no table is named; name one or several, e.g. public.messages")
    tables = {TableName(schema=entry.namespace, table=entry.tag): entry for entry in toc.entries if _is_table(entry)}
    found: dict[TableName, TocEntry] = {}
    for text in texts:
        name = _find(toc, tables, text, manifest)
        if name in found:
            raise ParameterError(f"{name} is named twice; name each table once")
        found[name] = tables[name]
    chosen = tuple(_chosen(toc, manifest, name, entry) for name, entry in found.items())
    _check_overlap(chosen)
    return chosen


def _find(toc: Toc, tables: dict[TableName, TocEntry], text: str, manifest: Manifest) -> TableName:
    schema, table = parse_table_name(text)
    matching = [name for name in tables if name.table == table and schema in (None, name.schema)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(map(str, sorted(matching)))
        raise ParameterError(
            f"{table} is in several schemas of {manifest.backup_id}: {names}; name one with its schema"
        )
    for entry in toc.entries:
        if entry.desc in _VIEWS and entry.tag == table and schema in (None, entry.namespace):
            raise RestoreRefusedError(
                f"{entry.namespace}.{table} is a {entry.desc.lower()}, which holds no rows of its own; "
                "name the tables under it"
            )
    schemas = sorted({name.schema for name in tables})
    if schema is not None and schema not in schemas:
        near = _near(schema, schemas) or f"; it has {', '.join(schemas)}"
        raise ParameterError(f"{manifest.backup_id} has no tables in a schema {schema}{near}")
    shown = {str(name): name for name in tables} if schema else {name.table: name for name in tables}
    wanted = str(TableName(schema=schema, table=table)) if schema else table
    raise ParameterError(
        f"{manifest.backup_id} has no table {wanted}{_near(wanted, list(shown))}; "
        f"`python -m include.backup show {manifest.source} {manifest.backup_id}` lists what it holds"
    )


def _near(wanted: str, names: Sequence[str]) -> str:
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(wanted.casefold(), folded, n=NEAR, cutoff=0.6)
    return f"; near: {', '.join(folded[name] for name in near)}" if near else ""


def _chosen(toc: Toc, manifest: Manifest, name: TableName, entry: TocEntry) -> ChosenTable:
    parts = tuple(_with_partitions(toc, entry))
    names = {(part.namespace, part.tag) for part in parts}
    members = tuple(
        member
        for member in manifest.members
        if member.table_data is not None and (member.table_data.schema, member.table_data.table) in names
    )
    relations = {_quoted_parts(parse_copy(data.copy_statement).relation) for m in members if (data := m.table_data)}
    if outside := relations - names:
        ((schema, table),) = list(outside)[:1]
        raise RestoreRefusedError(
            f"{name} is a partition whose rows go wherever its parent puts them; "
            f"name the parent, {TableName(schema=schema, table=table)}"
        )
    if not members:
        raise RestoreRefusedError(f"{manifest.backup_id} holds no rows of {name}; its data was left out of the dump")
    return ChosenTable(name=name, entry=entry, parts=parts, members=members)


def _with_partitions(toc: Toc, entry: TocEntry) -> Iterator[TocEntry]:
    yield entry
    by_id = {other.dump_id: other for other in toc.entries if _is_table(other)}
    for attach in toc.entries:
        if attach.desc == "TABLE ATTACH" and entry.dump_id in attach.dependencies:
            for dependency in attach.dependencies:
                child = by_id.get(dependency)
                if child and (child.namespace, child.tag) == (attach.namespace, attach.tag) and child is not entry:
                    yield from _with_partitions(toc, child)


def _check_overlap(chosen: Sequence[ChosenTable]) -> None:
    seen: dict[int, TableName] = {}
    for table in chosen:
        for part in table.parts:
            if part.dump_id in seen:
                raise ParameterError(f"{table.name} and {seen[part.dump_id]} share a partition; name only the parent")
            seen[part.dump_id] = table.name


def _is_table(entry: TocEntry) -> bool:
    return entry.desc == "TABLE"


def _quoted_parts(relation: str) -> tuple[str, str]:
    schema, table = parse_table_name(relation)
    return schema or "", table


def _shown(part: str) -> str:
    return part if _PLAIN.fullmatch(part) else _quoted(part)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
