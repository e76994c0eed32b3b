"""Upload an archive in parts: parallel, checksummed, resumed after a kill, in bounded memory."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, cast

from include.backup.archive.tar import TarLayout
from include.backup.multipart_calls import (
    begin,
    complete,
    composite,
    composite_of,
    part_checksum,
    part_entry,
    put_part,
)
from include.backup.store import Encryption, ObjectStore

MAXIMUM_PARTS = 10_000
READ_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """What is uploaded where; sizes in bytes."""

    key: str
    layout: TarLayout
    part_size: int
    concurrency: int
    encryption: Encryption
    storage_class: str
    tags: Mapping[str, str]

    @property
    def parts(self) -> int:
        return max(1, -(-self.layout.size // self.part_size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The finished object: S3's composite checksum, and how many parts an earlier try had sent."""

    checksum: str
    parts: int
    resumed_parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPart:
    """A part that the store has taken, with what the completion needs to name it."""

    etag: str
    checksum: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SentParts:
    """Parts that were sent before the archive was whole, by their number as text; ``upload_id`` is S3's."""

    upload_id: str
    part_size: int
    parts: Mapping[str, SentPart]


def part_size_for(size: int, wanted: int) -> int:
    """Return the part size that keeps an object of ``size`` bytes within S3's 10,000 parts.

    >>> part_size_for(10 * 2**30, 16 * 2**20) == 16 * 2**20
    True
    >>> part_size_for(2**40, 16 * 2**20)
    115343360
    """
    mebibyte = 1 << 20
    needed = -(-size // (MAXIMUM_PARTS - 100))
    return max(wanted, -(-needed // mebibyte) * mebibyte)


def upload(
    store: ObjectStore, plan: UploadPlan, *, progress: Callable[[int], None], sent: SentParts | None = None
) -> Uploaded:
    """Upload the layout's bytes; ``progress`` gets the bytes of each finished part.

    An unfinished upload of the same key that has parts with checksums is resumed where these are right; all others
    are aborted, so that a killed try leaves nothing to pay for. ``sent`` is what this very upload sent before.
    Raises ObjectExistsError when another writer made the object meanwhile.
    """
    upload_id, stored = _resume(store, plan, sent)
    if upload_id is None:
        upload_id = _begin(store, plan)
    sender = _Sender(store, plan, upload_id, stored, progress)
    with ThreadPoolExecutor(plan.concurrency, thread_name_prefix="part") as pool:
        parts = list(pool.map(sender.send, range(1, plan.parts + 1)))
    complete(store, plan.key, upload_id, parts)
    return Uploaded(
        checksum=composite_of(parts),
        parts=len(parts),
        resumed_parts=sender.resumed,
    )


def checksum_of(plan: UploadPlan) -> str:
    """Return the composite checksum that the plan's bytes have, without sending them."""

    def digest(number: int) -> bytes:
        view = plan.layout.open(number * plan.part_size, plan.part_size)
        return base64.b64decode(_sha256(cast(IO[bytes], io.BufferedReader(view, READ_BUFFER_BYTES))))

    with ThreadPoolExecutor(plan.concurrency, thread_name_prefix="hash") as pool:
        return composite(list(pool.map(digest, range(plan.parts))))


def abort_unfinished(store: ObjectStore, key: str, *, keep: str | None = None) -> int:
    """Abort unfinished uploads of a key but ``keep``; return how many there were."""
    aborted = 0
    for upload_id in _unfinished(store, key):
        if upload_id != keep:
            with store.errors(key, "abort an unfinished upload of"):
                store.s3.abort_multipart_upload(Bucket=store.bucket, Key=key, UploadId=upload_id)
            aborted += 1
    return aborted


class _Sender:
    def __init__(
        self,
        store: ObjectStore,
        plan: UploadPlan,
        upload_id: str,
        stored: Mapping[int, dict[str, Any]],
        progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._plan = plan
        self._upload_id = upload_id
        self._stored = stored
        self._progress = progress
        self._lock = threading.Lock()
        self.resumed = 0

    def send(self, number: int) -> dict[str, Any]:
        """Send one part, or recognise the one that is there; return its entry for the completion."""
        view = self._plan.layout.open((number - 1) * self._plan.part_size, self._plan.part_size)
        length = len(view)
        body = cast(IO[bytes], io.BufferedReader(view, READ_BUFFER_BYTES))
        checksum = _sha256(body)
        there = self._stored.get(number)
        if there and there.get("ChecksumSHA256") == checksum and there["Size"] == length:
            etag = there["ETag"]
            with self._lock:
                self.resumed += 1
        else:
            body.seek(0)
            etag = put_part(
                self._store, self._plan.key, self._upload_id, number, body, length=length, checksum=checksum
            )
        with self._lock:
            self._progress(length)
        return part_entry(number, etag=etag, checksum=checksum)


class GrowingUpload:
    """Sends parts of an archive that is not whole yet; ``upload`` completes it, given ``sent``."""

    def __init__(self, store: ObjectStore, plan: UploadPlan) -> None:
        abort_unfinished(store, plan.key)
        self._store = store
        self._part_size = plan.part_size
        self._upload_id = _begin(store, plan)
        self._parts: dict[str, SentPart] = {}

    def send(self, plan: UploadPlan, number: int) -> None:
        """Send one part, all bytes of which are known."""
        sender = _Sender(self._store, plan, self._upload_id, {}, lambda _: None)
        part = sender.send(number)
        self._parts[str(number)] = SentPart(etag=part["ETag"], checksum=part["ChecksumSHA256"], size=self._part_size)

    @property
    def sent(self) -> SentParts:
        return SentParts(upload_id=self._upload_id, part_size=self._part_size, parts=dict(self._parts))


def _resume(
    store: ObjectStore, plan: UploadPlan, sent: SentParts | None
) -> tuple[str | None, dict[int, dict[str, Any]]]:
    unfinished = sorted(_unfinished(store, plan.key))
    if not unfinished:
        return None, {}
    if sent is not None and sent.upload_id in unfinished and sent.part_size == plan.part_size:
        abort_unfinished(store, plan.key, keep=sent.upload_id)
        return sent.upload_id, {
            int(number): {"ETag": part.etag, "ChecksumSHA256": part.checksum, "Size": part.size}
            for number, part in sent.parts.items()
        }
    found = ((upload_id, _sent_before(store, plan, upload_id)) for upload_id in unfinished)
    upload_id, parts = next(((one, parts) for one, parts in found if parts), (None, {}))
    abort_unfinished(store, plan.key, keep=upload_id)
    return upload_id, parts


def _sent_before(store: ObjectStore, plan: UploadPlan, upload_id: str) -> dict[int, dict[str, Any]]:
    """Return an unfinished upload's parts; none when it was not begun for this plan.

    Preflight tries whether a key may be written by beginning an upload: without class, tags and checksums.
    """
    with store.errors(plan.key, "list the parts of"):
        paginator = store.s3.get_paginator("list_parts")
        pages = list(paginator.paginate(Bucket=store.bucket, Key=plan.key, UploadId=upload_id))
    parts = {part["PartNumber"]: dict(part) for page in pages for part in page.get("Parts", [])}
    as_planned = all(page.get("StorageClass", plan.storage_class) == plan.storage_class for page in pages)
    return parts if as_planned and any("ChecksumSHA256" in part for part in parts.values()) else {}


def _unfinished(store: ObjectStore, key: str) -> list[str]:
    with store.errors(key, "list unfinished uploads of"):
        pages = store.s3.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket, Prefix=key)
        return [item["UploadId"] for page in pages for item in page.get("Uploads", []) if item["Key"] == key]


def _begin(store: ObjectStore, plan: UploadPlan) -> str:
    return begin(
        store,
        plan.key,
        storage_class=plan.storage_class,
        encryption=plan.encryption,
        tags=plan.tags,
        what="the upload of",
    )


def _sha256(body: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := body.read(READ_BUFFER_BYTES):
        digest.update(chunk)
    return part_checksum(digest.digest())
