"""take: copy the cluster's files into staging, and send them to the store while they are copied."""

from __future__ import annotations

import hashlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from include.backup.archive.members import Compression, MemberFacts
from include.backup.archive.reader import ArchiveReader
from include.backup.base.backup_manifest import BackupManifest, read_backup_manifest
from include.backup.base.context import base_policy, system_identifier
from include.backup.base.plan import BasePlan
from include.backup.base.preflight import base_tools, read_plan
from include.backup.base.readme import base_readme, source_configuration
from include.backup.base.record import BaseFacts, FileSetting, Tablespace
from include.backup.base.stream import FILE_SUFFIX, MANIFEST_FILE, PartStream
from include.backup.errors import CommandError, SourceError, StagingFullError
from include.backup.manifest import DumpFacts, SnapshotFacts
from include.backup.multipart import SentParts, part_size_for
from include.backup.postgres.commands import pg_basebackup_command
from include.backup.postgres.lock import source_lock
from include.backup.postgres.replication import identify
from include.backup.postgres.session import connect, query
from include.backup.records import from_json, to_json
from include.backup.staging import FULL_DISK_BYTES
from include.backup.steps.compress import StagedMember
from include.backup.steps.context import StepContext
from include.backup.steps.dump import extensions, folder_bytes, server_facts
from include.backup.steps.upload import MEBIBYTE, upload_plan
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.segments import Segment

