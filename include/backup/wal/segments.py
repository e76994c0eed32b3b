"""WAL segments: their names, numbers and bounds. A segment's size is a property of its cluster, 1 MiB to 1 GiB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from include.backup.errors import WalNameError

DEFAULT_SIZE = 16 << 20
SMALLEST, LARGEST = 1 << 20, 1 << 30
_FOUR_GIB = 1 << 32
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Segment:
    """One segment of one timeline; ``number`` counts from the beginning of the log, ``size`` is in bytes."""

    timeline: int
    number: int
    size: int = DEFAULT_SIZE

    @classmethod
    def at(cls, lsn: int, *, timeline: int, size: int) -> Self:
        """Return the segment that holds the byte at a position."""
        check_size(size)
        return cls(timeline=timeline, number=lsn // size, size=size)

    @classmethod
    def before(cls, lsn: int, *, timeline: int, size: int) -> Self:
        """Return the segment that holds the last byte before a position; raises WalNameError at the very beginning."""
        if lsn <= 0:
            raise WalNameError("there is no segment before the beginning of the log")
        return cls.at(lsn - 1, timeline=timeline, size=size)

    @classmethod
    def parse(cls, name: str, *, size: int) -> Self:
        """Return a segment by its file's name; raises WalNameError.

        >>> Segment.parse("00000001000000160000007F", size=16 << 20).number
        5759
        """
        match = _NAME.fullmatch(name)
        check_size(size)
        timeline, log, low = (int(part, 16) for part in match.groups()) if match else (0, 0, 0)
        if match is None or timeline == 0 or low >= _FOUR_GIB // size:
            raise WalNameError(f"{name!r} is no WAL segment of {size} bytes; one looks like 00000001000000160000007F")
        return cls(timeline=timeline, number=log * (_FOUR_GIB // size) + low, size=size)

    @property
    def name(self) -> str:
        """The name of the segment's file.

        >>> Segment(timeline=1, number=5759).name
        '00000001000000160000007F'
        """
        log, low = divmod(self.number, _FOUR_GIB // self.size)
        return f"{self.timeline:08X}{log:08X}{low:08X}"

    @property
    def start(self) -> int:
        """The position of its first byte."""
        return self.number * self.size

    @property
    def end(self) -> int:
        """The position after its last byte, which is where the next segment begins."""
        return self.start + self.size

    @property
    def next(self) -> Segment:
        return Segment(timeline=self.timeline, number=self.number + 1, size=self.size)


def check_size(size: int) -> None:
    """Raise WalNameError unless a cluster can have segments of this size."""
    if not SMALLEST <= size <= LARGEST or size & (size - 1):
        raise WalNameError(f"{size} bytes is no size of WAL segments; it is a power of two from 1 MiB to 1 GiB")
