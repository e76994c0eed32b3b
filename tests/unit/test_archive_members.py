"""Members of an archive: what one reading of them tells, however the bytes are cut into chunks."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import strategies as st

from include.backup.archive.members import (
    DATA_TRAILER,
    Compression,
    compress_file,
    inspect,
    without_trailer,
)
from include.backup.errors import TruncatedMemberError
from tests.support.properties import given

ROWS = b"1\tone\n2\ttwo\n3\t\\N\n"


def pieces(content: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Yield the content cut at some places."""
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        yield content[begin:end]


@given(rows=st.binary(max_size=200), cuts=st.lists(st.integers(0, 500), max_size=20))
def test_the_end_mark_is_taken_off_wherever_chunks_end(rows: bytes, cuts: list[int]) -> None:
    assert b"".join(without_trailer(pieces(rows + DATA_TRAILER, cuts), name="x")) == rows


@given(cut=st.integers(0, len(ROWS + DATA_TRAILER) - 1), cuts=st.lists(st.integers(0, 50), max_size=10))
def test_table_data_that_was_cut_short_is_refused_wherever_chunks_end(cut: int, cuts: list[int]) -> None:
    with pytest.raises(TruncatedMemberError, match="no end mark"):
        list(without_trailer(pieces((ROWS + DATA_TRAILER)[:cut], cuts), name="x"))


def test_one_reading_tells_lengths_hashes_and_rows() -> None:
    content = ROWS * 50_000 + DATA_TRAILER
    stored = zstd.compress(content[:100_000]) + zstd.compress(content[100_000:])

    facts = inspect(pieces(stored, [7, 999]), name="x", compression=Compression.ZSTD, table_data=True)

    assert facts.rows == 150_000
    assert (facts.length, facts.stored_length) == (len(content), len(stored))
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    assert facts.stored_sha256 == hashlib.sha256(stored).hexdigest()
    assert facts.content_sha256 == hashlib.sha256(ROWS * 50_000).hexdigest()


def test_an_empty_table_has_no_rows() -> None:
    facts = inspect([DATA_TRAILER], name="x", compression=Compression.NONE, table_data=True)
    assert facts.rows == 0
    assert facts.content_sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_compressed_file_reads_back_with_the_facts_of_its_writing(tmp_path: Path, threads: int) -> None:
    raw, target = tmp_path / "1.dat", tmp_path / "1.dat.zst"
    raw.write_bytes(ROWS * 100_000 + DATA_TRAILER)

    written = compress_file(raw, target, level=1, threads=threads, table_data=True)

    with target.open("rb") as stored:
        assert inspect(stored, name="1.dat", compression=Compression.ZSTD, table_data=True) == written
    assert written.rows == 300_000
