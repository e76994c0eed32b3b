"""Builders of records: valid ones, with what a test wants to be different."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from include.backup.archive.members import Compression
from include.backup.manifest import (
    ArchiveObject,
    DumpFacts,
    Extension,
    Fits,
    Manifest,
    Member,
    RunFacts,
    ServerFacts,
    SnapshotFacts,
    TableData,
)
from include.backup.postgres.toc import Section, Toc, TocEntry
from include.backup.proof.record import (
    CheckResult,
    Difference,
    Isolation,
    Level,
    Method,
    Proof,
    Result,
    TableProof,
)

WHEN = datetime(2026, 5, 11, 2, 0, 0, 123456, tzinfo=UTC)
BACKUP_ID = "pulse_messages_daily_full_20260511T020000Z_0123ab"


def digest(text: str = "") -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_table(**overrides: Any) -> TableData:
    values: dict[str, Any] = {
        "dump_id": 11,
        "schema": "public",
        "table": "users",
        "copy_statement": "COPY public.users (id, name) FROM stdin;\n",
        "rows": 2,
        "content_sha256": digest("rows"),
    }
    return TableData(**{**values, **overrides})


def make_member(name: str = "dump/toc.dat", **overrides: Any) -> Member:
    values: dict[str, Any] = {
        "name": name,
        "offset": 512,
        "stored_length": 10,
        "stored_sha256": digest("stored"),
        "length": 10,
        "sha256": digest("content"),
        "compression": Compression.NONE,
        "table_data": None,
    }
    return Member(**{**values, **overrides})


def make_server(**overrides: Any) -> ServerFacts:
    values: dict[str, Any] = {
        "version": "17.4",
        "major": 17,
        "system_identifier": "7401234567890123456",
        "database": "pulse",
        "owner": "postgres",
        "encoding": "UTF8",
        "locale_provider": "c",
        "collate": "C.UTF-8",
        "ctype": "C.UTF-8",
        "collation_version": None,
        "other_databases": ("other",),
    }
    return ServerFacts(**{**values, **overrides})


def make_dump(**overrides: Any) -> DumpFacts:
    values: dict[str, Any] = {
        "snapshot": SnapshotFacts(time=WHEN, lsn_before="0/1", lsn_after="0/2"),
        "server": make_server(),
        "pg_dump_version": "17.4",
        "session": {"TimeZone": "UTC"},
        "extensions": (Extension(name="hstore", version="1.8", schema="public", conditions={"public.c": "WHERE x"}),),
        "roles": ("postgres",),
        "role_passwords": True,
        "invalid_indexes": (),
        "seconds": 1.5,
    }
    return DumpFacts(**{**values, **overrides})


def make_archive(**overrides: Any) -> ArchiveObject:
    values: dict[str, Any] = {
        "key": f"daily/{BACKUP_ID}.tar",
        "size": 4096,
        "part_size": 16 << 20,
        "checksum": "abc=-1",
        "storage_class": "STANDARD",
        "encryption": "aws:kms",
        "kms_key_arn": None,
    }
    return ArchiveObject(**{**values, **overrides})


def make_manifest(**overrides: Any) -> Manifest:
    values: dict[str, Any] = {
        "backup_id": BACKUP_ID,
        "source": "pulse_messages",
        "tier": "daily",
        "kind": "full",
        "created_at": WHEN,
        "run": RunFacts(dag_id="d", run_id="r", run_after=WHEN, triggered_by=None),
        "release": None,
        "dump": make_dump(),
        "excluded_schemas": (),
        "excluded_tables": (),
        "toc_version": "1.16",
        "toc_entries": 1,
        "fits": Fits(pg_restore_minimum=17, server_majors=(17, 18)),
        "archive": make_archive(),
        "members": (
            make_member(),
            make_member(
                "dump/11.dat.zst", offset=1536, length=99, compression=Compression.ZSTD, table_data=make_table()
            ),
        ),
        "durations": {"dump": 1.5},
        "proof_level": "complete",
    }
    return Manifest(**{**values, **overrides})


def make_proof(**overrides: Any) -> Proof:
    values: dict[str, Any] = {
        "proof_id": "20260511T021000Z_abcdef",
        "backup_id": BACKUP_ID,
        "manifest_sha256": digest("manifest"),
        "result": Result.FAILED,
        "level": Level.DATA,
        "level_needed": Level.COMPLETE,
        "started_at": WHEN,
        "finished_at": WHEN,
        "durations": {"fetch": 0.5},
        "server_version": "17.4",
        "pg_restore_version": "17.4",
        "isolation": Isolation(network="none", uid="own", processes="own"),
        "tables": (
            TableProof(table="public.users", rows_expected=2, rows_restored=1, method=Method.MULTISET, identical=False),
        ),
        "sequences": 1,
        "large_objects": 0,
        "schema_lines": 12,
        "checks": (CheckResult(name="common/x", passed=True, detail="no violation"),),
        "not_proven": ("a gap",),
        "differences": (Difference(what="rows", name="public.users", detail="one is gone"),),
    }
    return Proof(**{**values, **overrides})


def make_entry(dump_id: int = 1, **overrides: Any) -> TocEntry:
    values: dict[str, Any] = {
        "dump_id": dump_id,
        "section": Section.PRE_DATA,
        "desc": "TABLE",
        "tag": "users",
        "namespace": "public",
        "owner": "postgres",
        "definition": "CREATE TABLE public.users (\n    id integer\n);\n",
        "copy_statement": "",
        "filename": "",
        "dependencies": (),
    }
    return TocEntry(**{**values, **overrides})


def make_toc(entries: Iterable[TocEntry] = (), **overrides: Any) -> Toc:
    values: dict[str, Any] = {
        "version": (1, 16),
        "database": "pulse",
        "server_version": "17.4",
        "dump_version": "17.4",
        "entries": tuple(entries),
    }
    return Toc(**{**values, **overrides})


def toc_bytes(toc: Toc) -> bytes:
    """Write toc.dat as src/bin/pg_dump/pg_backup_archiver.c does (WriteHead, WriteToc)."""
    writer = _TocWriter()
    writer.out += b"PGDMP" + bytes((*toc.version, 0, 4, 8, 3))
    if toc.version >= (1, 15):
        writer.out += b"\x00"
    else:
        writer.number(0)
    for value in (0, 0, 2, 11, 4, 126, 0):
        writer.number(value)
    for text in (toc.database, toc.server_version, toc.dump_version):
        writer.text(text)
    writer.number(len(toc.entries))
    for entry in toc.entries:
        _write_entry(writer, entry, toc.version)
    return bytes(writer.out)


def _write_entry(writer: _TocWriter, entry: TocEntry, version: tuple[int, int]) -> None:
    writer.number(entry.dump_id)
    writer.number(1 if entry.filename else 0)
    for text in ("1259", "16384", entry.tag, entry.desc):
        writer.text(text)
    writer.number(int(entry.section))
    for text in (entry.definition, entry.drop_statement, entry.copy_statement, entry.namespace, None, "heap"):
        writer.text(text)
    if version >= (1, 16):
        writer.number(ord("r"))
    writer.text(entry.owner)
    writer.text("false")
    for dependency in entry.dependencies:
        writer.text(str(dependency))
    writer.text(None)
    writer.text(entry.filename)


class _TocWriter:
    def __init__(self) -> None:
        self.out = bytearray()

    def number(self, value: int) -> None:
        self.out += struct.pack("<BI", value < 0, abs(value))

    def text(self, value: str | None) -> None:
        if value is None:
            self.number(-1)
            return
        data = value.encode("utf-8", "surrogateescape")
        self.number(len(data))
        self.out += data
