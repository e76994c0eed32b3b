"""What a manifest says of a base backup, beside what it says of every backup."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tablespace:
    """A tablespace outside the data folder: its files are in a member of their own."""

    oid: int
    name: str
    location: str
    member: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSetting:
    """One line of the server's configuration files; ``value`` is None when it may hold a secret."""

    name: str
    value: str | None
    file: str
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """A base backup: WAL is needed from ``start_lsn``, and the copy is consistent from ``stop_lsn`` on.

    Times are the source's clock. ``parent`` is the backup that an incremental one builds on, ``why`` says why it is
    full or incremental. ``files`` and ``bytes`` are those of the unpacked data folder. ``settings`` and ``hba`` are
    None when the role may not read them; Debian keeps both outside the data folder. ``databases`` are those that
    can be connected to, ``unlogged`` tables are empty after a recovery.
    """

    system_identifier: str
    timeline: int
    start_lsn: str
    stop_lsn: str
    started_at: datetime
    stopped_at: datetime
    wal_segment_bytes: int
    data_checksums: bool
    parent: str | None
    why: str
    files: int
    bytes: int
    superuser: str
    databases: tuple[str, ...]
    tablespaces: tuple[Tablespace, ...]
    unlogged: tuple[str, ...]
    settings: tuple[FileSetting, ...] | None
    hba: tuple[str, ...] | None

    @property
    def incremental(self) -> bool:
        return self.parent is not None
