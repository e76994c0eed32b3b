"""compress: check, hash and count what was dumped; compress what an older pg_dump left raw."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from include.backup.archive.members import Compression, MemberFacts, chunks_of, compress_file, inspect
from include.backup.archive.readme import archive_readme
from include.backup.errors import MemberMissingError, TruncatedMemberError
from include.backup.postgres.toc import Toc, TocEntry, read_toc
from include.backup.records import from_json, to_json
from include.backup.staging import full_disk_named
from include.backup.steps.context import StepContext
from include.backup.steps.dump import DATA_FOLDER, GLOBALS_FILE, read_facts

MEMBERS_FILE = "members.json"
README_FILE = "README.txt"
FORMAT_VERSION = 1
DUMP_PREFIX = "dump/"
# From here on a member alone keeps two processors busy.
LARGE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedMember:
    """A member that is ready to be stored; ``path`` is relative to the staging folder."""

    name: str
    path: str
    compression: Compression
    facts: MemberFacts
    dump_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """All members in the order of the tar, and what is known of the table of contents."""

    members: tuple[StagedMember, ...]
    toc_version: str
    toc_entries: int
    pg_restore_minimum: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressReport:
    """What compress found; sizes in bytes. Partitions that load by their root are one table, as in a proof."""

    backup_id: str
    tables: int
    rows: int
    uncompressed_bytes: int
    compressed_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"{self.backup_id}: {self.tables} tables, {self.rows} rows, {self.uncompressed_bytes} bytes "
            f"stored in {self.compressed_bytes}; every member read, hashed and whole, in {self.seconds:.1f} s"
        )


def run(ctx: StepContext) -> CompressReport | None:
    """Read every dumped file once; refuse a truncated one; write the list of members."""
    if ctx.manifest_is_stored():
        ctx.log.info("%s is stored already; nothing is compressed", ctx.backup_id)
        return None
    started = time.monotonic()
    with ctx.staging.locked():
        toc = read_staged_toc(ctx)
        pack = _pack(ctx, toc, started)
        ctx.staging.write(MEMBERS_FILE, to_json(pack, format_version=FORMAT_VERSION))
    rows = {member.dump_id: member.facts.rows or 0 for member in pack.members if member.dump_id is not None}
    return CompressReport(
        backup_id=ctx.backup_id,
        tables=len({entry.copy_statement for entry in toc.table_data if entry.dump_id in rows}),
        rows=sum(rows.values()),
        uncompressed_bytes=sum(member.facts.length for member in pack.members),
        compressed_bytes=sum(member.facts.stored_length for member in pack.members),
        seconds=pack.seconds,
    )


def read_pack(ctx: StepContext) -> Pack:
    """Return the list of members; raises StagingMissingError."""
    content = ctx.staging.need(MEMBERS_FILE, "compress")
    return from_json(Pack, content, format_version=FORMAT_VERSION, name=MEMBERS_FILE)


def read_staged_toc(ctx: StepContext) -> Toc:
    """Return the table of contents of the published dump."""
    return read_toc((ctx.staging.dump / DATA_FOLDER / "toc.dat").read_bytes())


def _pack(ctx: StepContext, toc: Toc, started: float) -> Pack:
    facts = read_facts(ctx)
    data = ctx.staging.dump / DATA_FOLDER
    tables = {entry.filename: entry for entry in toc.table_data}
    readme = archive_readme(
        ctx.backup_id,
        facts,
        pg_restore_minimum=toc.pg_restore_minimum,
        kind=ctx.kind,
        excluded_schemas=ctx.source.excluded_schemas,
        excluded_tables=ctx.source.excluded_tables,
    )
    ctx.staging.write(README_FILE, readme)
    files = sorted(_dumped_files(data), key=_size, reverse=True)
    found = {path.name.removesuffix(".zst") for path in files}
    if missing := sorted(set(tables) - found):
        raise MemberMissingError(
            f"the dump of {ctx.backup_id} lacks the data files {missing[:10]} that its toc.dat names; "
            "clear the run from `dump` after removing staging, or start a new one"
        )
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="member") as pool:
        members = list(pool.map(lambda path: _member(ctx, path, tables), files))
    extra = [
        _plain_member(ctx, README_FILE, ctx.staging.path / README_FILE),
        _plain_member(ctx, GLOBALS_FILE, ctx.staging.dump / GLOBALS_FILE),
    ]
    members.sort(key=lambda member: (member.name != f"{DUMP_PREFIX}toc.dat", member.name))
    return Pack(
        members=(*extra, *members),
        toc_version=".".join(str(number) for number in toc.version),
        toc_entries=len(toc.entries),
        pg_restore_minimum=toc.pg_restore_minimum,
        seconds=round(time.monotonic() - started, 3),
    )


def _dumped_files(data: Path) -> list[Path]:
    """Return the dump's files; a raw one that a kill has left beside its compressed one is removed."""
    for path in list(data.iterdir()):
        if path.with_name(f"{path.name}.zst").exists():
            path.unlink()
    return [path for path in data.iterdir() if not path.name.endswith(".tmp")]


def _member(ctx: StepContext, path: Path, tables: Mapping[str, TocEntry]) -> StagedMember:
    entry = tables.get(path.name.removesuffix(".zst"))
    try:
        with full_disk_named(ctx.staging.path):
            if path.suffix == ".dat" and path.name != "toc.dat":
                path, facts = _compress(ctx, path, table_data=entry is not None)
            else:
                facts = _inspect(path, table_data=entry is not None)
    except TruncatedMemberError as error:
        raise TruncatedMemberError(
            f"{error} (table {entry.namespace}.{entry.tag} of {ctx.backup_id}; start a new run)"
            if entry
            else str(error)
        ) from error
    return StagedMember(
        name=f"{DUMP_PREFIX}{path.name}",
        path=str(path.relative_to(ctx.staging.path)),
        compression=_compression(path),
        facts=facts,
        dump_id=None if entry is None else entry.dump_id,
    )


def _plain_member(ctx: StepContext, name: str, path: Path) -> StagedMember:
    return StagedMember(
        name=name,
        path=str(path.relative_to(ctx.staging.path)),
        compression=Compression.NONE,
        facts=_inspect(path, table_data=False),
        dump_id=None,
    )


def _inspect(path: Path, *, table_data: bool) -> MemberFacts:
    with path.open("rb") as stored:
        return inspect(
            chunks_of(stored),
            name=path.name,
            compression=_compression(path),
            table_data=table_data,
            two_threads=_size(path) >= LARGE_BYTES,
        )


def _compress(ctx: StepContext, path: Path, *, table_data: bool) -> tuple[Path, MemberFacts]:
    """Replace a raw file by its compressed one; a kill leaves the raw file, the whole new one, or both."""
    target = path.with_name(f"{path.name}.zst")
    temporary = path.with_name(f"{path.name}.zst.tmp")
    facts = compress_file(
        path,
        temporary,
        level=ctx.source.compression_level,
        threads=os.cpu_count() or 1,
        table_data=table_data,
    )
    temporary.replace(target)
    path.unlink()
    return target, facts


def _compression(path: Path) -> Compression:
    return Compression.ZSTD if path.suffix == ".zst" else Compression.NONE


def _size(path: Path) -> int:
    return path.stat().st_size
