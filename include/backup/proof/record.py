"""A proof: the record that a backup was restored and compared, and what could not be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from include.backup.records import from_json, to_json

FORMAT_VERSION = 1
# Of the id of a proof that failed, so that a listing of all proofs tells it.
FAILED_ENDING = "_failed"


class Level(StrEnum):
    """How much a proof shows: everything, or all data and the schema without what the server lacks."""

    COMPLETE = "complete"
    DATA = "data"


class Result(StrEnum):
    """What the comparison found."""

    PASSED = "passed"
    FAILED = "failed"


class Method(StrEnum):
    """How a table's rows were compared: in order by SHA-256, or as a multiset by a sum of line hashes."""

    STREAM = "stream"
    MULTISET = "multiset"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProof:
    """The comparison of one TABLE DATA entry, or of all entries that load into one partitioned table."""

    table: str
    rows_expected: int
    rows_restored: int
    method: Method
    identical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that differs; ``what`` is its kind, ``name`` the object."""

    what: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How far the scratch server was shut off."""

    network: str
    uid: str
    processes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one verification query of include/sql/checks returned."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InheritedProof:
    """The backup that was restored in place of its copy; both archives have this checksum and size."""

    backup_id: str
    manifest_sha256: str
    archive_checksum: str
    archive_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRead:
    """One table of a started base backup that was read whole; ``bytes`` is the length of its rows as text."""

    database: str
    table: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProof:
    """What was shown of a base backup: it was unpacked, started, and recovered to ``lsn`` on ``timeline``.

    ``bases`` are the backups that it took, the full one first. ``files`` were compared with PostgreSQL's own
    manifests; ``checksummed_blocks`` (None without data checksums) and ``checked_relations`` (None without amcheck)
    were found sound after recovery.
    """

    bases: tuple[str, ...]
    lsn: str
    timeline: int
    segments: int
    files: int
    checksummed_blocks: int | None
    checked_relations: int | None
    tables: tuple[TableRead, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One restore test of one backup."""

    proof_id: str
    backup_id: str
    manifest_sha256: str
    result: Result
    level: Level
    level_needed: Level
    started_at: datetime
    finished_at: datetime
    durations: Mapping[str, float]
    server_version: str
    pg_restore_version: str
    isolation: Isolation
    tables: tuple[TableProof, ...]
    sequences: int
    large_objects: int
    schema_lines: int
    checks: tuple[CheckResult, ...]
    not_proven: tuple[str, ...]
    differences: tuple[Difference, ...]
    # The newest record of the ledger when this proof was made: an anchor against a ledger whose end is cut off.
    evidence_head: str | None = None
    # A copy is proven by the proof of its original: the archives are the same bytes.
    inherited_from: InheritedProof | None = None
    base: BaseProof | None = None

    @property
    def rows(self) -> int:
        return sum(table.rows_restored for table in self.tables)

    def to_json(self) -> bytes:
        """Return the proof as JSON."""
        return to_json(self, format_version=FORMAT_VERSION)


def read_proof(content: bytes, *, name: str) -> Proof:
    """Read a proof; raises FormatVersionError or ManifestError, naming the object."""
    return from_json(Proof, content, format_version=FORMAT_VERSION, name=name)
