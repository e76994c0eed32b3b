"""Put files back: looked at first, written only where they are missing, compared by hash afterwards."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from include.backup.archive.reader import ArchiveReader
from include.backup.attachments.record import AttachedFile
from include.backup.attachments.targets import FileTarget
from include.backup.catalog import Catalog
from include.backup.errors import MemberHashError, ParameterError, RestoreDiffersError
from include.backup.in_use import reading_all
from include.backup.manifest import Manifest, Member
from include.backup.store import ObjectStore

CONCURRENCY = 4
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesPlan:
    """What would be done; ``differs`` are files that are there with other content."""

    backup_id: str
    target: str
    missing: tuple[AttachedFile, ...]
    differs: tuple[AttachedFile, ...]
    same: tuple[AttachedFile, ...]
    overwrite: bool

    @property
    def to_write(self) -> tuple[AttachedFile, ...]:
        return (*self.missing, *self.differs) if self.overwrite else self.missing

    @property
    def left(self) -> tuple[AttachedFile, ...]:
        """Files that stay as they are, with other content than the backup's."""
        return () if self.overwrite else self.differs

    @property
    def archives(self) -> tuple[str, ...]:
        """The backups whose archives are read."""
        return tuple(sorted({file.archive or self.backup_id for file in self.to_write}))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "backup_id": self.backup_id,
            "target": self.target,
            "missing": len(self.missing),
            "differs": len(self.differs),
            "same": len(self.same),
            "overwrite": self.overwrite,
            "writes": len(self.to_write),
            "writes_bytes": sum(file.size for file in self.to_write),
            "archives": list(self.archives),
            "differing_keys": [f"{file.bucket}/{file.key}" for file in self.differs],
        }

    def lines(self) -> Iterator[str]:
        """Yield the preview for a person."""
        size = sum(file.size for file in self.to_write)
        yield f"files of    {self.backup_id}"
        yield f"into        {self.target}"
        yield f"writes      {len(self.to_write)} files, {size} bytes, out of {', '.join(self.archives) or 'no archive'}"
        others = "replaced" if self.overwrite else "left as they are"
        yield f"there       {len(self.same)} with the same bytes, {len(self.differs)} with others, to be {others}"
        for file in self.differs[:SHOWN]:
            yield f"differs     {file.bucket}/{file.key}"
        if len(self.differs) > SHOWN:
            yield f"            and {len(self.differs) - SHOWN} more (--json names all)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesReport:
    """What was put back and compared; sizes in bytes."""

    backup_id: str
    written: int
    written_bytes: int
    compared: int
    left: int
    seconds: float
    target: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.written} files, {self.written_bytes} bytes, put into {self.target}; {self.compared} there "
            f"have the bytes of {self.backup_id}, {self.seconds:.1f} s"
        )
        if self.left:
            yield f"{self.left} files there have other content and were left as they are; --overwrite replaces them"


def chosen_files(manifest: Manifest, *, bucket: str | None, prefix: str) -> tuple[AttachedFile, ...]:
    """Return the files of a backup that a person means; raises ParameterError when there is none."""
    if manifest.attachments is None:
        raise ParameterError(f"{manifest.backup_id} holds no attachments; `list` shows those of the kind attachments")
    found = tuple(
        file for file in manifest.attachments.files if file.key.startswith(prefix) and bucket in (None, file.bucket)
    )
    if not found:
        raise ParameterError(
            f"{manifest.backup_id} has no file below {prefix!r} in {bucket or 'any bucket'}; `show` says what it has"
        )
    return found


def plan_files(manifest: Manifest, files: Sequence[AttachedFile], target: FileTarget, *, overwrite: bool) -> FilesPlan:
    """Look at what is there, change nothing."""
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="look") as pool:
        found = list(pool.map(target.sha256, files))
    pairs = list(zip(files, found, strict=True))
    return FilesPlan(
        backup_id=manifest.backup_id,
        target=target.describe(),
        missing=tuple(file for file, there in pairs if there is None),
        differs=tuple(file for file, there in pairs if there not in (None, file.sha256)),
        same=tuple(file for file, there in pairs if there == file.sha256),
        overwrite=overwrite,
    )


def restore_files(
    plan: FilesPlan, target: FileTarget, *, store: ObjectStore, catalog: Catalog, progress: Callable[[int], None]
) -> FilesReport:
    """Write what the plan says, then read all of it back and compare by hash; nothing is ever deleted.

    Raises MemberHashError for a file that is damaged in its archive (it is not written), RestoreDiffersError when
    the target does not hold what was written.
    """
    started = time.monotonic()
    manifests = {backup_id: catalog.manifest(backup_id) for backup_id in plan.archives}
    sources = {backup_id: _Source(store, manifest) for backup_id, manifest in manifests.items()}
    done = 0
    with reading_all(store, manifests.values(), what=f"a restore of files into {plan.target}"):
        for file in plan.to_write:
            target.write(file, sources[file.archive or plan.backup_id].read(file))
            done += file.size
            progress(done)
    everything = (*plan.to_write, *plan.same)
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="compare") as pool:
        found = list(pool.map(target.sha256, everything))
    wrong = [file for file, there in zip(everything, found, strict=True) if there != file.sha256]
    if wrong:
        names = ", ".join(f"{file.bucket}/{file.key}" for file in wrong[:SHOWN])
        raise RestoreDiffersError(f"{len(wrong)} files in {plan.target} are not what was archived: {names}")
    return FilesReport(
        backup_id=plan.backup_id,
        written=len(plan.to_write),
        written_bytes=done,
        compared=len(everything),
        left=len(plan.left),
        seconds=round(time.monotonic() - started, 3),
        target=plan.target,
    )


class _Source:
    """One archive that files are read from, by range."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._reader = ArchiveReader(store, manifest)
        self._backup_id = manifest.backup_id
        self._members: Mapping[str, Member] = {member.name: member for member in manifest.members}

    def read(self, file: AttachedFile) -> Iterator[bytes]:
        """Yield a file's bytes; raises MemberHashError at their end, before they count, when they are not its own."""
        member = self._members.get(file.member)
        if member is None or member.sha256 != file.sha256:
            raise MemberHashError(f"{self._backup_id} does not hold {file.bucket}/{file.key} as it was; use another")
        digest = hashlib.sha256()
        for chunk in self._reader.stored(member):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != file.sha256:
            raise MemberHashError(
                f"{file.bucket}/{file.key} is damaged in {self._backup_id}; it was not written, use another backup"
            )
