"""An object store in memory, for what only reads: the real class, with bytes of a test in place of S3."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from include.backup.errors import ObjectMissingError, ObjectShortError
from include.backup.store import ObjectInfo, ObjectStore

CHUNK_BYTES = 700


class MemoryStore(ObjectStore):
    """Answers as the real one does, errors included; remembers the ranges that were read."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.bucket = "memory"
        self.objects = dict(objects)
        self.ranges: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def head(self, key: str) -> ObjectInfo | None:
        content = self.objects.get(key)
        return None if content is None else self._info(key, content)

    def get(self, key: str) -> bytes:
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

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield self._info(key, self.objects[key])

    def folders(self, prefix: str) -> Iterator[str]:
        below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        yield from sorted({name.split("/")[0] for name in below if "/" in name})

    def _info(self, key: str, content: bytes) -> ObjectInfo:
        return ObjectInfo(key=key, size=len(content), modified=datetime(2026, 5, 11, tzinfo=UTC), etag="x")
