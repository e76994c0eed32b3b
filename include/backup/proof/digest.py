"""Digests of table content: the SHA-256 of a stream, and one that does not depend on the order of its lines.

The order-independent digest is the number of lines and the sum, modulo 2^128, of a 128-bit hash (XXH3) of each
line. Two different multisets of lines give the same sum with a probability of about 2^-128 unless somebody
builds them on purpose, which a damaged or misplaced row does not. A sum, never XOR: with XOR equal rows cancel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class StreamDigest:
    """Rows and SHA-256 of a COPY stream in its order."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MultisetDigest:
    """Rows of a COPY stream, whatever their order."""

    rows: int
    total: int

    def __add__(self, other: MultisetDigest) -> MultisetDigest:
        return MultisetDigest(self.rows + other.rows, (self.total + other.total) % _MODULUS)


def stream_digest(chunks: Iterable[bytes]) -> StreamDigest:
    """Hash a COPY stream; it has one line per row."""
    stream = _Stream()
    for chunk in chunks:
        stream.add(chunk)
    return stream.result()


def multiset_digest(chunks: Iterable[bytes]) -> MultisetDigest:
    """Hash the lines of a COPY stream without regard to their order.

    >>> multiset_digest([b"a\\nb\\n"]) == multiset_digest([b"b", b"\\na\\n"])
    True
    >>> multiset_digest([b"a\\na\\n"]) == multiset_digest([b"b\\nb\\n"])
    False
    """
    lines = LineDigest()
    for chunk in chunks:
        lines.add(chunk)
    return lines.result()


def both_digests(chunks: Iterable[bytes]) -> tuple[StreamDigest, MultisetDigest]:
    """Hash a COPY stream both ways in one reading."""
    digests = BothDigests()
    for chunk in chunks:
        digests.add(chunk)
    return digests.result()


class BothDigests:
    """Hashes a COPY stream both ways, as its chunks come."""

    def __init__(self) -> None:
        self._stream, self._lines = _Stream(), LineDigest()

    def add(self, chunk: bytes) -> None:
        self._stream.add(chunk)
        self._lines.add(chunk)

    def result(self) -> tuple[StreamDigest, MultisetDigest]:
        return self._stream.result(), self._lines.result()


class _Stream:
    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._rows = 0

    def add(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._rows += chunk.count(b"\n")

    def result(self) -> StreamDigest:
        return StreamDigest(self._rows, self._digest.hexdigest())


class LineDigest:
    """Hashes lines as they come; one that spans chunks is never held whole, as a row may have a gigabyte."""

    def __init__(self) -> None:
        self._rows = self._total = 0
        self._open = xxhash.xxh3_128()
        self._is_open = False

    def add(self, chunk: bytes) -> None:
        first, *others = chunk.split(b"\n")
        self._open.update(first)
        self._is_open = self._is_open or bool(first)
        if not others:
            return
        last = others.pop()
        self._rows += 1 + len(others)
        self._total += self._open.intdigest() + sum(map(xxhash.xxh3_128_intdigest, others))
        self._open.reset()
        self._open.update(last)
        self._is_open = bool(last)

    def result(self) -> MultisetDigest:
        if not self._is_open:
            return MultisetDigest(self._rows, self._total % _MODULUS)
        return MultisetDigest(self._rows + 1, (self._total + self._open.intdigest()) % _MODULUS)
