"""Tell people of WAL runs: every failure, and every change of how the log stands; not each time that all is well."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

WORK = ("preflight", "request_base", "receive", "upload", "advance", "catch_up", "report", "watch_provider")
_ADVICE: Mapping[str, str] = {
    "preflight": "Nothing is lost: the source keeps its log. Put it right; the next run goes on by itself.",
    "request_base": "Without a base backup this WAL recovers nothing: put it right, or trigger `base_backup` by hand.",
    "receive": "Nothing is lost: the source keeps its log until it is stored. Put it right; the next run goes on.",
    "upload": "Nothing is lost: the source keeps its log until it is stored. Put it right; the next run goes on.",
    "advance": "What was received is stored; the source keeps it longer than it has to. The next run goes on.",
    "catch_up": "What is stored is safe; the source keeps the rest. The next run goes on.",
    "report": "Look at `python -m include.backup wal SOURCE`, and see to it that the base backup is taken and proven.",
    "watch_provider": "Supabase's own recovery is not what the policy relies on: put it right in its dashboard.",
}
_WORDS: Mapping[str, str] = {
    "ok": "recoverable to any time, up to the last run",
    "warning": "stored, with something to put right",
    "behind": "stored, but the source writes faster than WAL is stored",
    "no_base": "stored, but no base backup lies in it yet: nothing can be recovered with it",
    "broken": "broken",
    "released": "not stored any more",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalOutcome:
    """How a WAL run ended, as far as its tasks say."""

    source: str
    url: str
    states: Mapping[str, str]
    report: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def failed(self) -> Sequence[str]:
        return [task for task in WORK if self.states.get(task) == "failed"]


def wal_message(outcome: WalOutcome) -> str | None:
    """Return what has to be told, or None when all is as it was."""
    if outcome.failed:
        return "\n".join((f"❌ *{escape(outcome.source)}* WAL *failed*", *_failures(outcome)))
    if not outcome.report.get("changed"):
        return None
    state, before = str(outcome.report.get("state")), str(outcome.report.get("before"))
    sign = "✅" if state == "ok" else "⚠️"
    lines = [
        f"{sign} *{escape(outcome.source)}* WAL is {_WORDS.get(state, state)} (before: {_WORDS.get(before, before)})"
    ]
    lines += [f"*Why:* {escape(str(text))}" for text in outcome.report.get("warnings") or ()]
    wanted = outcome.report.get("base_wanted")
    lines += [f"*Next:* a base backup was asked for: {escape(str(wanted))}"] if wanted else []
    return "\n".join((*lines, f"<{outcome.url}|run>"))


def _failures(outcome: WalOutcome) -> list[str]:
    lines = []
    for task in outcome.failed:
        reason = outcome.failures.get(task) or {}
        text = str(reason.get("message") or "an unexpected error, whose text is only in the log")[:LONGEST_REASON]
        lines.append(f"*Why:* `{task}`: {escape(str(reason.get('error') or 'ended'))}: {escape(text)}")
        lines.append(f"*Next:* {_ADVICE[task]} <{outcome.url}/tasks/{task}|log>")
    return lines


class WalNotifyOperator(BaseOperator):
    """Send a message when a task failed, or the state of the log is another one than before. Meant as a teardown.

    :param source: source of the policy
    :param slack_conn_id: Slack webhook connection, or None
    :param secret_conn_ids: connections whose passwords must not reach a message

    Returns whether there was something to tell, and whether it was delivered.
    """

    ui_color = "#fef7e0"

    def __init__(
        self, *, source: str, slack_conn_id: str | None, secret_conn_ids: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.slack_conn_id = slack_conn_id
        self.secret_conn_ids = secret_conn_ids

    def execute(self, context: Context) -> dict[str, Any]:
        text = wal_message(self._outcome(context))
        if text is None:
            return {"told": False, "delivered": False, "reason": "all is as it was"}
        redact = Redactor(BackupHook().secrets(self.secret_conn_ids))
        log.info("%s", redact(text))
        return {"told": True, **deliver(redact(text), conn_id=self.slack_conn_id, redact=redact).to_dict()}

    def _outcome(self, context: Context) -> WalOutcome:
        ti: Any = context["ti"]  # Airflow's protocol for it leaves get_task_breadcrumbs out
        run = context["dag_run"]
        states = {
            str(crumb["task_id"]): str(crumb["state"])
            for crumb in ti.get_task_breadcrumbs(dag_id=run.dag_id, run_id=run.run_id)
        }
        report = ti.xcom_pull(task_ids="report") if states.get("report") == "success" else None
        return WalOutcome(
            source=self.source,
            url=run_url(run.dag_id, run.run_id),
            states=states,
            report=report if isinstance(report, dict) else {},
            failures={
                task: found
                for task in WORK
                if states.get(task) == "failed"
                and isinstance(found := ti.xcom_pull(task_ids=task, key=FAILURE_KEY), dict)
            },
        )
