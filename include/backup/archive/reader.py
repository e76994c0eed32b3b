"""Read an archive as it is stored: whole, with every byte checked, or single members by ranged reads."""

from __future__ import annotations

import base64
import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from include.backup.archive.members import Compression, chunks_of, uncompressed
from include.backup.errors import ArchiveError, MemberHashError
from include.backup.manifest import Manifest, Member
from include.backup.store import ObjectStore

CONCURRENCY = 4


class ArchiveReader:
    """The archive of one manifest in the store."""

    def __init__(self, store: ObjectStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._starts = [member.offset for member in manifest.members]

    def fetch_all(self, folder: Path, *, progress: Callable[[int], None]) -> None:
        """Read the whole archive once and write its members below ``folder``.

        Every byte takes part: headers and padding through the archive's checksum, members through their own.
        Raises MemberHashError for the member that differs, ArchiveError when only the rest does.
        """
        for member in self._manifest.members:
            self._make(folder, member)
        archive = self._manifest.archive

        def part(offset: int) -> bytes:
            digest = hashlib.sha256()
            position = offset
            for chunk in self._store.read(archive.key, offset, min(archive.part_size, archive.size - offset)):
                digest.update(chunk)
                self._scatter(folder, position, chunk)
                position += len(chunk)
            progress(position - offset)
            return digest.digest()

        with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="fetch") as pool:
            digests = list(pool.map(part, range(0, archive.size, archive.part_size)))
        self._check(folder, self._manifest.members)
        found = f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"
        if found != archive.checksum:
            raise ArchiveError(
                f"{self._store.url(archive.key)} has the checksum {found} and its manifest says {archive.checksum}: "
                "bytes between its members differ; use another backup"
            )

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Read single members by range and write them below ``folder``, checked."""
        members = [self._manifest.member(name) for name in names]

        def one(member: Member) -> None:
            with self._make(folder, member).open("wb") as file:
                for chunk in self.stored(member):
                    file.write(chunk)

        with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="fetch") as pool:
            list(pool.map(one, members))
        self._check(folder, members)

    def read(self, name: str) -> bytes:
        """Return the content of a small member, checked; raises MemberHashError."""
        member = self._manifest.member(name)
        content = b"".join(self.content(member))
        if len(content) != member.length or hashlib.sha256(content).hexdigest() != member.sha256:
            raise MemberHashError(
                f"member {name} is damaged: its {len(content)} bytes differ from what the manifest recorded; "
                "use another backup"
            )
        return content

    def stored(self, member: Member) -> Iterator[bytes]:
        """Yield a member's bytes as stored, read by range."""
        return self._store.read(self._manifest.archive.key, member.offset, member.stored_length)

    def stored_run(self, members: Sequence[Member]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield members that follow each other in the archive with their bytes, all read by one request.

        Each one's bytes are to be taken before the next member.
        """
        first, last = members[0], members[-1]
        length = last.offset + last.stored_length - first.offset
        chunks = self._store.read(self._manifest.archive.key, first.offset, length)
        position, rest = first.offset, b""

        def until(end: int) -> Iterator[bytes]:
            nonlocal position, rest
            while position < end:
                chunk = rest or next(chunks)
                piece, rest = chunk[: end - position], chunk[end - position :]
                position += len(piece)
                yield piece

        for member in members:
            for _ in until(member.offset):
                pass
            yield member, until(member.offset + member.stored_length)

    def content(self, member: Member) -> Iterator[bytes]:
        """Yield a member's content, read by range and uncompressed."""
        return uncompressed(self.stored(member), member.compression, name=member.name)

    def _make(self, folder: Path, member: Member) -> Path:
        path = member_path(folder, member.name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(member.stored_length)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _not_allowed(member.name) from error
        return path

    def _scatter(self, folder: Path, position: int, chunk: bytes) -> None:
        index = max(0, bisect_right(self._starts, position) - 1)
        end = position + len(chunk)
        while index < len(self._starts) and self._starts[index] < end:
            member = self._manifest.members[index]
            begin = max(position, member.offset)
            until = min(end, member.offset + member.stored_length)
            if begin < until:
                handle = os.open(member_path(folder, member.name), os.O_WRONLY)
                try:
                    os.pwrite(handle, chunk[begin - position : until - position], begin - member.offset)
                finally:
                    os.close(handle)
            index += 1

    def _check(self, folder: Path, members: Iterable[Member]) -> None:
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="check") as pool:
            list(pool.map(lambda member: check_member(folder, member), members))


def check_member(folder: Path, member: Member) -> None:
    """Raise MemberHashError unless the fetched file has the recorded length and SHA-256."""
    path = member_path(folder, member.name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    if size != member.stored_length or found != member.stored_sha256:
        raise MemberHashError(
            f"member {member.name} is damaged: {size} bytes with SHA-256 {found}, the manifest says "
            f"{member.stored_length} with {member.stored_sha256}; use another backup"
        )


def fetched_content(folder: Path, member: Member) -> Iterator[bytes]:
    """Yield the content of a fetched member."""
    with member_path(folder, member.name).open("rb") as file:
        yield from uncompressed(chunks_of(file), member.compression, name=member.name)


def member_path(folder: Path, name: str) -> Path:
    """Return where a member goes below ``folder``; raises ArchiveError for a name that would leave it."""
    pure = PurePosixPath(name)
    leaves = pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in name or "\0" in name
    if leaves or str(pure) != name:  # two spellings of one path would be one file
        raise _not_allowed(name)
    return folder.joinpath(*pure.parts)


def _not_allowed(name: str) -> ArchiveError:
    return ArchiveError(f"member name {name!r} is not allowed; the manifest is damaged or hostile")


def unpack_for_old_pg_restore(folder: Path) -> None:
    """Write the content of each .zst file beside it: pg_restore before 16 does not read zstd."""
    for path in sorted(folder.rglob("*.zst")):
        with path.open("rb") as stored, path.with_suffix("").open("wb") as raw:
            for chunk in uncompressed(chunks_of(stored), Compression.ZSTD, name=path.name):
                raw.write(chunk)
