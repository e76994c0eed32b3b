"""The archive as a plain tar that never lies on disk: its layout is computed, its ranges are streamed."""

from __future__ import annotations

import io
import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from include.backup.errors import StagingError

_END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMember:
    """A staged file that becomes a tar member; ``length`` in bytes."""

    name: str
    path: Path
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedMember:
    """Where a member's bytes lie in the tar; ``offset`` and ``length`` in bytes."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Segment:
    start: int
    length: int
    content: bytes | Path


class TarLayout:
    """The byte-exact layout of a tar of staged files, for reading any range of it.

    Everything but names and lengths is fixed (mode, owner, time), so that a retry gives the same bytes. With ``gnu`` a
    header has one length whatever the member's is; else it is longer from 8 GiB on.
    """

    def __init__(self, members: Sequence[FileMember], *, modified_at: int, gnu: bool = False) -> None:
        self._segments: list[_Segment] = []
        self.size = 0
        placed = []
        for member in members:
            self._append(_header(member, modified_at, gnu=gnu))
            placed.append(PlacedMember(name=member.name, offset=self.size, length=member.length))
            self._append(member.path, member.length)
            self._append(bytes(-member.length % tarfile.BLOCKSIZE))
        self._append(_END_OF_ARCHIVE)
        self.members = tuple(placed)
        self._starts = [segment.start for segment in self._segments]

    def open(self, offset: int, length: int) -> RangeReader:
        """Return a seekable stream of ``length`` bytes from ``offset``."""
        return RangeReader(self, offset, min(length, self.size - offset))

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``.

        Raises StagingError when a staged file is shorter than it was when the layout was made.
        """
        index = bisect_right(self._starts, offset) - 1
        pieces = []
        while length > 0 and index < len(self._segments):
            piece = _slice(self._segments[index], offset, length)
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
            index += 1
        return b"".join(pieces)

    def _append(self, content: bytes | Path, length: int | None = None) -> None:
        size = len(content) if isinstance(content, bytes) else length or 0
        if size:
            self._segments.append(_Segment(self.size, size, content))
            self.size += size


class RangeReader(io.RawIOBase):
    """A seekable view of one range of the tar, as an HTTP client wants it for a part."""

    def __init__(self, layout: TarLayout, offset: int, length: int) -> None:
        super().__init__()
        self._layout = layout
        self._offset = offset
        self._length = length
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, min(self._length, base + offset))
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._layout.read(self._offset + self._position, min(len(view), self._length - self._position))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        wanted = self._length - self._position if size is None or size < 0 else size
        data = self._layout.read(self._offset + self._position, min(wanted, self._length - self._position))
        self._position += len(data)
        return data


def _header(member: FileMember, modified_at: int, *, gnu: bool) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size = member.length
    info.mode = 0o600
    info.mtime = modified_at
    return info.tobuf(format=tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT)


def _slice(segment: _Segment, offset: int, length: int) -> bytes:
    begin = offset - segment.start
    count = min(length, segment.length - begin)
    if isinstance(segment.content, bytes):
        return segment.content[begin : begin + count]
    with segment.content.open("rb") as file:
        file.seek(begin)
        data = file.read(count)
    if len(data) != count:
        raise StagingError(
            f"{segment.content} became shorter while it was read; clear the dump task to take a new dump"
        )
    return data
