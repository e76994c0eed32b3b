"""Retention and holds as tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from backup_operators.fleet import FleetOperator, folder_if_set
from backup_operators.hook import BackupHook
from backup_operators.messages import escape
from backup_operators.notify import run_url
from backup_operators.restore import restore_context
from backup_operators.step import run_identity, step_log
from include.backup.errors import CleanupError
from include.backup.lateness import SCHEDULED
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import SourcePolicy
    from include.backup.retention.execute import CleanupReport


class CleanupOperator(FleetOperator):
    """Plan the retention of one source, and carry it out.

    :param source: source of the policy (templated)
    :param delete: ``True`` or ``False``: whether a run that a person starts deletes (templated); a scheduled one does

    Returns numbers and names of what was, or would be, removed.
    """

    template_fields: Sequence[str] = ("source", "delete")
    next_step = "What could not be deleted is tried again by the next run; look who refuses it."

    def __init__(self, *, delete: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delete = delete

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.evidence import open_ledger
        from include.backup.retention.cleanup import CleanupContext, plan_cleanup
        from include.backup.retention.execute import dry_run, execute
        from include.backup.steps.context import encryption_of, open_store

        if self.delete not in ("True", "False"):
            raise AirflowFailException(f"delete is {self.delete!r}; allowed: True, False")
        run = run_identity(context)
        store = open_store(source, BackupHook().store(source.store.connection))
        ctx = CleanupContext(
            source=source,
            store=store,
            ledger=open_ledger(source, store),
            encryption=encryption_of(source, store),
            actor=run.actor,
            log=step_log(),
            staging_root=folder_if_set("BACKUP_STAGING_DIR"),
            scratch_root=folder_if_set("BACKUP_SCRATCH_DIR"),
            restores=lambda: restore_context(context, self.source, runner=Runner(log=step_log())),
        )
        plan = plan_cleanup(ctx)
        delete = run.run_type == SCHEDULED or self.delete == "True"
        report = execute(ctx, plan) if delete else dry_run(ctx, plan)
        return self._ended(context, source, report)

    def _ended(self, context: Context, source: SourcePolicy, report: CleanupReport) -> dict[str, Any]:
        for line in report.decisions:
            step_log().info("%s", line)
        for line in report.skipped:
            step_log().warning("%s", line)
        step_log().info("%s", report.line())
        if report.failures or report.lost:
            raise CleanupError(f"{report.line()}: {'; '.join((*report.failures, *report.lost)[:5])}")
        if report.removed and not report.dry_run:
            run = context["dag_run"]
            self.tell(source, f"🧹 {escape(report.line())} <{run_url(run.dag_id, run.run_id)}|run>")
        return report.to_dict()


class HoldOperator(FleetOperator):
    """Set or release a hold; who started the run is who did it.

    :param source: source of the policy (templated)
    :param action: ``add`` or ``release`` (templated)
    :param backup: the backup's id, or the hold's when it is released (templated)
    :param reason: for whom and why (templated)
    :param until: when the hold ends, or empty (templated)

    Returns the hold's and the backup's id.
    """

    template_fields: Sequence[str] = ("source", "action", "backup", "reason", "until")
    next_step = "Nothing was changed. Put the form right and trigger a new run."

    def __init__(self, *, action: str, backup: str, reason: str, until: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.backup = backup
        self.reason = reason
        self.until = until

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.errors import ParameterError
        from include.backup.every_backup import every_backup
        from include.backup.evidence import open_ledger
        from include.backup.holds import add_hold, parse_until, release_hold
        from include.backup.inventory import find_backup
        from include.backup.steps.context import SAFETY_PREFIX, encryption_of, open_store, utc_now

        store = open_store(source, BackupHook().store(source.store.connection))
        run = run_identity(context)
        common: dict[str, Any] = {"encryption": encryption_of(source, store), "reason": self.reason, "now": utc_now()}
        ledger = open_ledger(source, store)
        who = run.triggered_by or run.actor
        if self.action == "release":
            release = release_hold(store, ledger, hold_id=self.backup, released_by=who, **common)
            self.tell(source, escape(f"🔓 hold of `{release.backup_id}` released by {who}: {release.reason}"))
            return {"hold_id": release.hold_id, "backup_id": release.backup_id}
        if self.action != "add":
            raise ParameterError(f"action is {self.action!r}; allowed: add, release")
        catalog = every_backup(source, store, also=(SAFETY_PREFIX,))
        backup_id = find_backup(catalog, source.name, self.backup)
        catalog.locate(backup_id)
        # The same for each try of the run, so that a retry finds the hold that it has set; another for any other run.
        digest = hashlib.sha256(f"{run.dag_id}\0{run.run_id}\0{backup_id}".encode()).hexdigest()
        hold_id = f"{run.run_after:%Y%m%dT%H%M%SZ}_{digest[:12]}"
        until = parse_until(self.until)
        hold = add_hold(store, ledger, backup_id=backup_id, set_by=who, until=until, hold_id=hold_id, **common)
        self.tell(source, escape(f"🔒 `{backup_id}` is on hold by {who}: {hold.reason}"))
        return {"hold_id": hold.hold_id, "backup_id": hold.backup_id}
