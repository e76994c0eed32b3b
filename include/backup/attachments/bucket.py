"""The buckets that files are read from: listed page by page, and read so that a change meanwhile is noticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from include.backup.connections import StoreConnection
from include.backup.errors import BucketMissingError
from include.backup.store import READ_ATTEMPTS, READ_CHUNK_BYTES, ObjectStore

_GONE = {"404", "NoSuchKey", "NotFound"}
_CHANGED = {"412", "PreconditionFailed", "InvalidRange", "416"}


class FileGoneError(Exception):
    """Raised when a file is not there any more; the caller reports it."""


class FileChangedError(Exception):
    """Raised when a file is another one than was listed; the caller looks at it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object as a listing shows it."""

    bucket: str
    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One object that is being read: its properties, and its bytes."""

    content_type: str
    metadata: Mapping[str, str]
    chunks: Iterator[bytes]


class FileBucket:
    """One bucket of files, for reading."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.name = store.bucket

    @classmethod
    def connect(cls, connection: StoreConnection, *, bucket: str, concurrency: int) -> FileBucket:
        """Make the clients; nothing is sent yet."""
        return cls(ObjectStore.connect(connection, bucket=bucket, concurrency=concurrency))

    def list(self) -> dict[str, Listed]:
        """Return every object by its key; a folder that only Supabase's UI sees is one too.

        Raises BucketMissingError, StoreDeniedError or StoreUnreachableError, each naming the bucket.
        """
        try:
            self._store.check_bucket()
        except BucketMissingError as error:
            raise BucketMissingError(
                f"the bucket {self.name} does not exist at the attachments' endpoint; correct attachments.buckets in "
                "the policy, or its connection"
            ) from error
        found = self._store.list("")
        return {
            item.key: Listed(bucket=self.name, key=item.key, size=item.size, etag=item.etag, modified=item.modified)
            for item in found
        }

    def look(self, key: str) -> Listed | None:
        """Return what the store says of one object now, or None when it is not there."""
        info = self._store.head(key)
        if info is None:
            return None
        return Listed(bucket=self.name, key=key, size=info.size, etag=info.etag, modified=info.modified)

    def open(self, listed: Listed) -> Opened:
        """Begin to read exactly the object that was listed; raises FileGoneError or FileChangedError."""
        answer = self._get(listed, 0)
        return Opened(
            content_type=str(answer.get("ContentType") or "application/octet-stream"),
            metadata=dict(answer.get("Metadata") or {}),
            chunks=self._chunks(listed, answer),
        )

    def _chunks(self, listed: Listed, answer: Any) -> Iterator[bytes]:
        """Yield all bytes; a broken connection goes on where it stopped, in the same object."""
        done = attempts = 0
        while True:
            before = done
            try:
                for chunk in answer["Body"].iter_chunks(READ_CHUNK_BYTES):
                    done += len(chunk)
                    yield chunk
            except (BotoConnectionError, HTTPClientError):
                attempts = attempts + 1 if done == before else 1
                if attempts >= READ_ATTEMPTS:
                    raise
            if done >= listed.size:
                return
            answer = self._get(listed, done)

    def _get(self, listed: Listed, offset: int) -> Any:
        part: Any = {"Range": f"bytes={offset}-"} if offset else {}
        with self._store.errors(listed.key, "read the file"):
            try:
                answer = self._store.s3.get_object(Bucket=self.name, Key=listed.key, IfMatch=f'"{listed.etag}"', **part)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                if code in _GONE:
                    raise FileGoneError(listed.key) from error
                if code in _CHANGED:
                    raise FileChangedError(listed.key) from error
                raise
        if answer["ETag"].strip('"') != listed.etag or answer["ContentLength"] != listed.size - offset:
            raise FileChangedError(listed.key)
        return answer
