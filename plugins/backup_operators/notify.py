"""Tell people how a run ended: as its last task, or, when Airflow ended the run, from the DAG's callback."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, conf

from backup_operators.hook import BackupHook
from backup_operators.lateness import LATE_KEY
from backup_operators.messages import LATENESS, WORK, Outcome, ended_text, message
from backup_operators.redaction import Redactor
from backup_operators.slack import Delivery, deliver
from backup_operators.step import FAILURE_KEY
from include.backup.backup_id import make_backup_id

if TYPE_CHECKING:
    from airflow.sdk import Context

# The other reasons ("task_failure") come after ``notify`` has run.
ENDED_BY_AIRFLOW = ("timed_out", "all_tasks_deadlocked")

log = logging.getLogger(__name__)


class NotifyOperator(BaseOperator):
    """Send one message about the run. Meant as a teardown: it runs always, and a failed run stays failed.

    It reads nothing of the policy at run time, so that it can tell of a policy that is broken.

    :param source: source of the policy (templated)
    :param tier: tier of that source (templated)
    :param kind: kind of backup
    :param keep_failed_hours: how long a failed run's staging is kept
    :param slack_conn_id: Slack webhook connection, or None
    :param secret_conn_ids: connections whose passwords must not reach a message
    :param release: release that the backup guards (templated)
    :param work: the tasks that have to succeed, in their order
    :param also: tasks whose notes are told, and that decide nothing

    Returns whether the message was delivered, the reason if not, and whether the run succeeded.
    """

    template_fields: Sequence[str] = ("source", "tier", "release")
    ui_color = "#fef7e0"

    def __init__(
        self,
        *,
        source: str,
        tier: str,
        kind: str,
        keep_failed_hours: int,
        slack_conn_id: str | None,
        secret_conn_ids: Sequence[str],
        release: str | None = None,
        work: Sequence[str] = WORK,
        also: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.tier = tier
        self.kind = kind
        self.keep_failed_hours = keep_failed_hours
        self.slack_conn_id = slack_conn_id
        self.secret_conn_ids = secret_conn_ids
        self.release = release
        self.work = work
        self.also = also

    def execute(self, context: Context) -> dict[str, Any]:
        outcome = self._outcome(context)
        redact = Redactor(BackupHook().secrets(self.secret_conn_ids))
        text = redact(message(outcome))
        log.info("%s", text)
        delivery = deliver(text, conn_id=self.slack_conn_id, redact=redact)
        return {**delivery.to_dict(), "succeeded": outcome.succeeded, "proven": outcome.proven}

    def _outcome(self, context: Context) -> Outcome:
        ti: Any = context["ti"]  # Airflow's protocol for it leaves get_task_breadcrumbs out
        run = context["dag_run"]
        states = {
            str(crumb["task_id"]): str(crumb["state"])
            for crumb in ti.get_task_breadcrumbs(dag_id=run.dag_id, run_id=run.run_id)
        }
        kept_until = datetime.now(UTC) + timedelta(hours=self.keep_failed_hours)
        started = run.start_date or run.run_after
        return Outcome(
            source=self.source,
            tier=self.tier,
            dag_id=run.dag_id,
            run_id=run.run_id,
            backup_id=make_backup_id(
                source=self.source,
                tier=self.tier,
                kind=self.kind,
                run_after=run.run_after,
                dag_id=run.dag_id,
                run_id=run.run_id,
            ),
            url=run_url(run.dag_id, run.run_id),
            kept=f"until {kept_until:%Y-%m-%d %H:%M} UTC",
            states=states,
            reports={
                task: _pulled(ti, task, "return_value")
                for task in (*self.work, *self.also)
                if states.get(task) == "success"
            },
            failures={task: _pulled(ti, task, FAILURE_KEY) for task in self.work if states.get(task) == "failed"},
            seconds=(datetime.now(UTC) - started).total_seconds(),
            release=self.release,
            work=tuple(self.work),
            also=tuple(self.also),
            late=self._late(ti, states),
        )

    def _late(self, ti: Any, states: dict[str, str]) -> str | None:
        """Return why a run did nothing because it was late, if it did."""
        if states.get(LATENESS) != "skipped":
            return None
        found = ti.xcom_pull(task_ids=LATENESS, key=LATE_KEY)
        return str(found or "it started too late, and did nothing")


def tell_of_ended_run(
    context: Context, *, source: str, tier: str, slack_conn_id: str | None, secret_conn_ids: Sequence[str]
) -> Delivery | None:
    """Send a message when Airflow ended the run and skipped its teardowns; runs in the dag-processor."""
    reason = str(context.get("reason") or "")
    if reason not in ENDED_BY_AIRFLOW:
        return None
    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    text = ended_text(
        source=source, tier=tier, dag_id=dag_id, run_id=run_id, url=run_url(dag_id, run_id), reason=reason
    )
    redact = Redactor(BackupHook().secrets(secret_conn_ids))
    return deliver(redact(text), conn_id=slack_conn_id, redact=redact)


def run_url(dag_id: str, run_id: str) -> str:
    """Return the address of a run in the UI."""
    base = conf.get("api", "base_url", fallback="http://localhost:8080/")
    return f"{base.rstrip('/')}/dags/{quote(dag_id)}/runs/{quote(run_id)}"


def _pulled(ti: Any, task_id: str, key: str) -> dict[str, Any]:
    value = ti.xcom_pull(task_ids=task_id, key=key)
    return value if isinstance(value, dict) else {}
