"""A tar that is written to the store while it grows: parts of it in memory, never the whole."""

from __future__ import annotations

import base64
import hashlib
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from include.backup.archive.members import Compression
from include.backup.errors import ObjectExistsError, ObjectShortError
from include.backup.manifest import Member
from include.backup.multipart import abort_unfinished, composite
from include.backup.store import Encryption, ObjectStore, tagging

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
        with self._store.errors(self._target.key, "begin the upload of"):
            self._upload_id = self._store.s3.create_multipart_upload(
                Bucket=self._store.bucket,
                Key=self._target.key,
                ChecksumAlgorithm="SHA256",
                ContentType="application/x-tar",
                StorageClass=self._target.storage_class,  # type: ignore[arg-type]
                Tagging=tagging(self._target.tags),
                **self._target.encryption.arguments(),
            )["UploadId"]
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
        digests = [base64.b64decode(future.result()["ChecksumSHA256"]) for future in self._sent]
        return StoredTar(size=self.size, checksum=composite(digests), parts=len(digests))

    def complete(self) -> None:
        """Make the sealed object; raises ObjectExistsError when somebody else made it."""
        parts = [future.result() for future in self._sent]
        with self._store.errors(self._target.key, "complete"):
            try:
                self._store.s3.complete_multipart_upload(
                    Bucket=self._store.bucket,
                    Key=self._target.key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error.response["Error"].get("Code") not in {"PreconditionFailed", "412"}:
                    raise
                raise ObjectExistsError(
                    f"{self._store.url(self._target.key)} was written by another run meanwhile; it was left as it is"
                ) from error

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
            checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
            with self._store.errors(self._target.key, "upload a part of"):
                etag = self._store.s3.upload_part(
                    Bucket=self._store.bucket,
                    Key=self._target.key,
                    UploadId=self._upload_id,
                    PartNumber=number,
                    Body=body,
                    ContentLength=len(body),
                    ChecksumSHA256=checksum,
                )["ETag"]
        finally:
            self._places.release()
        self._progress(len(body))
        return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}


def _header(name: str, size: int, modified_at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    info.mtime = modified_at
    return info.tobuf(format=tarfile.PAX_FORMAT)
