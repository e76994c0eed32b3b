"""The steps of a base backup, one operator each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from backup_operators.hook import BackupHook
from backup_operators.step import BackupStepOperator, folder_from, run_identity, source_policy, step_log
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.steps.context import StepContext

TIER = "incremental"


class BaseStepOperator(BackupStepOperator):
    """Run one step of a base backup.

    :param source: source of the policy (templated)

    Returns the step's report: ids and numbers, and its line of evidence.
    """

    template_fields: Sequence[str] = ("source",)
    module: ClassVar[str]
    step: ClassVar[str] = ""

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(source=source, tier=TIER, **kwargs)

    def run_step(self, context: Context) -> dict[str, Any]:
        report = self.work(self.step_context(context), context)
        if report is None:
            return {}
        step_log().info("%s", report.line())
        return {**report.to_dict(), "line": report.line()}

    def work(self, ctx: StepContext, context: Context) -> Any:
        """Run the step's function."""
        return importlib.import_module(f"include.backup.{self.module}").run(ctx)

    def step_context(self, context: Context) -> StepContext:
        from include.backup.base.context import build_base_context

        source, hook = source_policy(self.source), BackupHook()
        self._runner = Runner(log=step_log())
        return build_base_context(
            source=source,
            run=run_identity(context),
            database=hook.database(source.connection),
            store=hook.store(source.store.connection),
            staging_root=folder_from("BACKUP_STAGING_DIR"),
            scratch_root=folder_from("BACKUP_SCRATCH_DIR"),
            runner=self._runner,
            log=step_log(),
        )


class BasePreflightOperator(BaseStepOperator):
    """Refuse early what would make a base backup fail, and decide which one is due; a run that needs none is skipped.

    :param full: ``True`` or ``False``: whether a full one is to be taken in any case (templated)
    :param reason: who or what asked for it (templated)
    """

    template_fields: Sequence[str] = ("source", "full", "reason")
    module: ClassVar[str] = "base.preflight"
    ui_color = "#e8f0fe"

    def __init__(self, *, full: str, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full = full
        self.reason = reason

    def work(self, ctx: StepContext, context: Context) -> Any:
        from include.backup.base import preflight
        from include.backup.base.plan import Wish

        if self.reason:
            step_log().info("asked for: %s", self.reason)
        report = preflight.run(ctx, wish=Wish.FULL if self.full == "True" else Wish.DUE)
        if not report.take:
            raise AirflowSkipException(report.line())
        return report


class TakeBaseOperator(BaseStepOperator):
    """Copy the cluster's files, and send them to the store while they are copied."""

    module: ClassVar[str] = "base.take"
    ui_color = "#d2e3fc"


class UploadBaseOperator(BaseStepOperator):
    """Send what is not sent yet, complete the archive, write its manifest."""

    module: ClassVar[str] = "base.upload"
    ui_color = "#d2e3fc"


class VerifyBaseOperator(BaseStepOperator):
    """Compare what the store says of the archive with its manifest."""

    module: ClassVar[str] = "steps.verify"
    ui_color = "#ceead6"


class StoreWalOperator(BaseStepOperator):
    """Store the log up to where the backup is consistent."""

    module: ClassVar[str] = "base.store_wal"
    ui_color = "#d2e3fc"


class StartBaseOperator(BaseStepOperator):
    """Unpack what the store holds, start it, recover it, read all of it, write the proof."""

    module: ClassVar[str] = "steps.restore_test"
    ui_color = "#ceead6"


class CloseBaseOperator(BaseStepOperator):
    """Remove the staging folder of a base backup that is stored and verified."""

    module: ClassVar[str] = "steps.close_staging"
    ui_color = "#f1f3f4"