STAGED_FILE = "base.json"
DATA_FOLDER = "data"
README_FILE = "README.txt"
CONFIGURATION_FILE = "source_configuration.txt"
PARENT_FOLDER = "parent"
FORMAT_VERSION = 1
HASH_BYTES = 1 << 20
SUMMARIES_MISSING = ("WAL summaries are required", "WAL summarization", "manifest")
# Their values may hold a password, or a command with one.
SECRET_SETTINGS = frozenset(
    {"primary_conninfo", "ssl_passphrase_command", "archive_command", "restore_command", "archive_cleanup_command"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBase:
    """A base backup in staging, with what was sent of it already."""

    facts: DumpFacts
    base: BaseFacts
    members: tuple[StagedMember, ...]
    modified_at: int
    part_size: int
    sent: SentParts | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeReport:
    """What was taken; sizes in bytes."""

    backup_id: str
    reused: bool
    parent: str | None
    why: str
    files: int
    bytes: int
    staged_bytes: int
    sent_parts: int
    start_lsn: str
    stop_lsn: str
    timeline: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        what, on = ("incremental", f" on {self.parent}") if self.parent else ("full", "")
        how = "was taken by an earlier try and is reused" if self.reused else "was taken"
        return (
            f"{what} base backup {self.backup_id}{on} {how} ({self.why}): {self.files} files, {self.bytes} bytes, "
            f"{self.staged_bytes} compressed, in {self.seconds:.1f} s; timeline {self.timeline}, "
            f"WAL from {self.start_lsn} to {self.stop_lsn}; {self.sent_parts} parts are sent"
        )


def run(ctx: StepContext) -> TakeReport | None:
    """Take the backup, unless the store or staging already holds it."""
    if ctx.manifest_is_stored():
        ctx.log.info("%s is stored already; nothing is taken", ctx.backup_id)
        return None
    with ctx.staging.locked():
        reused = ctx.staging.dump.is_dir()
        if not reused:
            _take(ctx, read_plan(ctx))
        staged = read_staged(ctx)
    return TakeReport(
        backup_id=ctx.backup_id,
        reused=reused,
        parent=staged.base.parent,
        why=staged.base.why,
        files=staged.base.files,
        bytes=staged.base.bytes,
        staged_bytes=folder_bytes(ctx.staging.dump),
        sent_parts=0 if staged.sent is None else len(staged.sent.parts),
        start_lsn=staged.base.start_lsn,
        stop_lsn=staged.base.stop_lsn,
        timeline=staged.base.timeline,
        seconds=staged.seconds,
    )


def read_staged(ctx: StepContext) -> StagedBase:
    """Return the base backup in staging; raises StagingMissingError."""
    content = ctx.staging.need(f"dump/{STAGED_FILE}", "take")
    return from_json(StagedBase, content, format_version=FORMAT_VERSION, name=STAGED_FILE)


def _take(ctx: StepContext, plan: BasePlan) -> None:
    with (
        connect(ctx.database) as connection,
        source_lock(
            connection,
            f"{ctx.source.name}/base",
            wait_seconds=ctx.source.lock_wait_seconds,
            on_wait=lambda text: ctx.log.info("%s", text),
        ),
    ):
        cluster = identify(ctx.database)
        if cluster.system_identifier != system_identifier(ctx):
            raise SourceError(
                f"{ctx.database.host}:{ctx.database.port} is now the cluster {cluster.system_identifier}, and this run "
                f"began with {system_identifier(ctx)}; start a new run"
            )
        try:
            _attempt(ctx, connection, plan)
        except CommandError as error:
            if plan.parent is None or not any(text in str(error) for text in SUMMARIES_MISSING):
                raise
            ctx.log.warning("no incremental base backup is possible, a full one is taken: %s", error)
            why = f"an incremental one on {plan.parent} was impossible: {_first_line(error)}"
            _attempt(ctx, connection, BasePlan(take=True, parent=None, why=why))


def _attempt(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]], plan: BasePlan) -> None:
    folder = ctx.staging.new_try()
    data = folder / DATA_FOLDER
    data.mkdir(mode=0o700)
    before = query(connection, "base_server")[0]
    server = query(connection, "server")[0]
    modified_at = int(ctx.clock().timestamp())
    part_size = part_size_for(int(before["cluster_bytes"] or 0), ctx.source.store.part_size_mib * MEBIBYTE)
    tools = base_tools(server["major"])
    policy = base_policy(ctx.source)
    command = pg_basebackup_command(
        tools,
        ctx.database,
        target=data,
        label=ctx.backup_id,
        compression_level=policy.compression_level,
        workers=policy.compression_workers,
        incremental=None if plan.parent is None else _parent_manifest(ctx, plan.parent, folder),
    )
    started = time.monotonic()
    with (
        ThreadPoolExecutor(2, thread_name_prefix="hash") as pool,
        PartStream(
            ctx.store,
            plan=partial(upload_plan, ctx, part_size=part_size),
            folder=data,
            modified_at=modified_at,
            log=ctx.log,
        ) as stream,
    ):
        _run(ctx, command)
        # All files are whole now; they are read here while the last parts are sent.
        hashed = {path.name: pool.submit(_member, data, path.name) for path in data.glob(f"*{FILE_SUFFIX}")}
    shutil.rmtree(folder / PARENT_FOLDER, ignore_errors=True)
    after = query(connection, "base_server")[0]
    found = read_backup_manifest((data / MANIFEST_FILE).read_bytes())
    base = _facts(connection, plan, found, before=before, after=after, cluster=system_identifier(ctx))
    facts = DumpFacts(
        snapshot=SnapshotFacts(time=after["now"], lsn_before=found.start_lsn, lsn_after=found.stop_lsn),
        server=replace(server_facts(connection, server), system_identifier=system_identifier(ctx)),
        pg_dump_version=tools.version,
        session={},
        extensions=extensions(connection),
        roles=tuple(query(connection, "roles")[0]["roles"]),
        role_passwords=True,
        invalid_indexes=tuple(row["name"] for row in query(connection, "invalid_indexes")),
        seconds=round(time.monotonic() - started, 3),
    )
    _write_texts(ctx, data, facts, base)
    members = (
        *(hashed[name].result() for name in stream.order),
        *(_member(data, name) for name in (MANIFEST_FILE, CONFIGURATION_FILE, README_FILE)),
    )
    staged = StagedBase(
        facts=facts,
        base=base,
        members=members,
        modified_at=modified_at,
        part_size=part_size,
        sent=stream.sent,
        seconds=facts.seconds,
    )
    (folder / STAGED_FILE).write_bytes(to_json(staged, format_version=FORMAT_VERSION))
    folder.rename(ctx.staging.dump)


