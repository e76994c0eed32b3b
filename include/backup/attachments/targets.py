"""Where files are put back to: a folder, or a bucket. Both say what they hold by its hash."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol, cast

from boto3.s3.transfer import TransferConfig

from include.backup.archive.reader import member_path
from include.backup.attachments.record import AttachedFile
from include.backup.errors import RestoreError, StagingFullError
from include.backup.store import Encryption, ObjectStore

READ_BYTES = 1 << 18
PART_BYTES = 16 << 20
CONCURRENCY = 4
ENOSPC = 28


class FileTarget(Protocol):
    """A place that takes files."""

    def describe(self) -> str:
        """Return what a person reads."""

    def sha256(self, file: AttachedFile) -> str | None:
        """Return the hash of what is there under this file's name, or None."""

    def write(self, file: AttachedFile, chunks: Iterator[bytes]) -> None:
        """Write a file whole, or not at all."""


class FolderTarget:
    """A folder; files get the names that they have in the tar, which never leave it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self) -> str:
        return str(self._root)

    def sha256(self, file: AttachedFile) -> str | None:
        path = self._path(file)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RestoreError(f"{path} cannot be read ({error.strerror}); give another folder") from error
        with open(handle, "rb") as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest()

    def write(self, file: AttachedFile, chunks: Iterator[bytes]) -> None:
        path = self._path(file)
        draft = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with open(handle, "wb") as stored:
                    for chunk in chunks:
                        stored.write(chunk)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            if error.errno == ENOSPC:
                raise StagingFullError(f"the disk of {self._root} is full; free space, then go on") from error
            raise RestoreError(f"{path} cannot be written ({error.strerror}); give another folder") from error

    def _path(self, file: AttachedFile) -> Path:
        """Return a file's place; raises RestoreError when a link on the way leads out of the folder."""
        path = member_path(self._root, file.member)
        for parent in path.relative_to(self._root).parents:
            if (self._root / parent).is_symlink() and parent != Path():
                raise RestoreError(f"{self._root / parent} is a link; files are not put through links, remove it")
        return path


class BucketTarget:
    """A bucket; files get their keys, content types and metadata back."""

    def __init__(self, store: ObjectStore, *, encryption: Encryption) -> None:
        self._store = store
        self._encryption = encryption

    def describe(self) -> str:
        return f"s3://{self._store.bucket}"

    def sha256(self, file: AttachedFile) -> str | None:
        info = self._store.head(file.key)
        if info is None:
            return None
        if info.size != file.size:
            return f"{info.size} bytes"
        digest = hashlib.sha256()
        for chunk in self._store.read(file.key, 0, info.size):
            digest.update(chunk)
        return digest.hexdigest()

    def write(self, file: AttachedFile, chunks: Iterator[bytes]) -> None:
        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=CONCURRENCY
        )
        body = cast(IO[bytes], io.BufferedReader(_Stream(chunks), READ_BYTES))
        with self._store.errors(file.key, "write the file"):
            self._store.s3.upload_fileobj(
                body,
                self._store.bucket,
                file.key,
                ExtraArgs={
                    "ContentType": file.content_type,
                    "Metadata": dict(file.metadata),
                    **self._encryption.arguments(),
                },
                Config=config,
            )


class _Stream(io.RawIOBase):
    """Chunks as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
