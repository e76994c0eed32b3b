"""Read PostgreSQL's own backup_manifest: which files a base backup has, and which WAL it needs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from include.backup.errors import ArchiveError


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupManifest:
    """What matters of it; ``bytes`` is the size of all files, those of an incremental backup as they are in it."""

    timeline: int
    start_lsn: str
    stop_lsn: str
    files: int
    bytes: int


def read_backup_manifest(content: bytes) -> BackupManifest:
    """Read a backup_manifest; raises ArchiveError.

    A backup across a timeline switch needs WAL of several timelines: recovery begins on the first.
    """
    try:
        data = json.loads(content)
        ranges = data["WAL-Ranges"]
        first, last = ranges[-1], ranges[0]
        if len(ranges) > 1:
            first, last = min(ranges, key=lambda one: one["Timeline"]), max(ranges, key=lambda one: one["Timeline"])
        return BackupManifest(
            timeline=int(first["Timeline"]),
            start_lsn=str(first["Start-LSN"]),
            stop_lsn=str(last["End-LSN"]),
            files=len(data["Files"]),
            bytes=sum(int(file["Size"]) for file in data["Files"]),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArchiveError(f"backup_manifest cannot be read ({error!r}); the base backup is damaged") from error
