"""Look at a received segment before it is stored: it must be what its name says, page by page."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from include.backup.errors import WalDiffersError
from include.backup.wal.segments import Segment

# XLogLongPageHeaderData: magic, flags, timeline, address, length that remains; then identifier, sizes.
_LONG = struct.Struct("<HHIQI4xQII")
_SHORT = struct.Struct("<HHIQ")
_ZERO_CHUNK = bytes(1 << 20)


def check_segment(path: Path, segment: Segment, *, system_identifier: str, end: int | None = None) -> None:
    """Raise WalDiffersError unless a file is this segment of this cluster, whole, or at least up to ``end``.

    Every page says which position it begins at. After the end of what was written, where a switch ended the segment
    or where only its beginning was sent, nothing but zeros may follow.
    """
    length = path.stat().st_size
    if length != segment.size:
        raise _differs(path, f"has {length} bytes instead of {segment.size}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _check_first_page(path, content, segment, system_identifier)
        page_size = _LONG.unpack_from(content)[7]
        for offset in range(0, length, page_size):
            magic, _, timeline, address = _SHORT.unpack_from(content, offset)
            if magic and address == segment.start + offset and 0 < timeline <= segment.timeline:
                continue
            if end is not None and segment.start + offset < end:
                raise _differs(path, f"has no page at byte {offset}, which was written")
            if not _zero(content, offset):
                raise _differs(path, f"has at byte {offset} what is no page of it")
            return


def cut(path: Path, length: int) -> None:
    """Leave the beginning of a segment and zeros behind it, as its server had them when it had written no more.

    pg_receivewal stops behind its end, at one that depends on what else was written: with that in it, what is received
    again would have other bytes under the same name. Recovery ends at the zeros, as it does at the end of any log.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(length)
        file.truncate(size)


def _check_first_page(path: Path, content: mmap.mmap, segment: Segment, system_identifier: str) -> None:
    _, _, timeline, address, _, identifier, size, page_size = _LONG.unpack_from(content)
    if str(identifier) != system_identifier:
        raise _differs(path, f"is of the cluster {identifier} instead of {system_identifier}")
    if size != segment.size or page_size < 1024 or page_size & (page_size - 1):
        raise _differs(path, f"says that segments have {size} bytes and pages {page_size}")
    if address != segment.start or not 0 < timeline <= segment.timeline:
        raise _differs(path, f"begins with position {address:X} of timeline {timeline}")


def _zero(content: mmap.mmap, offset: int) -> bool:
    while offset < len(content):
        chunk = content[offset : offset + len(_ZERO_CHUNK)]
        if chunk != _ZERO_CHUNK[: len(chunk)]:
            return False
        offset += len(chunk)
    return True


def _differs(path: Path, what: str) -> WalDiffersError:
    return WalDiffersError(
        f"the received segment {path.name} {what}; it was not stored, and the source keeps it: run again, and if it "
        "stays so look at the source's disk"
    )
