"""A tar that is written to the store while it grows: parts of it in memory, never the whole."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from include.backup.archive.members import Compression
from include.backup.errors import ObjectShortError
from include.backup.manifest import Member
from include.backup.multipart import abort_unfinished
from include.backup.multipart_calls import begin, complete, composite_of, part_checksum, part_entry, put_part
from include.backup.store import Encryption, ObjectStore

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class TarTarget:
    """Where the tar goes; ``part_size`` and ``concurrency`` bound its memory."""

    key: str
    part_size: int
    concurrency: int
    encryption: Encryption
    storage_class: str
    tags: Mapping[str, str]
    modified_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTar:
    """The finished object."""

    size: int
    checksum: str
    parts: int


class TarUpload:
    """Write members one after the other; at most ``concurrency`` parts are on their way, and one is being filled.

    Used as a context: leaving it by an exception aborts the upload, so that nothing is left to pay for. Nobody can
    know in advance how long a file will be when it is read, so that the tar of a killed try is not gone on with: the
    next one begins anew.
    """

    def __init__(self, store: ObjectStore, target: TarTarget, *, progress: Callable[[int], None]) -> None:
        self._store = store
        self._target = target
        self._progress = progress
        self._buffer = bytearray()
        self._sent: list[Future[dict[str, Any]]] = []
        self._places = threading.BoundedSemaphore(target.concurrency)
        self._pool = ThreadPoolExecutor(target.concurrency, thread_name_prefix="part")
        self._upload_id = ""
        self.size = 0

    def __enter__(self) -> Self:
        abort_unfinished(self._store, self._target.key)
        self._upload_id = begin(
            self._store,
            self._target.key,
            storage_class=self._target.storage_class,
            encryption=self._target.encryption,
            tags=self._target.tags,
            what="the upload of",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is not None:
            abort_unfinished(self._store, self._target.key)

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> Member:
        """Write one member of exactly ``size`` bytes.

        When ``chunks`` raises, or gives another number of bytes, the rest is filled with zeros, so that the tar stays
        one; the exception is raised again and the member does not count.
        """
        self._write(_header(name, size, self._target.modified_at))
        offset, digest, done = self.size, hashlib.sha256(), 0
        try:
            for chunk in chunks:
                data = chunk[: size - done]
                digest.update(data)
                self._write(data)
                done += len(data)
                if len(data) != len(chunk):
                    break
        finally:
            self._fill(size - done + -size % _BLOCK)
        if done != size:
            raise ObjectShortError(f"{name} ended after {done} of {size} bytes")
        return Member(
            name=name,
            offset=offset,
            stored_length=size,
            stored_sha256=digest.hexdigest(),
            length=size,
            sha256=digest.hexdigest(),
            compression=Compression.NONE,
            table_data=None,
        )

    def seal(self) -> StoredTar:
        """Write the end of the tar, wait for the parts, and return what the object will be."""
        self._write(_END)
        if self._buffer:
            self._send()
        parts = [future.result() for future in self._sent]
        return StoredTar(size=self.size, checksum=composite_of(parts), parts=len(parts))

    def complete(self) -> None:
        """Make the sealed object; raises ObjectExistsError when somebody else made it."""
        complete(self._store, self._target.key, self._upload_id, [future.result() for future in self._sent])

    def _fill(self, count: int) -> None:
        while count > 0:
            step = min(count, self._target.part_size)
            self._write(bytes(step))
            count -= step

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self._buffer += data
        while len(self._buffer) >= self._target.part_size:
            self._send()

    def _send(self) -> None:
        body = bytes(memoryview(self._buffer)[: self._target.part_size])
        del self._buffer[: len(body)]
        self._places.acquire()
        number = len(self._sent) + 1
        try:
            self._sent.append(self._pool.submit(self._upload, number, body))
        except BaseException:
            self._places.release()
            raise
        for future in self._sent[-2 * self._target.concurrency :]:
            if future.done() and future.exception() is not None:
                future.result()

    def _upload(self, number: int, body: bytes) -> dict[str, Any]:
        try:
            checksum = part_checksum(hashlib.sha256(body).digest())
            etag = put_part(
                self._store, self._target.key, self._upload_id, number, body, length=len(body), checksum=checksum
            )
        finally:
            self._places.release()
        self._progress(len(body))
        return part_entry(number, etag=etag, checksum=checksum)


def _header(name: str, size: int, modified_at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    info.mtime = modified_at
    return info.tobuf(format=tarfile.PAX_FORMAT)
