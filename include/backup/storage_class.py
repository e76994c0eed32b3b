"""Move a proven archive into the storage class in which it is kept, without ever having only half of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from include.backup.errors import ObjectDiffersError, StoreDeniedError
from include.backup.manifest import Manifest
from include.backup.multipart_copy import CopyPlan, copy
from include.backup.store import Encryption, ObjectStore
from include.backup.versions import COLD_CLASSES, Version, current_version, delete_version, older_versions

# Where an archive lies until it is proven: it can be read back at once.
FIRST_CLASS = "STANDARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChange:
    """What a change of class did; ``left`` counts old versions that could not be deleted and still cost."""

    backup_id: str
    storage_class: str
    changed: bool
    checked_by: str
    removed: int
    removed_bytes: int
    left: int
    seconds: float


def first_class(storage_class: str, *, prove: str) -> str | None:
    """Return the class in which an archive is stored until it is proven in its run, or None for the final one.

    >>> first_class("GLACIER", prove="in_chain"), first_class("STANDARD_IA", prove="in_chain")
    ('STANDARD', None)
    """
    return FIRST_CLASS if storage_class in COLD_CLASSES and prove == "in_chain" else None


def change_class(
    store: ObjectStore,
    manifest: Manifest,
    *,
    encryption: Encryption,
    concurrency: int,
    tags: Mapping[str, str],
    log: logging.Logger,
) -> ClassChange:
    """Copy the archive onto itself in its final class, check the copy, then delete the version before it.

    A kill leaves the old version whole, or the new one whole beside it; a second call finds what was done.
    """
    started = time.monotonic()
    archive = manifest.archive
    before = current_version(store, archive.key)
    _check_same(store, manifest, before)
    method, changed = "it was in its class already", before.storage_class != archive.storage_class
    if changed:
        plan = CopyPlan(
            source=before,
            key=archive.key,
            part_size=archive.part_size,
            checksum=archive.checksum,
            storage_class=archive.storage_class,
            encryption=encryption,
            tags=tags,
            concurrency=concurrency,
        )
        method = copy(store, plan, progress=lambda _: None)
        after = current_version(store, archive.key)
        _check_same(store, manifest, after)
        if after.storage_class != archive.storage_class:
            raise ObjectDiffersError(
                f"{store.url(archive.key)} is in {after.storage_class} after a copy to {archive.storage_class}; the "
                "store does not keep classes, correct storage_class in the policy"
            )
    removed, left = _remove_older(store, manifest, log)
    return ClassChange(
        backup_id=manifest.backup_id,
        storage_class=archive.storage_class,
        changed=changed,
        checked_by=method,
        removed=len(removed),
        removed_bytes=sum(version.size for version in removed),
        left=left,
        seconds=round(time.monotonic() - started, 3),
    )


def _check_same(store: ObjectStore, manifest: Manifest, version: Version) -> None:
    archive = manifest.archive
    if version.size != archive.size or version.checksum not in (None, archive.checksum):
        raise ObjectDiffersError(
            f"{store.url(archive.key)} differs from its manifest ({version.size} bytes, SHA-256 {version.checksum}); "
            "nothing was changed, use another backup"
        )


def _remove_older(store: ObjectStore, manifest: Manifest, log: logging.Logger) -> tuple[list[Version], int]:
    """Delete what is provably the same archive in another class; anything else is left and named."""
    removed, left = [], 0
    for version in older_versions(store, manifest.archive.key):
        where = f"version {version.version_id} of {store.url(version.key)}"
        if version.size != manifest.archive.size or version.checksum != manifest.archive.checksum:
            left += 1
            log.warning("%s is not this archive; it was left, look who wrote it", where)
            continue
        try:
            delete_version(store, version)
        except StoreDeniedError as error:
            left += 1
            log.warning("%s (%d bytes) stays and is paid for: %s", where, version.size, error)
            continue
        removed.append(version)
    return removed, left
