"""Tell people how a run other than a backup ended: what, why, and the next step."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from backup_operators.hook import BackupHook
from backup_operators.messages import LONGEST_REASON, escape
from backup_operators.notify import run_url
from backup_operators.redaction import Redactor
from backup_operators.slack import deliver
from backup_operators.step import FAILURE_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class TellOperator(BaseOperator):
    """Send one message about the run. Meant as a teardown: it runs always, and a failed run stays failed.

    It reads nothing of the policy at run time, so that it can tell of a policy that is broken.

    :param title: what the run is, e.g. ``shop restore``
    :param advice: what to do next for each task that may fail, in the order of the tasks
    :param tell: tasks of whose report the last ``line`` is the message of a good run
    :param also: tasks whose ``note`` is told in any case, and that decide nothing
    :param slack_conn_id: Slack webhook connection, or None
    :param secret_conn_ids: connections whose passwords must not reach a message

    Returns whether the message was delivered, the reason if not, and whether the run succeeded.
    """

    ui_color = "#fef7e0"

    def __init__(
        self,
        *,
        title: str,
        advice: Mapping[str, str],
        tell: Sequence[str],
        slack_conn_id: str | None,
        secret_conn_ids: Sequence[str],
        also: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.title = title
        self.advice = advice
        self.tell = tell
        self.also = also
        self.slack_conn_id = slack_conn_id
        self.secret_conn_ids = secret_conn_ids

    def execute(self, context: Context) -> dict[str, Any]:
        ti: Any = context["ti"]
        run = context["dag_run"]
        states = {
            str(crumb["task_id"]): str(crumb["state"])
            for crumb in ti.get_task_breadcrumbs(dag_id=run.dag_id, run_id=run.run_id)
        }
        failed = [task for task in self.advice if states.get(task) == "failed"]
        missing = [task for task in self.advice if states.get(task) not in ("success", "skipped", "failed")]
        succeeded = not failed and not missing
        url = run_url(run.dag_id, run.run_id)
        text = self._good(ti, states, url) if succeeded else self._bad(ti, failed, missing, url)
        redact = Redactor(BackupHook().secrets(self.secret_conn_ids))
        text = redact("\n".join((text, *self._notes(ti, states))))
        log.info("%s", text)
        delivery = deliver(text, conn_id=self.slack_conn_id, redact=redact)
        return {**delivery.to_dict(), "succeeded": succeeded}

    def _notes(self, ti: Any, states: Mapping[str, str]) -> Iterator[str]:
        for task in self.also:
            report = ti.xcom_pull(task_ids=task) if states.get(task) == "success" else None
            if isinstance(report, dict) and report.get("note"):
                yield f"⚠️ {escape(str(report['note'])[:LONGEST_REASON])}"

    def _good(self, ti: Any, states: Mapping[str, str], url: str) -> str:
        lines = [
            str(report["line"])
            for task in self.tell
            if states.get(task) == "success"
            and isinstance(report := ti.xcom_pull(task_ids=task), dict)
            and "line" in report
        ]
        return f"✅ *{escape(self.title)}*: {escape(lines[-1]) if lines else 'done'} <{url}|run>"

    def _bad(self, ti: Any, failed: Sequence[str], missing: Sequence[str], url: str) -> str:
        if not failed:
            what = ", ".join(missing)
            return "\n".join(
                (
                    f"❌ *{escape(self.title)}* *did not get to its end*",
                    f"*What:* {escape(what)} did not run",
                    "*Why:* no task failed; somebody marked tasks, or the run was ended",
                    f"*Next:* Look at the run. <{url}|run>",
                )
            )
        task = failed[0]
        reason = ti.xcom_pull(task_ids=task, key=FAILURE_KEY)
        why = "it ended without giving a reason: its worker was lost, or somebody marked it; see its log"
        if isinstance(reason, dict):
            said = str(reason.get("message") or "an unexpected error, whose text is only in the log")
            why = f"{reason.get('error')}: {said[:LONGEST_REASON]}"
        return "\n".join(
            (
                f"❌ *{escape(self.title)}* *failed* at `{task}`",
                f"*Why:* {escape(why)}",
                f"*Next:* {self.advice[task]} <{url}/tasks/{task}|log>",
            )
        )
