"""Digests of rows: of a stream in its order, and of its lines in any order."""

from __future__ import annotations

import hashlib
import itertools
import random
import tracemalloc

from hypothesis import strategies as st

from include.backup.proof.digest import (
    MultisetDigest,
    StreamDigest,
    both_digests,
    multiset_digest,
    stream_digest,
)
from tests.support.properties import given

LINES = st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line), max_size=12)


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut data into chunks at these places, empty chunks included."""
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@given(LINES, st.lists(st.integers(0, 200), max_size=6))
def test_chunks_do_not_matter(lines: list[bytes], at: list[int]) -> None:
    data = text(lines)
    chunks = cut(data, at)
    assert stream_digest(chunks) == StreamDigest(len(lines), hashlib.sha256(data).hexdigest())
    assert multiset_digest(chunks) == multiset_digest([data])
    assert both_digests(iter(chunks)) == (stream_digest([data]), multiset_digest([data]))


@given(LINES, st.randoms(use_true_random=False))
def test_order_matters_to_the_stream_alone(lines: list[bytes], chance: random.Random) -> None:
    mixed = list(lines)
    chance.shuffle(mixed)
    assert multiset_digest([text(mixed)]) == multiset_digest([text(lines)])
    assert (stream_digest([text(mixed)]) == stream_digest([text(lines)])) == (mixed == lines)


@given(LINES, LINES)
def test_multisets_are_equal_only_with_the_same_lines_as_often(one: list[bytes], other: list[bytes]) -> None:
    assert (multiset_digest([text(one)]) == multiset_digest([text(other)])) == (sorted(one) == sorted(other))


@given(LINES, LINES)
def test_the_parts_of_a_partitioned_table_add_up(one: list[bytes], other: list[bytes]) -> None:
    whole = multiset_digest([text(one + other)])
    assert multiset_digest([text(one)]) + multiset_digest([text(other)]) == whole


def test_pairs_of_equal_rows_do_not_cancel() -> None:
    digests = {multiset_digest([text([row] * 2)]).total for row in (b"a", b"b", b"c")}
    assert len(digests) == 3
    assert 0 not in digests


def test_the_sum_stays_within_128_bits() -> None:
    digest = multiset_digest([text([b"%d" % number for number in range(1000)])])
    assert 0 <= digest.total < 1 << 128
    top = MultisetDigest(1, (1 << 128) - 1)
    assert top + MultisetDigest(1, 2) == MultisetDigest(2, 1)


def test_a_last_line_without_its_end_counts() -> None:
    assert multiset_digest([b"a\nb"]).rows == 2
    assert multiset_digest([b"a\nb"]) == multiset_digest([b"b\na"])
    assert multiset_digest([]) == MultisetDigest(0, 0)
    assert multiset_digest([b""]) == MultisetDigest(0, 0)


def test_empty_lines_are_rows() -> None:
    """A row of a table without columns."""
    assert stream_digest([b"\n" * 7]).rows == multiset_digest([b"\n" * 7]).rows == 7
    assert multiset_digest([b"\n" * 7]) != multiset_digest([b"\n" * 6])


def test_a_line_of_many_chunks_is_never_held_whole() -> None:
    chunk = b"x" * (1 << 20)
    tracemalloc.start()
    multiset_digest(chunk for _ in range(64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
