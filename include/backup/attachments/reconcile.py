"""Compare files with the rows that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.backup.attachments.expected import Expected
from include.backup.attachments.record import AttachedFile, FileNote

FileKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """How files and rows differ."""

    missing: tuple[FileNote, ...]
    extra: tuple[FileNote, ...]
    changed: tuple[FileNote, ...]


def reconcile(
    files: Sequence[AttachedFile], rows: Iterable[Expected], *, snapshot: datetime, gone: Mapping[FileKey, str]
) -> Reconciled:
    """Return rows without a file, files without a row, and files that differ from their row.

    ``snapshot`` is when the dump read the rows; what came after it is said to be newer, since it is no fault.
    ``gone`` says of files that were there when listing began why they are not in the archive.
    """
    found = {(file.bucket, file.key): file for file in files}
    named: set[FileKey] = set()
    missing, changed = [], []
    for row in rows:
        place = (row.bucket, row.key)
        named.add(place)
        file = found.get(place)
        if file is None:
            detail = gone.get(place, "the database has it, the bucket does not")
            missing.append(FileNote(bucket=row.bucket, key=row.key, detail=detail))
        elif detail := _difference(row, file, snapshot):
            changed.append(FileNote(bucket=row.bucket, key=row.key, detail=detail))
    extra = [
        FileNote(bucket=file.bucket, key=file.key, detail=_extra(file, snapshot))
        for place, file in found.items()
        if place not in named
    ]
    return Reconciled(missing=_sorted(missing), extra=_sorted(extra), changed=_sorted(changed))


def _difference(row: Expected, file: AttachedFile, snapshot: datetime) -> str:
    differences = []
    if row.size is not None and row.size != file.size:
        differences.append(f"{file.size} bytes instead of {row.size}")
    if row.etag is not None and row.etag != file.etag:
        differences.append(f"ETag {file.etag} instead of {row.etag}")
    return ", ".join(differences) + _newer(file, snapshot) if differences else ""


def _extra(file: AttachedFile, snapshot: datetime) -> str:
    return f"the bucket has it, the database does not{_newer(file, snapshot)}"


def _newer(file: AttachedFile, snapshot: datetime) -> str:
    return "; it is newer than the dump" if file.modified >= snapshot else ""


def _sorted(notes: list[FileNote]) -> tuple[FileNote, ...]:
    return tuple(sorted(notes, key=lambda note: (note.bucket, note.key)))
