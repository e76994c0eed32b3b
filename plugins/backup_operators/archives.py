"""Steps of archives that are kept for long: copies within the store, and another storage class."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from backup_operators.step import BackupStepOperator, step_log

if TYPE_CHECKING:
    from airflow.sdk import Context


class CopyYearlyOperator(BackupStepOperator):
    """Copy the run's archives to the yearly tier, if it is January's run or the parameter says so.

    :param yearly: ``by month``, ``yes`` or ``no`` (templated)

    Returns the step's report: ids and numbers.
    """

    template_fields: Sequence[str] = (*BackupStepOperator.template_fields, "yearly")
    step: ClassVar[str] = "copy_yearly"
    ui_color = "#e6d7f5"

    def __init__(self, *, yearly: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.yearly = yearly

    def run_step(self, context: Context) -> dict[str, Any]:
        return _run_with(self, context, self.yearly)


class ArchiveAttachmentsOperator(BackupStepOperator):
    """Archive the files of the source's buckets, and compare them with the rows of the dump.

    :param yearly: ``by month``, ``yes`` or ``no``; what is copied for years names no earlier archive (templated)

    Returns the step's report: ids and numbers.
    """

    template_fields: Sequence[str] = (*BackupStepOperator.template_fields, "yearly")
    step: ClassVar[str] = "archive_attachments"
    ui_color = "#d2e3fc"

    def __init__(self, *, yearly: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.yearly = yearly

    def run_step(self, context: Context) -> dict[str, Any]:
        return _run_with(self, context, self.yearly)


class ChangeClassOperator(BackupStepOperator):
    """Move the run's proven archives into the storage class in which they are kept."""

    step: ClassVar[str] = "change_class"
    ui_color = "#e6d7f5"


ARCHIVE_STEPS: Sequence[type[BackupStepOperator]] = (
    ArchiveAttachmentsOperator,
    CopyYearlyOperator,
    ChangeClassOperator,
)


def _run_with(operator: BackupStepOperator, context: Context, yearly: str) -> dict[str, Any]:
    step = importlib.import_module(f"include.backup.steps.{operator.step}")
    report = step.run(operator.step_context(context), wanted=yearly)
    step_log().info("%s", report.line())
    result: dict[str, Any] = report.to_dict()
    return result
