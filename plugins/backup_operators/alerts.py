"""Answering alerts as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backup_operators.fleet import FleetOperator
from backup_operators.hook import BackupHook
from backup_operators.messages import escape
from backup_operators.step import run_identity, step_log

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import SourcePolicy


class AcknowledgeAlertOperator(FleetOperator):
    """Record that a person knows of an alert; who started the run is who knows.

    :param source: source of the policy (templated)
    :param alert: the alert's id or name (templated)
    :param note: what is done about it (templated)
    :param until: when it is sent again if it still holds, or empty (templated)

    Returns the alert, who knows of it, and until when.
    """

    template_fields: Sequence[str] = ("source", "alert", "note", "until")
    next_step = "Nothing was changed. Put the form right and trigger a new run."

    def __init__(self, *, alert: str, note: str, until: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alert = alert
        self.note = note
        self.until = until

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.evidence import open_ledger
        from include.backup.health.acknowledge import acknowledge
        from include.backup.health.board import Board
        from include.backup.holds import parse_until
        from include.backup.steps.context import encryption_of, open_store, utc_now

        store = open_store(source, BackupHook().store(source.store.connection))
        run = run_identity(context)
        done = acknowledge(
            Board(store, source=source.name, encryption=encryption_of(source, store)),
            open_ledger(source, store),
            self.alert,
            by=run.triggered_by or run.actor,
            note=self.note,
            now=utc_now(),
            until=parse_until(self.until),
        )
        step_log().info("%s", done.line())
        self.tell(source, f"👀 *{escape(source.name)}* {escape(f'{done.line()}: {done.said.note}')}")
        return {
            "alert": done.alert.key,
            "id": done.alert.short_id,
            "by": done.said.by,
            "until": None if done.said.until is None else done.said.until.isoformat(),
        }
