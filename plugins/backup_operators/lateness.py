"""The first task of DAGs for which a missed slot is better left out than made up for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from backup_operators.step import run_identity, step_log
from include.backup.lateness import lateness

if TYPE_CHECKING:
    from airflow.sdk import Context

CHECK_LATENESS_TIMEOUT = timedelta(minutes=5)
LATE_KEY = "late"


class CheckLatenessOperator(BaseOperator):
    """Skip a scheduled run that starts too late, with all that is downstream; runs that are triggered always pass.

    A cleared run is judged by its first try: a person who clears one the next day wants it.

    :param at_most: how late a run may be

    Returns how late the run is, in seconds.
    """

    ui_color = "#fef7e0"

    def __init__(self, *, at_most: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.at_most = at_most

    def execute(self, context: Context) -> dict[str, Any]:
        run = run_identity(context)
        found = lateness(run_type=run.run_type, run_after=run.run_after, now=datetime.now(UTC), at_most=self.at_most)
        if found.too_late and run.try_number == 1:
            line = found.line(due=run.run_after, at_most=self.at_most)
            context["ti"].xcom_push(key=LATE_KEY, value=line)
            raise AirflowSkipException(line)
        step_log().info("due at %s, %.0f s late: goes on", run.run_after.isoformat(), found.by.total_seconds())
        return {"seconds_late": round(found.by.total_seconds())}
