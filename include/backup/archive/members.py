"""Members of an archive: read, check, hash and compress one file of a dump in bounded memory."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from backports import zstd

from include.backup.errors import ArchiveError, TruncatedMemberError

# Small, so that what one thread decompressed is in the cache still when another hashes it.
CHUNK_BYTES = 1 << 17
STORED_CHUNK_BYTES = 1 << 16
RAW_CHUNK_BYTES = 1 << 20
# pg_dump ends the COPY stream of a table with these bytes; a member without them was cut short.
DATA_TRAILER = b"\\.\n\n\n"
_QUEUE_CHUNKS = 4
# Level 19, the highest that the policy allows, needs 2^23 bytes to look back; a frame may ask for 2^27 and more.
_WINDOW_LOG_MAXIMUM = 25


class Compression(StrEnum):
    """How a member's bytes are stored."""

    NONE = "none"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """What reading a member once told: lengths in bytes, hashes as lower-case hex.

    ``rows`` and ``content_sha256`` are there for table data only; the content is the COPY stream without
    its end mark, which is what ``COPY … TO STDOUT`` of the restored table gives again.
    """

    stored_length: int
    stored_sha256: str
    length: int
    sha256: str
    rows: int | None = None
    content_sha256: str | None = None


def chunks_of(stored: IO[bytes], size: int = STORED_CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the stream's bytes in chunks."""
    while chunk := stored.read(size):
        yield chunk


def uncompressed(stored: Iterable[bytes], compression: Compression, *, name: str) -> Iterator[bytes]:
    """Yield a member's content in chunks of at most CHUNK_BYTES.

    Raises TruncatedMemberError when the last zstd frame has no end: the zstd library alone would hand
    out the rows before the cut without a word. pg_dump 17 writes an empty large object as 0 bytes.
    Raises ArchiveError for bytes that are no zstd frame, or one that asks for more memory than ours ever do.
    """
    if compression is Compression.NONE:
        yield from stored
        return
    try:
        yield from _frames(stored, name=name)
    except zstd.ZstdError as error:
        raise ArchiveError(f"member {name} is not valid zstd ({error}); it is damaged, use another backup") from error


def _frames(stored: Iterable[bytes], *, name: str) -> Iterator[bytes]:
    frame = _decompressor()
    between_frames = True
    for chunk in stored:
        data = chunk
        while data or not (frame.needs_input or between_frames):
            between_frames = False
            piece = frame.decompress(data, CHUNK_BYTES)
            data = b""
            if piece:
                yield piece
            if frame.eof:
                data = frame.unused_data
                frame = _decompressor()
                between_frames = True
    if not between_frames:
        raise TruncatedMemberError(f"member {name} ends inside a zstd frame; it was cut short, use another backup")


def _decompressor() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAXIMUM})


def inspect(
    stored: Iterable[bytes], *, name: str, compression: Compression, table_data: bool, two_threads: bool = True
) -> MemberFacts:
    """Read a member once and return what it holds; of many small ones, each is better done in one thread.

    Raises TruncatedMemberError when table data has no end mark or a zstd frame has no end.
    """
    stored_hash = _Counted(hashlib.sha256())
    facts = _content_facts(
        uncompressed(stored_hash.passing(stored), compression, name=name),
        name=name,
        table_data=table_data,
        two_threads=two_threads,
    )
    return MemberFacts(stored_length=stored_hash.length, stored_sha256=stored_hash.hexdigest(), **facts)


def compress_file(source: Path, target: Path, *, level: int, threads: int, table_data: bool) -> MemberFacts:
    """Write ``source`` to ``target`` as one zstd frame and return the facts of the new member."""
    parameters: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.nb_workers: threads if threads > 1 else 0,
    }
    compressor = zstd.ZstdCompressor(options=parameters)
    stored_hash = _Counted(hashlib.sha256())
    with source.open("rb") as raw, target.open("wb") as stored:

        def compressing() -> Iterator[bytes]:
            for chunk in chunks_of(raw, RAW_CHUNK_BYTES):
                stored.write(stored_hash.add(compressor.compress(chunk)))
                yield chunk
            stored.write(stored_hash.add(compressor.flush()))

        facts = _content_facts(compressing(), name=source.name, table_data=table_data, two_threads=True)
    return MemberFacts(stored_length=stored_hash.length, stored_sha256=stored_hash.hexdigest(), **facts)


def without_trailer(content: Iterable[bytes], *, name: str) -> Iterator[bytes]:
    """Yield a table's COPY stream without pg_dump's end mark.

    Raises TruncatedMemberError when the end mark is missing: pg_restore loads such a member with exit
    code 0 and only a part of the rows.
    """
    held = b""
    for chunk in content:
        if len(chunk) < len(DATA_TRAILER):
            held += chunk
            continue
        if held:
            yield held
        held = chunk
    if not held.endswith(DATA_TRAILER):
        raise TruncatedMemberError(f"table data {name} has no end mark; it was cut short, use another backup")
    if len(held) > len(DATA_TRAILER):
        yield held[: -len(DATA_TRAILER)]


def _content_facts(content: Iterable[bytes], *, name: str, table_data: bool, two_threads: bool) -> dict[str, Any]:
    found = _Content(count_lines=table_data)
    with _InBackground(found.add) if two_threads else nullcontext(found.add) as add:
        for chunk in without_trailer(content, name=name) if table_data else content:
            add(chunk)
    if not table_data:
        return {"length": found.length, "sha256": found.digest.hexdigest()}
    whole = found.digest.copy()
    whole.update(DATA_TRAILER)
    return {
        "length": found.length + len(DATA_TRAILER),
        "sha256": whole.hexdigest(),
        "rows": found.lines,
        "content_sha256": found.digest.hexdigest(),
    }


class _Content:
    """Hash, length and lines of what was added."""

    def __init__(self, *, count_lines: bool) -> None:
        self._count_lines = count_lines
        self.digest = hashlib.sha256()
        self.length = self.lines = 0

    def add(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.length += len(chunk)
        if self._count_lines:
            self.lines += chunk.count(b"\n")


class _Counted:
    """A hash that also counts its bytes."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self.length = 0

    def add(self, chunk: bytes) -> bytes:
        self._digest.update(chunk)
        self.length += len(chunk)
        return chunk

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield self.add(chunk)

    def hexdigest(self) -> str:
        return str(self._digest.hexdigest())


class _InBackground:
    """Hand chunks to a function in a second thread: hashing releases the interpreter's lock.

    Two queues, one of them of empty places, cost a third of a bounded one, which is written in Python.
    What the function raises is raised again by the next hand-over, or at the end of the block.
    """

    def __init__(self, consume: Callable[[bytes], object]) -> None:
        self._consume = consume
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> Callable[[bytes], None]:
        for _ in range(_QUEUE_CHUNKS):
            self._places.put(None)
        self._thread.start()
        return self._put

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._chunks.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _put(self, chunk: bytes) -> None:
        self._places.get()
        if self._error is not None:
            raise self._error
        self._chunks.put(chunk)

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._error is None:
                try:
                    self._consume(chunk)
                except Exception as error:  # noqa: BLE001 - raised again in the thread that hands over
                    self._error = error
            self._places.put(None)
