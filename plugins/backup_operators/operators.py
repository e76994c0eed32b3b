"""The steps of a backup's chain, one operator each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset

from backup_operators.step import BackupStepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PreflightOperator(BackupStepOperator):
    """Refuse early whatever would make the backup fail or be partial, and make the staging folder."""

    step: ClassVar[str] = "preflight"
    ui_color = "#e8f0fe"


class DumpOperator(BackupStepOperator):
    """Read the source once, under one snapshot, into staging."""

    step: ClassVar[str] = "dump"
    ui_color = "#d2e3fc"


class CompressOperator(BackupStepOperator):
    """Check, hash and count what was dumped."""

    step: ClassVar[str] = "compress"
    ui_color = "#d2e3fc"


class UploadOperator(BackupStepOperator):
    """Stream the archive to the store, then write its manifest."""

    step: ClassVar[str] = "upload"
    ui_color = "#d2e3fc"


class DumpToStoreOperator(BackupStepOperator):
    """Dump, check and store in one task, for workers that share no folder."""

    step: ClassVar[str] = "dump_to_store"
    ui_color = "#d2e3fc"


class VerifyOperator(BackupStepOperator):
    """Compare what the store says of the archive with its manifest, and announce the backup.

    :param asset: the source's asset; its event carries the backup's id and tier

    Returns the step's report: ids and numbers.
    """

    step: ClassVar[str] = "verify"
    ui_color = "#ceead6"

    def __init__(self, *, asset: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.asset = asset

    def run_step(self, context: Context) -> dict[str, Any]:
        report = super().run_step(context)
        context["outlet_events"][self.asset].extra = {"backup_id": report["backup_id"], "tier": self.tier}
        return report


class RestoreTestOperator(BackupStepOperator):
    """Restore the archive as it is stored, compare every row, write the proof."""

    step: ClassVar[str] = "restore_test"
    ui_color = "#ceead6"


class CloseStagingOperator(BackupStepOperator):
    """Remove the staging folder of a backup that is stored and verified."""

    step: ClassVar[str] = "close_staging"
    ui_color = "#f1f3f4"


CHAIN: Sequence[type[BackupStepOperator]] = (
    PreflightOperator,
    DumpOperator,
    CompressOperator,
    UploadOperator,
    VerifyOperator,
    RestoreTestOperator,
    CloseStagingOperator,
)
