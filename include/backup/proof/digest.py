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
    digest = hashlib.sha256()
    rows = 0
    for chunk in chunks:
        digest.update(chunk)
        rows += chunk.count(b"\n")
    return StreamDigest(rows, digest.hexdigest())


def multiset_digest(chunks: Iterable[bytes]) -> MultisetDigest:
    """Hash the lines of a COPY stream without regard to their order.

    >>> multiset_digest([b"a\\nb\\n"]) == multiset_digest([b"b", b"\\na\\n"])
    True
    >>> multiset_digest([b"a\\na\\n"]) == multiset_digest([b"b\\nb\\n"])
    False
    """
    rows = total = 0
    rest = b""
    hash_line = xxhash.xxh3_128_intdigest
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        rows += len(lines)
        total += sum(map(hash_line, lines))
    if rest:
        rows += 1
        total += hash_line(rest)
    return MultisetDigest(rows, total % _MODULUS)
