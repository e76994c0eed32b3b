"""dump_to_store: from the source to the store in one task, for workers that share no folder.

The same steps as of a chain with shared staging, one after the other in a folder of this worker, and the same archive.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from include.backup.errors import ObjectExistsError, StoreError
from include.backup.steps import close_staging, compress, dump, preflight, upload
from include.backup.steps.context import StepContext
from include.backup.versions import current_version, delete_version

# How long whoever has stored an archive may take to write its manifest.
MANIFEST_TAKES = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpToStoreReport:
    """What the steps did together; sizes in bytes. ``tables`` and ``rows`` are None when it was stored already."""

    backup_id: str
    key: str
    size: int
    staged_bytes: int
    tables: int | None
    rows: int | None
    already_stored: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        if self.already_stored:
            return f"{self.backup_id} was stored already at {self.key}, {self.size} bytes"
        return (
            f"{self.backup_id} dumped and stored at {self.key} by one worker: {self.tables} tables, {self.rows} rows, "
            f"{self.size} bytes, {self.staged_bytes} bytes of its disk for {self.seconds:.1f} s"
        )


def run(ctx: StepContext) -> DumpToStoreReport:
    """Take and store the backup; leaves the folder behind only when it fails, for a retry on the same worker."""
    started = time.monotonic()
    _tell(ctx, preflight.run(ctx, staged_here=True))
    _tell(ctx, dump.run(ctx))
    packed = compress.run(ctx)
    _tell(ctx, packed)
    stored = _upload(ctx)
    _tell(ctx, stored)
    removed = close_staging.run(ctx)
    return DumpToStoreReport(
        backup_id=ctx.backup_id,
        key=stored.key,
        size=stored.size,
        staged_bytes=removed.removed_bytes,
        tables=None if packed is None else packed.tables,
        rows=None if packed is None else packed.rows,
        already_stored=stored.already_stored,
        seconds=round(time.monotonic() - started, 3),
    )


def _upload(ctx: StepContext) -> upload.UploadReport:
    """Upload; the archive of a try that was lost before its manifest, on another worker, makes room for this one.

    A new dump has other bytes, so that the manifest of that archive cannot be written any more: it is no backup. Raises
    StoreError, to be tried again, while a try that still lives somewhere may be about to write it.
    """
    try:
        return upload.run(ctx)
    except ObjectExistsError:
        if ctx.manifest_is_stored():
            raise
        version = current_version(ctx.store, ctx.archive_key)
        if version.version_id is None:
            raise
        found = ctx.store.head(ctx.archive_key)
        if found is None or ctx.clock() - found.modified < MANIFEST_TAKES:
            raise StoreError(
                f"{ctx.store.url(ctx.archive_key)} was stored a moment ago by another try, whose manifest may follow; "
                f"try again in {MANIFEST_TAKES // timedelta(minutes=1)} minutes"
            ) from None
        ctx.log.warning("%s has no manifest, so it is no backup: it is stored anew", ctx.store.url(ctx.archive_key))
        delete_version(ctx.store, version)
        return upload.run(ctx)


def _tell(ctx: StepContext, report: Any) -> None:
    if report is not None:
        ctx.log.info("%s", report.line())
