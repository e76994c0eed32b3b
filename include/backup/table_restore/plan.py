"""What a restore of tables is about, found out before anything of the target is touched."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from include.backup.archive.contents import check_contents
from include.backup.archive.reader import ArchiveReader
from include.backup.backup_id import parse_backup_id
from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.inventory import Standing
from include.backup.manifest import Manifest
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, read_toc
from include.backup.process import Runner
from include.backup.restore.plan import TOC_MEMBER
from include.backup.restore.restore import default_jobs
from include.backup.restore.target import Target, TargetFacts, check_database_name
from include.backup.store import ObjectStore
from include.backup.table_restore.blueprint import Blueprint, Drawing, draw
from include.backup.table_restore.catalog import Key, Relation, drift, read_relation
from include.backup.table_restore.names import ChosenTable, TableName, choose_tables
from include.backup.table_restore.preview import Mode
from include.backup.table_restore.staged import check_mergeable

KINDS = ("full", "tables")
SCHEMA_PREFIX = "restored_"


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesRequest:
    """Which tables of which backup go where, and how."""

    store: ObjectStore
    manifest: Manifest
    manifest_sha256: str
    standing: Standing
    target: Target
    tables: tuple[str, ...]
    mode: Mode
    scratch_root: Path
    now: datetime
    schema: str | None = None
    unproven: bool = False
    touches_children: bool = False
    lock_timeout_seconds: int = 30
    jobs: int = field(default_factory=default_jobs)

    @property
    def reader(self) -> ArchiveReader:
        return ArchiveReader(self.store, self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesPlan:
    """A restore of tables that nothing speaks against so far. ``relations`` are the target's, None: not there."""

    request: TablesRequest
    toc: Toc
    facts: TargetFacts
    tables: tuple[ChosenTable, ...]
    schema: str | None
    blueprint: Blueprint
    relations: Mapping[TableName, Relation | None]
    keys: Mapping[TableName, Key]
    notes: Mapping[TableName, str]

    @property
    def reads(self) -> int:
        """The bytes of the archive that are fetched."""
        toc = self.request.manifest.member(TOC_MEMBER).stored_length
        return toc + sum(member.stored_length for table in self.tables for member in table.members)

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def plan_tables(request: TablesRequest, *, runner: Runner, log: logging.Logger) -> TablesPlan:
    """Look at archive and target and change nothing; raises what speaks against it."""
    manifest, mode = request.manifest, request.mode
    _check_backup(request)
    schema = _schema(request) if mode is Mode.BESIDE else None
    toc_bytes = request.reader.read(TOC_MEMBER)
    toc = read_toc(toc_bytes)
    check_contents(toc, manifest)
    tables = choose_tables(toc, manifest, request.tables)
    facts = request.target.inspect()
    _check_target(request, facts)
    relations = _relations(request, tables, schema)
    for table in tables:
        if mode is not Mode.BESIDE and relations[table.name] is None:
            raise RestoreRefusedError(
                f"there is no {table.name} in {request.target.describe()}; restore it beside, or restore the database"
            )
    drawing = Drawing(
        manifest=manifest,
        toc=toc,
        toc_bytes=toc_bytes,
        tables=tables,
        schema=schema,
        scratch_root=request.scratch_root,
    )
    blueprint = draw(drawing, runner=runner, log=log)
    keys, notes = {}, {}
    for table in tables:
        relation = relations[table.name]
        if mode is not Mode.BESIDE:
            keys[table.name] = check_mergeable(table, relation, blueprint.columns[table.name])
        else:
            notes[table.name] = _note(relation, blueprint, table)
    return TablesPlan(
        request=request,
        toc=toc,
        facts=facts,
        tables=tables,
        schema=schema,
        blueprint=blueprint,
        relations=relations,
        keys=keys,
        notes=notes,
    )


def default_schema(backup_id: str) -> str:
    """Return the schema into which tables of a backup go.

    >>> default_schema("pulse_messages_daily_full_20250119T020000Z_3fa9c1")
    'restored_20250119t020000z_3fa9c1'
    """
    parsed = parse_backup_id(backup_id)
    return f"{SCHEMA_PREFIX}{parsed.run_after:%Y%m%dt%H%M%Sz}_{parsed.run}"


def _schema(request: TablesRequest) -> str:
    schema = request.schema or default_schema(request.manifest.backup_id)
    check_database_name(schema)
    if not schema.startswith(SCHEMA_PREFIX):
        raise ParameterError(f"the schema {schema!r} is not allowed; its name must begin with {SCHEMA_PREFIX}")
    return schema


def _check_backup(request: TablesRequest) -> None:
    manifest = request.manifest
    if manifest.kind not in KINDS:
        raise RestoreRefusedError(
            f"{manifest.backup_id} is of the kind {manifest.kind}, which holds no rows; use one of: {', '.join(KINDS)}"
        )
    if request.standing is not Standing.PROVEN and not request.unproven:
        raise RestoreRefusedError(
            f"{manifest.backup_id} is {request.standing.value}: nobody has shown that it restores; prove it first "
            f"(`python -m include.backup verify {manifest.source} {manifest.backup_id} --restore-test`), take "
            "another, or say yes to an unproven one"
        )
    if request.schema is not None and request.mode is not Mode.BESIDE:
        raise ParameterError("a schema goes with the mode beside only; leave it out")


def _check_target(request: TablesRequest, facts: TargetFacts) -> None:
    if not facts.exists:
        raise RestoreRefusedError(f"there is no {request.target.describe()}; name a database that is there")
    if facts.in_recovery:
        raise RestoreRefusedError(f"{request.target.connection.host} is a standby, nothing can be written there")
    source = request.manifest.dump.server.major
    if request.mode is Mode.BESIDE and facts.major < source:
        raise RestoreRefusedError(
            f"the target is PostgreSQL {facts.major} and the backup is of {source}; use a server of {source} or newer"
        )


def _relations(
    request: TablesRequest, tables: Sequence[ChosenTable], schema: str | None
) -> dict[TableName, Relation | None]:
    with connect(request.target.endpoint) as session:
        found = {table.name: read_relation(session, table.name) for table in tables}
        there = session.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema or "",)).fetchone()
    if there is not None:
        raise RestoreRefusedError(
            f"{request.target.describe()} has a schema {schema} already, perhaps of an earlier restore; look what is "
            "in it, then drop it or give another name"
        )
    return found


def _note(relation: Relation | None, blueprint: Blueprint, table: ChosenTable) -> str:
    if relation is None:
        return "not there now"
    differences = drift(blueprint.columns[table.name], relation.columns)
    return f"changed since: {'; '.join(differences)}" if differences else ""
