"""Builders of manifests, proofs and tables of contents that were never dumped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from include.backup.archive.members import Compression
from include.backup.manifest import (
    ArchiveObject,
    DumpFacts,
    Fits,
    Manifest,
    Member,
    RunFacts,
    ServerFacts,
    SnapshotFacts,
    TableData,
    fingerprint,
)
from include.backup.postgres.toc import Section, Toc, TocEntry
from include.backup.proof.record import Isolation, Level, Proof, Result

NOW = datetime(2025, 1, 19, 2, 0, tzinfo=UTC)
BACKUP_ID = "pulse_messages_daily_full_20250119T020000Z_3fa9c1"


def make_server(**overrides: Any) -> ServerFacts:
    values: dict[str, Any] = {
        "version": "17.10",
        "major": 17,
        "system_identifier": "7000000000000000001",
        "database": "pulse_messages",
        "owner": "postgres",
        "encoding": "UTF8",
        "locale_provider": "c",
        "collate": "C.UTF-8",
        "ctype": "C.UTF-8",
        "collation_version": None,
        "other_databases": (),
    }
    return ServerFacts(**{**values, **overrides})


def make_member(**overrides: Any) -> Member:
    values: dict[str, Any] = {
        "name": "dump/1.dat.zst",
        "offset": 512,
        "stored_length": 100,
        "stored_sha256": "0" * 64,
        "length": 1000,
        "sha256": "0" * 64,
        "compression": Compression.ZSTD,
        "table_data": TableData(
            dump_id=1,
            schema="public",
            table="users",
            copy_statement="COPY public.users (id) FROM stdin;",
            rows=10,
            content_sha256="0" * 64,
        ),
    }
    return Member(**{**values, **overrides})


def make_manifest(*, server: ServerFacts | None = None, roles: tuple[str, ...] = (), **overrides: Any) -> Manifest:
    dump = DumpFacts(
        snapshot=SnapshotFacts(time=NOW, lsn_before="0/1", lsn_after="0/2"),
        server=server or make_server(),
        pg_dump_version="17.10",
        session={},
        extensions=(),
        roles=roles,
        role_passwords=True,
        invalid_indexes=(),
        seconds=10.0,
    )
    values: dict[str, Any] = {
        "backup_id": BACKUP_ID,
        "source": "pulse_messages",
        "tier": "daily",
        "kind": "full",
        "created_at": NOW,
        "run": RunFacts(dag_id="command_line", run_id="x", run_after=NOW, triggered_by=None),
        "release": None,
        "dump": dump,
        "excluded_schemas": (),
        "excluded_tables": (),
        "toc_version": "1.16",
        "toc_entries": 1,
        "fits": Fits(pg_restore_minimum=17, server_majors=(17, 18)),
        "archive": ArchiveObject(
            key=f"daily/{BACKUP_ID}.tar",
            size=10_240,
            part_size=1 << 24,
            checksum="x-1",
            storage_class="STANDARD",
            encryption="aws:kms",
            kms_key_arn=None,
        ),
        "members": (make_member(),),
        "durations": {"dump": 10.0, "compress": 1.0, "upload": 4.0},
        "proof_level": "complete",
    }
    return Manifest(**{**values, **overrides})


def make_proof(*, of: bytes = b"", age: timedelta = timedelta(0), **overrides: Any) -> Proof:
    """Return a passed proof of a manifest's bytes, as old as ``age``."""
    values: dict[str, Any] = {
        "proof_id": "20250119T030000Z_aaaaaa",
        "backup_id": BACKUP_ID,
        "manifest_sha256": fingerprint(of),
        "result": Result.PASSED,
        "level": Level.COMPLETE,
        "level_needed": Level.COMPLETE,
        "started_at": NOW - age,
        "finished_at": NOW - age,
        "durations": {"fetch": 1.0, "restore": 20.0, "compare": 5.0},
        "server_version": "17.10",
        "pg_restore_version": "17.10",
        "isolation": Isolation(network="none", uid="own", processes="own"),
        "tables": (),
        "sequences": 0,
        "large_objects": 0,
        "schema_lines": 0,
        "checks": (),
        "not_proven": (),
        "differences": (),
    }
    return Proof(**{**values, **overrides})


def make_entry(desc: str, definition: str = "", **overrides: Any) -> TocEntry:
    values: dict[str, Any] = {
        "dump_id": 1,
        "section": Section.PRE_DATA,
        "tag": "x",
        "namespace": "",
        "owner": "",
        "copy_statement": "",
        "filename": "",
        "dependencies": (),
    }
    return TocEntry(desc=desc, definition=definition, **{**values, **overrides})


def make_toc(*entries: TocEntry) -> Toc:
    return Toc(
        version=(1, 16),
        database="pulse_messages",
        server_version="17.10",
        dump_version="17.10",
        entries=entries,
    )