def _parent_manifest(ctx: StepContext, parent: str, folder: Path) -> Path:
    manifest = ctx.catalog.manifest(parent)
    target = folder / PARENT_FOLDER
    ArchiveReader(ctx.store, manifest).fetch([MANIFEST_FILE], target)
    return target / MANIFEST_FILE


def _facts(
    connection: psycopg.Connection[dict[str, Any]],
    plan: BasePlan,
    found: BackupManifest,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
    cluster: str,
) -> BaseFacts:
    settings, hba = _configuration(connection)
    return BaseFacts(
        system_identifier=cluster,
        timeline=found.timeline,
        start_lsn=found.start_lsn,
        stop_lsn=found.stop_lsn,
        started_at=before["now"],
        stopped_at=after["now"],
        wal_segment_bytes=before["wal_segment_bytes"],
        data_checksums=before["data_checksums"],
        parent=plan.parent,
        why=plan.why,
        files=found.files,
        bytes=found.bytes,
        superuser=before["superuser"],
        databases=tuple(after["databases"]),
        tablespaces=tuple(
            Tablespace(oid=row["oid"], name=row["name"], location=row["location"], member=f"{row['oid']}{FILE_SUFFIX}")
            for row in query(connection, "base_tablespaces")
        ),
        unlogged=tuple(after["unlogged"]),
        settings=settings,
        hba=hba,
    )


def _configuration(
    connection: psycopg.Connection[dict[str, Any]],
) -> tuple[tuple[FileSetting, ...] | None, tuple[str, ...] | None]:
    """Return the server's configuration, or None where this role may not read it."""
    try:
        settings = tuple(
            FileSetting(
                name=row["name"],
                value=None if row["name"].lower() in SECRET_SETTINGS else row["value"],
                file=row["file"],
                applied=row["applied"],
            )
            for row in query(connection, "base_file_settings")
        )
        return settings, tuple(row["line"] for row in query(connection, "base_hba"))
    except psycopg.errors.InsufficientPrivilege:
        return None, None


def _write_texts(ctx: StepContext, data: Path, facts: DumpFacts, base: BaseFacts) -> None:
    start = Segment.at(parse_lsn(base.start_lsn), timeline=base.timeline, size=base.wal_segment_bytes)
    (data / CONFIGURATION_FILE).write_bytes(source_configuration(base))
    (data / README_FILE).write_bytes(base_readme(ctx.backup_id, facts, base, segment=start.name))


def _member(data: Path, name: str) -> StagedMember:
    """Return a file as it is stored; what pg_basebackup compressed is taken as it is, and read by the restore test."""
    digest = hashlib.sha256()
    size = 0
    with (data / name).open("rb") as file:
        while chunk := file.read(HASH_BYTES):
            digest.update(chunk)
            size += len(chunk)
    found = digest.hexdigest()
    return StagedMember(
        name=name,
        path=f"dump/{DATA_FOLDER}/{name}",
        compression=Compression.NONE,
        facts=MemberFacts(stored_length=size, stored_sha256=found, length=size, sha256=found),
        dump_id=None,
    )


def _run(ctx: StepContext, command: Any) -> None:
    def line(text: str) -> None:
        if "warning" in text.lower() or "error" in text.lower():
            ctx.log.warning("%s", text)

    try:
        ctx.runner.run(command, on_line=line)
    except CommandError as error:
        if "No space left on device" in str(error) or ctx.staging.free_bytes() < FULL_DISK_BYTES:
            raise StagingFullError(
                f"the disk of {ctx.staging.path} became full during {command.name}; free space or set "
                "BACKUP_STAGING_DIR to a larger disk, then retry"
            ) from error
        raise


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "error" in line.lower()]
    return (lines or [str(error)])[0].strip()
