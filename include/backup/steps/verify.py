"""verify: what the store itself says of the archive, against the manifest."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from include.backup.errors import ObjectDiffersError
from include.backup.manifest import Manifest
from include.backup.multipart_calls import composite
from include.backup.steps.context import StepContext
from include.backup.store import ObjectInfo, ObjectStore
from include.backup.versions import COLD_CLASSES


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What the store said; ``method`` tells who computed the checksum."""

    backup_id: str
    key: str
    size: int
    checksum: str
    method: str
    encryption: str
    storage_class: str
    seconds: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.key} verified: {self.size} bytes, SHA-256 {self.checksum} ({self.method}), "
            f"encryption {self.encryption}, storage class {self.storage_class}, {self.seconds:.1f} s{note}"
        )


def run(ctx: StepContext) -> VerifyReport:
    """Compare size, checksum, encryption key and storage class; raises ObjectDiffersError at a difference."""
    started = time.monotonic()
    report = verify_archive(ctx.store, ctx.catalog.manifest(ctx.backup_id))
    return replace(report, seconds=round(time.monotonic() - started, 3))


def verify_archive(store: ObjectStore, manifest: Manifest) -> VerifyReport:
    """Compare what the store says of an archive with its manifest."""
    started = time.monotonic()
    archive = manifest.archive
    info = store.head(archive.key)
    if info is None or info.size != archive.size:
        raise ObjectDiffersError(f"{store.url(archive.key)} is gone or was replaced; use another backup")
    if info.checksum is None and info.storage_class in COLD_CLASSES:
        found, method = archive.checksum, f"as recorded, not compared: a store that keeps none and {info.storage_class}"
    elif info.checksum is None:
        found, method = read_back_checksum(store, manifest), "read back, the store keeps none"
    else:
        found, method = info.checksum, "kept by the store"
    wrong = differences(info, manifest, checksum=found)
    if wrong:
        raise ObjectDiffersError(
            f"{store.url(archive.key)} differs from its manifest: {'; '.join(wrong)}; "
            "the backup does not count, start a new run"
        )
    return VerifyReport(
        backup_id=manifest.backup_id,
        key=store.url(archive.key),
        size=info.size,
        checksum=found,
        method=method,
        encryption=_encryption(info),
        storage_class=info.storage_class,
        seconds=round(time.monotonic() - started, 3),
        note=manifest.left_out,
    )


def differences(info: ObjectInfo, manifest: Manifest, *, checksum: str | None) -> tuple[str, ...]:
    """Return what of an archive is not as its manifest says; a checksum that nobody knows is not compared."""
    archive = manifest.archive
    checks = (
        (f"checksum {checksum} instead of {archive.checksum}", checksum not in (None, archive.checksum)),
        (f"encryption {_encryption(info)}", not _encryption_fits(info, manifest)),
        (f"storage class {info.storage_class}", info.storage_class not in (archive.storage_class, archive.first_class)),
    )
    return tuple(text for text, differs in checks if differs)


def read_back_checksum(store: ObjectStore, manifest: Manifest, *, concurrency: int = 4) -> str:
    """Read the whole archive and return its composite SHA-256."""
    size, part_size = manifest.archive.size, manifest.archive.part_size

    def digest(offset: int) -> bytes:
        part = hashlib.sha256()
        for chunk in store.read(manifest.archive.key, offset, min(part_size, size - offset)):
            part.update(chunk)
        return part.digest()

    with ThreadPoolExecutor(concurrency, thread_name_prefix="read-back") as pool:
        return composite(list(pool.map(digest, range(0, size, part_size))))


def _encryption(info: ObjectInfo) -> str:
    return " ".join(part for part in (info.encryption, info.kms_key_id) if part) or "none"


def _encryption_fits(info: ObjectInfo, manifest: Manifest) -> bool:
    wanted = manifest.archive.encryption
    if wanted == "none":
        return True
    return info.encryption == wanted and (
        manifest.archive.kms_key_arn is None or info.kms_key_id == manifest.archive.kms_key_arn
    )
