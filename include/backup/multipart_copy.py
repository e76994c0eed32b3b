"""Copy an archive within the store, part by part, so that its checksum stays the same and is checked."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from include.backup.errors import ObjectDiffersError
from include.backup.multipart import abort_unfinished
from include.backup.multipart_calls import IF_ABSENT, begin, complete, composite, part_checksum
from include.backup.store import Encryption, ObjectStore
from include.backup.versions import Version

BY_STORE = "the store's own SHA-256 of each part"
BY_READING = "the original read back, the store's MD5 of each part"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """What is copied where; ``part_size`` is that of the original, or the checksum would be another."""

    source: Version
    key: str
    part_size: int
    checksum: str
    storage_class: str
    encryption: Encryption
    tags: Mapping[str, str]
    concurrency: int

    @property
    def replaces(self) -> bool:
        """Whether the object becomes a new version of itself."""
        return self.key == self.source.key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    number: int
    etag: str
    checksum: str
    by_store: bool

    def entry(self) -> dict[str, Any]:
        """Return the part as the completion names it."""
        named = {"ChecksumSHA256": self.checksum} if self.by_store else {}
        return {"PartNumber": self.number, "ETag": self.etag, **named}


def copy(store: ObjectStore, plan: CopyPlan, *, progress: Callable[[int], None]) -> str:
    """Copy the object and return how it was checked; the copy appears as a whole, or not at all.

    The checksum of the copied parts is compared with the plan's before the copy is completed. A store that
    tells no SHA-256 of a copied part tells its MD5: then the original is read once, and both hashes are compared.
    Raises ObjectDiffersError when they differ, ObjectExistsError when somebody else wrote the target.
    """
    abort_unfinished(store, plan.key)
    upload_id = begin(
        store,
        plan.key,
        storage_class=plan.storage_class,
        encryption=plan.encryption,
        tags=plan.tags,
        what="a copy to",
    )
    try:
        with ThreadPoolExecutor(plan.concurrency, thread_name_prefix="copy") as pool:
            count = max(1, -(-plan.source.size // plan.part_size))
            parts = list(pool.map(lambda number: _copy_part(store, plan, upload_id, number, progress), range(count)))
        found = composite([base64.b64decode(part.checksum) for part in parts])
        if found != plan.checksum:
            raise ObjectDiffersError(
                f"the copy of {store.url(plan.source.key)} has the checksum {found} instead of {plan.checksum}: it was "
                "not completed; the original is damaged, use another backup"
            )
        guard = {"IfMatch": plan.source.etag} if plan.replaces else IF_ABSENT
        complete(store, plan.key, upload_id, [part.entry() for part in parts], guard=guard)
    except BaseException:
        abort_unfinished(store, plan.key)
        raise
    return BY_STORE if all(part.by_store for part in parts) else BY_READING


def _copy_part(
    store: ObjectStore, plan: CopyPlan, upload_id: str, index: int, progress: Callable[[int], None]
) -> _Part:
    offset = index * plan.part_size
    length = min(plan.part_size, plan.source.size - offset)
    origin: Any = {"Bucket": store.bucket, "Key": plan.source.key}
    if plan.source.version_id is not None:
        origin["VersionId"] = plan.source.version_id
    with store.errors(plan.source.key, "copy a part of"):
        answer = store.s3.upload_part_copy(
            Bucket=store.bucket,
            Key=plan.key,
            UploadId=upload_id,
            PartNumber=index + 1,
            CopySource=origin,
            CopySourceRange=f"bytes={offset}-{offset + length - 1}",
            CopySourceIfMatch=plan.source.etag,
        )["CopyPartResult"]
    etag, told = answer["ETag"], answer.get("ChecksumSHA256")
    checksum = told or _read_checksum(store, plan, offset, length, etag)
    progress(length)
    return _Part(number=index + 1, etag=etag, checksum=checksum, by_store=told is not None)


def _read_checksum(store: ObjectStore, plan: CopyPlan, offset: int, length: int, etag: str) -> str:
    """Return the SHA-256 of the original's part, once its MD5 is that of the copied part."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in store.read(plan.source.key, offset, length):
        sha256.update(chunk)
        md5.update(chunk)
    if md5.hexdigest() != etag.strip('"'):
        raise ObjectDiffersError(
            f"the store tells no SHA-256 of a copied part of {store.url(plan.source.key)}, and its ETag is not the MD5 "
            "of that part: the copy cannot be checked, so it was not completed"
        )
    return part_checksum(sha256.digest())
