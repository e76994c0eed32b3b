"""An object store in memory: the real class, with bytes of a test in place of S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from include.backup.errors import ObjectExistsError, ObjectMissingError, ObjectShortError
from include.backup.store import Encryption, ObjectInfo, ObjectLock, ObjectStore

CHUNK_BYTES = 700


class MemoryStore(ObjectStore):
    """Answers as the real one does, errors included; remembers the ranges that were read, and the calls."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.bucket = "memory"
        self.objects = dict(objects)
        self.ranges: list[tuple[int, int]] = []
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def head(self, key: str) -> ObjectInfo | None:
        self.calls.append(f"head {key}")
        content = self.objects.get(key)
        return None if content is None else self._info(key, content)

    def get(self, key: str) -> bytes:
        self.calls.append(f"get {key}")
        if key not in self.objects:
            raise ObjectMissingError(f"{self.url(key)} is not there")
        return self.objects[key]

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        with self._lock:
            self.ranges.append((offset, length))
        content = self.get(key)[offset : offset + length]
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]
        if len(content) < length:
            raise ObjectShortError(f"{self.url(key)} ends at byte {offset + len(content)}")

    def put_if_absent(
        self,
        key: str,
        body: bytes,
        *,
        encryption: Encryption,
        tags: Mapping[str, str] | None = None,
        lock: ObjectLock | None = None,
        content_type: str = "application/json",
    ) -> bool:
        with self._lock:
            self.calls.append(f"put {key}")
            if key in self.objects and self.objects[key] != body:
                raise ObjectExistsError(f"{self.url(key)} is already there with other content")
            there = key in self.objects
            self.objects[key] = body
            return not there

    def remove(self, key: str) -> None:
        self.objects.pop(key, None)

    def has_object_lock(self) -> bool:
        return False

    def page(self, prefix: str, *, start_after: str, limit: int) -> tuple[str, ...]:
        self.calls.append(f"list {prefix}")
        return tuple(key for key in sorted(self.objects) if key.startswith(prefix) and key > start_after)[:limit]

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield self._info(key, self.objects[key])

    def keys(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        return (item.key for item in self.list(prefix, start_after=start_after))

    def folders(self, prefix: str) -> Iterator[str]:
        below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        yield from sorted({name.split("/")[0] for name in below if "/" in name})

    def rewritten(self, prefix: str) -> Iterator[tuple[str, int]]:
        return iter(())

    def _info(self, key: str, content: bytes) -> ObjectInfo:
        return ObjectInfo(key=key, size=len(content), modified=datetime(2026, 5, 11, tzinfo=UTC), etag="x")
