"""The versions of one object in a bucket that keeps them all: which counts, and which only cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from include.backup.errors import ObjectMissingError
from include.backup.store import ObjectStore

# What cannot be read back at once: an object of these classes is thawed first, which takes hours.
COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object; ``version_id`` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    etag: str
    size: int
    checksum: str | None
    storage_class: str


def current_version(store: ObjectStore, key: str) -> Version:
    """Return the version that a reader gets; raises ObjectMissingError."""
    found = read_version(store, key, None)
    if found is None:
        raise ObjectMissingError(
            f"{store.url(key)} is not there; run `python -m include.backup list SOURCE` to see what is"
        )
    return found


def read_version(store: ObjectStore, key: str, version_id: str | None) -> Version | None:
    """Return what the store says of one version, or None when it is not there."""
    named: Any = {} if version_id is None else {"VersionId": version_id}
    with store.errors(key, "look at"):
        try:
            head = store.s3.head_object(Bucket=store.bucket, Key=key, ChecksumMode="ENABLED", **named)
        except ClientError as error:
            if error.response["Error"].get("Code") in {"404", "NoSuchKey", "NoSuchVersion", "NotFound"}:
                return None
            raise
    return Version(
        key=key,
        version_id=head.get("VersionId"),
        etag=head["ETag"].strip('"'),
        size=head["ContentLength"],
        checksum=head.get("ChecksumSHA256"),
        storage_class=head.get("StorageClass", "STANDARD"),
    )


def older_versions(store: ObjectStore, key: str) -> tuple[Version, ...]:
    """Return the versions of exactly this key that no reader gets any more."""
    with store.errors(key, "list the versions of"):
        pages = store.s3.get_paginator("list_object_versions").paginate(Bucket=store.bucket, Prefix=key)
        ids = [
            item["VersionId"]
            for page in pages
            for item in page.get("Versions", [])
            if item["Key"] == key and not item["IsLatest"]
        ]
    found = (read_version(store, key, version_id) for version_id in ids)
    return tuple(version for version in found if version is not None)


def delete_version(store: ObjectStore, version: Version) -> None:
    """Delete one version for good; raises StoreDeniedError when a lock or a missing right forbids it."""
    if version.version_id is None:
        raise ObjectMissingError(f"{store.url(version.key)} has no version of its own; nothing was deleted")
    with store.errors(version.key, "delete an older version of"):
        store.s3.delete_object(Bucket=store.bucket, Key=version.key, VersionId=version.version_id)
