"""The manifest: the small JSON object beside an archive that says what it holds. No manifest, no backup."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from include.backup.archive.members import Compression
from include.backup.attachments.record import AttachmentsFacts
from include.backup.base.record import BaseFacts
from include.backup.errors import ArchiveError, MemberMissingError
from include.backup.not_carried import NotCarried
from include.backup.partial import partial_text
from include.backup.records import from_json, to_json

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TableData:
    """One TABLE DATA entry of the dump: the unit in which rows are counted and compared."""

    dump_id: int
    schema: str
    table: str
    copy_statement: str
    rows: int
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the tar. ``offset`` is where its bytes begin; lengths in bytes, hashes in hex."""

    name: str
    offset: int
    stored_length: int
    stored_sha256: str
    length: int
    sha256: str
    compression: Compression
    table_data: TableData | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveObject:
    """The object in the store. ``checksum`` is S3's composite SHA-256 (base64, then the number of parts)."""

    key: str
    size: int
    part_size: int
    checksum: str
    storage_class: str
    encryption: str
    kms_key_arn: str | None
    # The class in which it lies until it is proven, where the final one cannot be read back at once.
    first_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The run that took the backup. ``run_after`` is when it was due, not when the data was read."""

    dag_id: str
    run_id: str
    run_after: datetime
    triggered_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """The deploy that a pre-deployment backup guards."""

    name: str
    git_sha: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFacts:
    """When the data was read: ``time`` is not after the snapshot, the LSNs lie before and after it."""

    time: datetime
    lsn_before: str
    lsn_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension of the source; ``conditions`` maps configuration tables to pg_extension.extcondition."""

    name: str
    version: str
    schema: str
    conditions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The source server and database, as a restore has to rebuild them."""

    version: str
    major: int
    system_identifier: str | None
    database: str
    owner: str
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    collation_version: str | None
    other_databases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFacts:
    """What the manifest needs to know of the dump; written into staging before the dump is published."""

    snapshot: SnapshotFacts
    server: ServerFacts
    pg_dump_version: str
    session: Mapping[str, str]
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]
    role_passwords: bool
    invalid_indexes: tuple[str, ...]
    seconds: float
    # What no dump brings back, with what to do; written since backups ask for it.
    not_carried: tuple[NotCarried, ...] = ()
    # For a backup of the kind "tables": those whose rows it holds, as the policy names them.
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """What the archive can be restored with."""

    pg_restore_minimum: int
    server_majors: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFacts:
    """Which backup this one is a copy of, byte for byte; its archive has the same checksum."""

    backup_id: str
    manifest_sha256: str
    checked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything known about one backup."""

    backup_id: str
    source: str
    tier: str
    kind: str
    created_at: datetime
    run: RunFacts
    release: ReleaseFacts | None
    dump: DumpFacts
    excluded_schemas: tuple[str, ...]
    excluded_tables: tuple[str, ...]
    toc_version: str
    toc_entries: int
    fits: Fits
    archive: ArchiveObject
    members: tuple[Member, ...]
    durations: Mapping[str, float]
    proof_level: str
    base: BaseFacts | None = None
    copy_of: CopyFacts | None = None
    # Backups whose archives hold a part of this one's data: while this one is kept, so are they.
    depends_on: tuple[str, ...] = ()
    attachments: AttachmentsFacts | None = None

    @property
    def rows(self) -> int:
        return sum(item.rows for item in self.table_data)

    @property
    def table_data(self) -> tuple[TableData, ...]:
        return tuple(member.table_data for member in self.members if member.table_data is not None)

    @property
    def tables(self) -> int:
        """How many tables have rows in it, as a proof counts them: partitions that load by their root are one."""
        return len({item.copy_statement for item in self.table_data})

    @property
    def left_out(self) -> str:
        """What the policy leaves out of this backup, in words; empty when it is whole."""
        buckets = () if self.attachments is None else self.attachments.other_buckets
        return partial_text(self.excluded_schemas, self.excluded_tables, buckets)

    @property
    def uncompressed_bytes(self) -> int:
        return sum(member.length for member in self.members)

    def member(self, name: str) -> Member:
        """Return the member of that name; raises MemberMissingError."""
        for member in self.members:
            if member.name == name:
                return member
        raise MemberMissingError(f"backup {self.backup_id} has no member {name}; its manifest is damaged")

    def to_json(self) -> bytes:
        """Return the manifest as JSON."""
        return to_json(self, format_version=FORMAT_VERSION)


def read_manifest(content: bytes, *, name: str) -> Manifest:
    """Read a manifest and check that its members lie side by side within the archive.

    Raises FormatVersionError, ManifestError or ArchiveError, each naming the object.
    """
    manifest = from_json(Manifest, content, format_version=FORMAT_VERSION, name=name)
    if manifest.archive.size < 1 or manifest.archive.part_size < 1:
        raise ArchiveError(
            f"{name}: an archive of {manifest.archive.size} bytes, stored in parts with a size of "
            f"{manifest.archive.part_size}, is none; the manifest is damaged"
        )
    end = 0
    names = set()
    for member in manifest.members:
        if member.name in names:
            raise ArchiveError(f"{name}: member {member.name} is there twice; the manifest is damaged")
        names.add(member.name)
        if member.offset < end or member.stored_length < 0:
            raise ArchiveError(f"{name}: member {member.name} overlaps another; the manifest is damaged")
        end = member.offset + member.stored_length
    if end > manifest.archive.size:
        raise ArchiveError(f"{name}: the members do not fit into the archive's {manifest.archive.size} bytes")
    return manifest


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes, by which a proof names what it proved."""
    return hashlib.sha256(content).hexdigest()
