"""The 3-2-1 report after a backup: seen by everybody, and never a reason for a run to fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowTaskTimeout

from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.redaction import Redactor
from backup_operators.step import BackupStepOperator, step_log
from include.backup.errors import BackupError
from include.backup.policy import load_policy, policy_path

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.supabase.project import SupabaseProject


class ReportCopiesOperator(BackupStepOperator):
    """Ask Supabase for its own daily backup and count all copies. Meant as a teardown: it runs after a failure too.

    Whatever goes wrong here is said, in the log and by ``notify``, and leaves the backup's run as it is.

    Returns the counts and where the report is stored; ``note`` when a person has to look.
    """

    template_fields: Sequence[str] = ("source", "tier")
    step: ClassVar[str] = "report_copies"
    ui_color = "#ceead6"

    def execute(self, context: Context) -> dict[str, Any]:
        die_with_parent()
        try:
            return self._report(context)
        except BackupError as error:
            return self._unknown(Redactor(self._secrets())(str(error)))
        except (Exception, AirflowTaskTimeout) as error:  # noqa: BLE001 - the backup does not hang on a report
            step_log().exception("the report of copies could not be made")
            return self._unknown(f"unexpected {type(error).__name__}, see the log")

    def _report(self, context: Context) -> dict[str, Any]:
        from include.backup.steps import report_copies

        report = report_copies.run(self.step_context(context), open_project=self._open_project)
        step_log().info("%s", report.line())
        return report.to_dict()

    def _open_project(self) -> SupabaseProject | None:
        from include.backup.supabase.project import SupabaseProject

        hosted = load_policy(policy_path(os.environ), only=self.source).source(self.source).supabase
        if hosted is None:
            return None
        return SupabaseProject.open(BackupHook().supabase(hosted.connection), hosted.project_ref)

    def _unknown(self, why: str) -> dict[str, Any]:
        step_log().warning("the copies were not counted: %s", why)
        return {"note": f"the copies were not counted: {why}"}
