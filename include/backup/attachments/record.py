"""What a manifest says of attachments: each file, where its bytes lie, and how files and database differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

KIND = "attachments"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    """One object of a bucket; its bytes are a member of this archive, or of the backup that ``archive`` names."""

    bucket: str
    key: str
    size: int
    sha256: str
    etag: str
    modified: datetime
    content_type: str
    metadata: Mapping[str, str]
    member: str
    archive: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNote:
    """One file of which there is something to say."""

    bucket: str
    key: str
    detail: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentsFacts:
    """The files, and what comparing them with ``storage.objects`` of the dump showed.

    ``missing`` are rows without a file, ``extra`` files without a row, ``changed`` files that differ from their row,
    ``troubled`` files that vanished or changed while they were read, or that the listing left out. Each list holds
    all of them. ``reconciled_with`` is None when the dump has no such table.
    """

    recovery_point: str
    buckets: tuple[str, ...]
    other_buckets: tuple[str, ...]
    based_on: str | None
    reconciled_with: str | None
    files: tuple[AttachedFile, ...]
    missing: tuple[FileNote, ...]
    extra: tuple[FileNote, ...]
    changed: tuple[FileNote, ...]
    troubled: tuple[FileNote, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def reused(self) -> int:
        return sum(file.archive is not None for file in self.files)

    @property
    def agrees(self) -> bool:
        """Whether files and database are one recovery point, without any difference."""
        return self.reconciled_with is not None and not (self.missing or self.extra or self.changed)

    def summary(self) -> str:
        """Return the numbers in words."""
        notes = [
            f"{len(found)} {name}"
            for name, found in (
                ("missing", self.missing),
                ("extra", self.extra),
                ("changed", self.changed),
                ("vanished or changed while read", self.troubled),
            )
            if found
        ]
        compared = ", ".join(notes) if notes else f"all as {self.reconciled_with} says"
        if self.reconciled_with is None:
            compared = ", ".join([*notes, "not compared: the dump has no table storage.objects"])
        others = f"; without the buckets {', '.join(self.other_buckets)}" if self.other_buckets else ""
        return f"{len(self.files)} files ({self.reused} unchanged since an earlier archive), {compared}{others}"
