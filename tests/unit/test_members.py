"""Members: whatever cuts or bends them is seen, and no content takes much memory."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import strategies as st

from include.backup.archive.members import (
    CHUNK_BYTES,
    DATA_TRAILER,
    Compression,
    chunks_of,
    compress_file,
    inspect,
    uncompressed,
    without_trailer,
)
from include.backup.errors import ArchiveError, TruncatedMemberError
from tests.support.properties import given

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20
# Reads a bomb in a process of its own and prints by how much that one grew, in KiB, and what it read.
READ_BOMB = """
import sys
from pathlib import Path
from include.backup.archive.members import Compression, chunks_of, inspect
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
before = peak()
facts = inspect(chunks_of(sys.stdin.buffer), name="bomb", compression=Compression.ZSTD, table_data=False)
print(peak() - before, facts.length)
"""


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def frame(content: bytes, **parameters: int) -> bytes:
    options = {getattr(zstd.CompressionParameter, name): value for name, value in parameters.items()}
    return zstd.compress(content, options={zstd.CompressionParameter.compression_level: 1, **options})


def unpack(stored: list[bytes], name: str = "m") -> bytes:
    return b"".join(uncompressed(stored, Compression.ZSTD, name=name))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50))
def test_frames_are_read_one_after_the_other_whatever_the_chunks(parts: list[bytes], size: int) -> None:
    stored = b"".join(frame(part) for part in parts)
    assert unpack(chunked(stored, size)) == b"".join(parts)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3), st.integers(1, 50), st.data())
def test_a_cut_inside_any_frame_is_seen(parts: list[bytes], size: int, data: st.DataObject) -> None:
    """Only at the end of a frame nothing is seen here: there the end mark or the recorded hash is missing."""
    frames = [frame(part) for part in parts]
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    stored = b"".join(frames)
    at = data.draw(st.integers(0, len(stored)).filter(lambda place: place not in ends))
    with pytest.raises(TruncatedMemberError, match=r"member dump/7\.dat\.zst ends inside a zstd frame"):
        unpack(chunked(stored[:at], size), name="dump/7.dat.zst")


def test_no_bytes_are_the_empty_large_object_of_pg_dump_17() -> None:
    assert unpack([]) == b""
    facts = inspect([], name="blob_1.dat.zst", compression=Compression.ZSTD, table_data=False)
    assert (facts.stored_length, facts.length) == (0, 0)
    assert facts.sha256 == facts.stored_sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("junk", [b"no zstd at all", b"\x28\xb5\x2f\xfd junk", frame(b"a") + b"junk"])
def test_what_is_no_zstd_is_named(junk: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"member users is not valid zstd .* use another backup"):
        unpack([junk], name="users")


@given(st.binary(min_size=40, max_size=400), st.data())
def test_a_bent_byte_never_passes_as_the_same_content(content: bytes, data: st.DataObject) -> None:
    stored = bytearray(frame(content, checksum_flag=1))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = unpack([bytes(stored)])
    except ArchiveError:
        return
    assert found == content


def test_chunks_of_the_content_are_bounded() -> None:
    stored = frame(bytes(5 * MEBIBYTE))
    assert max(map(len, uncompressed([stored], Compression.ZSTD, name="m"))) <= CHUNK_BYTES


@pytest.mark.parametrize("frames", [1, 40])
def test_a_bomb_takes_little_memory(frames: int) -> None:
    """320 MiB of zeros in some kilobytes, in one frame and in many."""
    bomb = frame(bytes(320 * MEBIBYTE // frames)) * frames
    assert len(bomb) < 64 * 1024
    done = subprocess.run(
        [sys.executable, "-c", READ_BOMB], input=bomb, capture_output=True, check=True, cwd=ROOT, env={}
    )
    grown, length = map(int, done.stdout.split())
    assert length == 320 * MEBIBYTE
    assert grown < 64 * 1024


def test_a_frame_that_asks_for_a_window_of_128_mebibytes_is_refused() -> None:
    stored = frame(bytes(200 * MEBIBYTE), window_log=27)
    with pytest.raises(ArchiveError, match="requires too much memory"):
        unpack([stored])


def test_the_highest_level_of_the_policy_is_within_the_window() -> None:
    stored = zstd.compress(b"row\n" * 300_000, level=19)
    assert len(unpack([stored])) == 1_200_000


@given(st.binary(max_size=60), st.integers(1, 12))
def test_the_end_mark_is_taken_off_whatever_the_chunks(content: bytes, size: int) -> None:
    chunks = chunked(content + DATA_TRAILER, size)
    assert b"".join(without_trailer(chunks, name="m")) == content


@given(st.binary(max_size=60), st.integers(1, 12), st.integers(1, len(DATA_TRAILER)))
def test_content_without_its_end_mark_is_refused(content: bytes, size: int, missing: int) -> None:
    cut = (content + DATA_TRAILER)[:-missing]
    if cut.endswith(DATA_TRAILER):
        return
    with pytest.raises(TruncatedMemberError, match="table data users has no end mark"):
        list(without_trailer(chunked(cut, size), name="users"))


def test_an_empty_table_has_its_end_mark() -> None:
    facts = inspect([frame(DATA_TRAILER)], name="m", compression=Compression.ZSTD, table_data=True)
    assert (facts.rows, facts.length) == (0, len(DATA_TRAILER))
    assert facts.content_sha256 == hashlib.sha256().hexdigest()


@given(st.lists(st.binary(max_size=9).filter(lambda row: b"\n" not in row), max_size=9), st.integers(1, 40))
def test_a_table_is_counted_and_hashed_with_and_without_its_end_mark(rows: list[bytes], size: int) -> None:
    content = b"".join(row + b"\n" for row in rows)
    for compression, stored in (
        (Compression.ZSTD, frame(content + DATA_TRAILER)),
        (Compression.NONE, content + DATA_TRAILER),
    ):
        facts = inspect(chunked(stored, size), name="m", compression=compression, table_data=True)
        assert facts.rows == len(rows)
        assert facts.content_sha256 == hashlib.sha256(content).hexdigest()
        assert facts.sha256 == hashlib.sha256(content + DATA_TRAILER).hexdigest()
        assert facts.length == len(content) + len(DATA_TRAILER)
        assert (facts.stored_length, facts.stored_sha256) == (len(stored), hashlib.sha256(stored).hexdigest())


def test_other_members_have_no_rows() -> None:
    facts = inspect([b"PGDMP\n"], name="toc.dat", compression=Compression.NONE, table_data=False)
    assert (facts.rows, facts.content_sha256) == (None, None)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_raw_member_is_compressed_with_the_facts_that_reading_it_gives(tmp_path: Path, threads: int) -> None:
    content = b"".join(b"%d\trow\n" % number for number in range(200_000)) + DATA_TRAILER
    (tmp_path / "1.dat").write_bytes(content)
    facts = compress_file(tmp_path / "1.dat", tmp_path / "1.dat.zst", level=1, threads=threads, table_data=True)
    stored = (tmp_path / "1.dat.zst").read_bytes()
    assert facts == inspect([stored], name="m", compression=Compression.ZSTD, table_data=True)
    assert zstd.decompress(stored) == content
    assert facts.rows == 200_000


def test_a_raw_member_without_its_end_mark_is_not_compressed_in_silence(tmp_path: Path) -> None:
    (tmp_path / "1.dat").write_bytes(b"1\n2\n")
    with pytest.raises(TruncatedMemberError, match=r"1\.dat has no end mark"):
        compress_file(tmp_path / "1.dat", tmp_path / "1.dat.zst", level=1, threads=1, table_data=True)


def test_a_stream_is_read_in_chunks() -> None:
    assert list(chunks_of(io.BytesIO(b"abcde"), 2)) == [b"ab", b"cd", b"e"]
