"""close_staging: remove the staging folder of a backup that is stored, verified and, where asked, proven."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from include.backup.errors import StagingError
from include.backup.steps.context import StepContext
from include.backup.steps.dump import folder_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseReport:
    """What close_staging did; sizes in bytes."""

    backup_id: str
    removed_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return f"staging of {self.backup_id} removed, {self.removed_bytes} bytes freed"


def run(ctx: StepContext) -> CloseReport:
    """Remove the staging folder; a second time finds nothing to do.

    Raises StagingError while the store does not hold the manifest: then staging is all there is.
    """
    if not ctx.staging.exists():
        return CloseReport(backup_id=ctx.backup_id, removed_bytes=0)
    if not ctx.manifest_is_stored():
        raise StagingError(f"{ctx.backup_id} is not stored; its staging folder {ctx.staging.path} is kept")
    with ctx.staging.locked():
        size = folder_bytes(ctx.staging.path)
        ctx.staging.remove()
    return CloseReport(backup_id=ctx.backup_id, removed_bytes=size)
