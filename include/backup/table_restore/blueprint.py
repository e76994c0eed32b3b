"""The archive's own definitions of some tables: made without rows on a throw-away server, and read there.

Only a server can say what an archive's text means. It is a scratch server, so that no code of the archive runs
where anything else is; and of toc.dat alone, since no rows are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.errors import RestoreError, RestoreRefusedError
from include.backup.manifest import Manifest
from include.backup.postgres.commands import pattern, pg_dump_command, pg_restore_script_command
from include.backup.postgres.session import connect, query
from include.backup.postgres.toc import Section, SequenceValue, Toc, TocEntry, parse_setval, read_toc
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.process import Runner
from include.backup.proof.gaps import Gaps
from include.backup.proof.loading import ScratchLoader
from include.backup.proof.scratch import ScratchServer
from include.backup.table_restore.catalog import Column, Session, read_columns, read_relation, read_sequences
from include.backup.table_restore.names import ChosenTable, TableName

_AFTER = frozenset(
    {"CHECK CONSTRAINT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH", "ROW SECURITY"}
)
# As toc names them, and as a person does.
_NOT_CARRIED = {
    "ACL": "grants on",
    "POLICY": "policy",
    "PUBLICATION TABLE": "publication table",
    "RULE": "rule",
    "SECURITY LABEL": "security label on",
    "STATISTICS": "statistics",
    "TRIGGER": "trigger",
}
# Sessions of an older server do not know it, and pg_dump 17 sets it in every script.
_NEW_SETTING = "SET transaction_timeout = 0;\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSequence:
    """A sequence in its new schema, and the value that it had."""

    name: str
    value: SequenceValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """SQL text that makes the tables in a schema of their own; ``left_out`` says what was not carried, and why."""

    schema: str
    before_rows: str
    after_rows: str
    sequences: tuple[MovedSequence, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What the archive says of the chosen tables."""

    columns: Mapping[TableName, tuple[Column, ...]]
    scripts: Scripts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What a blueprint is drawn from. ``schema`` None: only the columns are wanted."""

    manifest: Manifest
    toc: Toc
    toc_bytes: bytes
    tables: tuple[ChosenTable, ...]
    schema: str | None
    scratch_root: Path

    @property
    def parts(self) -> frozenset[int]:
        return frozenset(part.dump_id for table in self.tables for part in table.parts)

    @property
    def part_names(self) -> tuple[TableName, ...]:
        return tuple(TableName(schema=part.namespace, table=part.tag) for t in self.tables for part in t.parts)


def draw(drawing: Drawing, *, runner: Runner, log: logging.Logger) -> Blueprint:
    """Make the archive's objects on a scratch server, read them, and take the server away.

    Raises RestoreRefusedError when this machine's server cannot make the tables, ScratchError when there is none.
    """
    manifest = drawing.manifest
    tools = find_tools(manifest.dump.server.major, at_least=manifest.fits.pg_restore_minimum, server=True)
    with ScratchServer(root=drawing.scratch_root, tools=tools, runner=runner, log=log) as scratch:
        folder = scratch.folder / "archive"
        folder.mkdir(mode=0o700)
        dump = folder / "dump"
        dump.mkdir()
        (dump / "toc.dat").write_bytes(drawing.toc_bytes)
        loader = ScratchLoader(scratch=scratch, tools=tools, runner=runner, dump=dump, jobs=1)
        after = frozenset(_after(drawing.toc, drawing.parts)) if drawing.schema else frozenset()
        _check_gaps(drawing, loader.make_objects(manifest, drawing.toc, after=after))
        with connect(scratch.admin.on(manifest.dump.server.database)) as session:
            try:
                columns = {table.name: read_columns(session, _oid(session, table.name)) for table in drawing.tables}
                scripts = None
                if drawing.schema is not None:
                    moved = _Mover(drawing, drawing.schema, session)
                    moved.move()
                    scripts = _scripts(drawing.schema, moved, scratch, tools, runner, folder)
            except psycopg.Error as error:
                raise RestoreRefusedError(
                    f"these tables cannot be put into a schema of their own: {error.diag.message_primary or error}; "
                    "restore the whole backup into a database beside it"
                ) from None
    return Blueprint(columns=columns, scripts=scripts)


def _after(toc: Toc, parts: frozenset[int]) -> Iterator[int]:
    """Yield what comes after the rows of exactly these tables."""
    tables = {entry.dump_id for entry in toc.entries if entry.desc in {"TABLE", "FOREIGN TABLE"}}
    kept: set[int] = set()
    for entry in toc.entries:
        of = tables & set(entry.dependencies)
        own = bool(of) and of <= parts
        attached = entry.desc == "INDEX ATTACH" and set(entry.dependencies) <= kept
        if entry.section is Section.POST_DATA and entry.desc in _AFTER and (own or attached):
            kept.add(entry.dump_id)
            yield entry.dump_id


def _check_gaps(drawing: Drawing, gaps: Gaps) -> None:
    if lost := [part for table in drawing.tables for part in table.parts if part.dump_id in gaps.skipped]:
        extensions = [text for text in gaps.reasons if text.startswith("EXTENSION ")]
        raise RestoreRefusedError(
            f"{lost[0].namespace}.{lost[0].tag} needs what this machine's PostgreSQL lacks: {'; '.join(extensions)}; "
            "install it here, or run this where backups are proven"
        )


def _oid(session: Session, name: TableName) -> int:
    relation = read_relation(session, name)
    if relation is None:
        raise RestoreError(f"{name} was not made from the archive's definition; report this")
    return relation.oid


class _Mover:
    """Puts the tables, with what is theirs alone, into one schema of the scratch database."""

    def __init__(self, drawing: Drawing, schema: str, session: Session) -> None:
        self._drawing = drawing
        self._schema = schema
        self._session = session
        self.oids = [_oid(session, name) for name in drawing.part_names]
        self.sequences: tuple[MovedSequence, ...] = ()
        self.left_out: list[str] = []

    def move(self) -> None:
        self._run("CREATE SCHEMA {}", self._schema)
        self._unbind()
        self.sequences = tuple(self._sequences())
        for row in query(self._session, "moved_types", {"oids": self.oids}):
            if row["kind"] == "c" and row["relation_kind"] != "c":
                raise RestoreRefusedError(
                    f"a column has the rows of the table {row['schema']}.{row['name']} as its type; "
                    "restore the whole backup into a database beside it"
                )
            kind = "DOMAIN" if row["kind"] == "d" else "TYPE"
            self._run(f"ALTER {kind} {{}} SET SCHEMA {{}}", (row["schema"], row["name"]), self._schema)
        for name in self._drawing.part_names:
            # No policy comes with it, so that not even its owner would see a row.
            self._run("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", (name.schema, name.table))
            self._run("ALTER TABLE {} SET SCHEMA {}", (name.schema, name.table), self._schema)
        self.left_out.extend(_not_carried(self._drawing.toc, self._drawing.parts))

    def _unbind(self) -> None:
        for row in query(self._session, "moved_bonds", {"oids": self.oids}):
            own, other = (row["schema"], row["table"]), (row["other_schema"], row["other_table"])
            if row["what"] == "constraint":
                self._run("ALTER TABLE {} DROP CONSTRAINT {}", own, row["name"])
                self.left_out.append(f"foreign key {row['name']} to {'.'.join(other)}, which is not restored here")
            elif row["what"] == "partition":
                self._run("ALTER TABLE {} DETACH PARTITION {}", other, own)
            else:
                self._run("ALTER TABLE {} NO INHERIT {}", own, other)

    def _sequences(self) -> Iterator[MovedSequence]:
        values = {
            (entry.namespace, entry.tag): parse_setval(entry.definition)
            for entry in self._drawing.toc.entries
            if entry.desc == "SEQUENCE SET"
        }
        for sequence in read_sequences(self._session, self.oids):
            if not sequence.owned:
                self._run("ALTER SEQUENCE {} SET SCHEMA {}", (sequence.schema, sequence.table), self._schema)
            value = values.get((sequence.schema, sequence.table))
            if value is not None:
                yield MovedSequence(name=TableName(schema=self._schema, table=sequence.table).quoted, value=value)

    def _run(self, statement: str, *names: str | tuple[str, str]) -> None:
        parts = (sql.Identifier(*name) if isinstance(name, tuple) else sql.Identifier(name) for name in names)
        self._session.execute(sql.SQL(statement).format(*parts))


def _not_carried(toc: Toc, parts: frozenset[int]) -> Iterator[str]:
    for entry in toc.entries:
        if entry.desc in _NOT_CARRIED and parts & set(entry.dependencies):
            yield f"{_NOT_CARRIED[entry.desc]} {entry.tag}"


def _scripts(
    schema: str, moved: _Mover, scratch: ScratchServer, tools: PostgresTools, runner: Runner, folder: Path
) -> Scripts:
    manifest = moved._drawing.manifest
    dump = folder / "moved"
    command = pg_dump_command(
        tools,
        scratch.admin.on(manifest.dump.server.database),
        target=dump,
        jobs=1,
        compression_level=1,
        lock_timeout_seconds=60,
        encoding=manifest.dump.server.encoding,
        options=("--schema-only", f"--schema={pattern(schema)}", "--no-publications", "--no-security-labels"),
    )
    runner.run(command)
    entries = read_toc((dump / "toc.dat").read_bytes()).entries
    texts = {
        section: _script(tools, runner, dump, [entry for entry in entries if entry.section is section])
        for section in (Section.PRE_DATA, Section.POST_DATA)
    }
    return Scripts(
        schema=schema,
        before_rows=texts[Section.PRE_DATA],
        after_rows=texts[Section.POST_DATA],
        sequences=moved.sequences,
        left_out=tuple(moved.left_out),
    )


def _script(tools: PostgresTools, runner: Runner, dump: Path, entries: Sequence[TocEntry]) -> str:
    use_list, target = dump.parent / "script.list", dump.parent / "script.sql"
    use_list.write_text("".join(f"{entry.dump_id};\n" for entry in _wanted(entries)))
    runner.run(pg_restore_script_command(tools, dump=dump, use_list=use_list, target=target))
    return target.read_text().replace(_NEW_SETTING, "")


def _wanted(entries: Iterable[TocEntry]) -> Iterator[TocEntry]:
    """Leave out the schema, which whoever runs the script has made, and what the session is set to anyway."""
    return (entry for entry in entries if entry.desc not in {"SCHEMA", "ENCODING", "STDSTRINGS", "SEARCHPATH"})
