"""The monthly audit as tasks: restore the newest backup now, then write the report. And the fleet in one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from backup_operators.fleet import FleetOperator
from backup_operators.hook import BackupHook
from backup_operators.notify import run_url
from backup_operators.scratch import SCRATCH_VARIABLE
from backup_operators.step import folder_from, run_identity, step_log
from include.backup.errors import ProofFailedError
from include.backup.policy import load_policy, policy_path
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.audit.fleet import SharedStores
    from include.backup.audit.report import Report
    from include.backup.policy import Policy, SourcePolicy


def stores(hook: BackupHook) -> SharedStores:
    """Return what opens the stores of the fleet."""
    from include.backup.audit.fleet import SharedStores

    return SharedStores(lambda source: hook.store(source.store.connection))


class ProveNewestOperator(FleetOperator):
    """Restore the newest backup of one source into a scratch server, and compare every row.

    :param source: source of the policy (templated)

    Returns the short form of the proof, which is written whatever it says. The report finds it in the evidence.
    """

    next_step = "Do not rely on this backup. Take a new one, and keep it for whoever looks into it; the report says so."
    ui_color = "#ceead6"

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.audit.live_test import prove_newest
        from include.backup.steps.restore_test import check_passed, report

        self._runner = Runner(log=step_log())
        proof = prove_newest(
            source,
            stores(BackupHook()).open(source),
            scratch_root=folder_from(SCRATCH_VARIABLE),
            actor=run_identity(context).actor,
            runner=self._runner,
        )
        check_passed(proof)
        step_log().info("%s", report(proof).line())
        return report(proof).to_dict()


class AuditOperator(FleetOperator):
    """Write one source's report of a month, keep it, and tell people.

    :param source: source of the policy (templated)
    :param month: the month, ``YYYY-MM``; empty for the last one that is over (templated)

    Returns numbers, the findings, and where the report is. It fails when the restore test of its run has not passed:
    the report is kept all the same.
    """

    template_fields: Sequence[str] = ("source", "month")
    next_step = "Look at the log; clear this task for a new report. What was kept stays."

    def __init__(self, *, month: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.month = month

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.audit.build import build_report
        from include.backup.audit.gather import AuditContext, gather, policy_key
        from include.backup.audit.keep import keep_report
        from include.backup.audit.month import month_to_report
        from include.backup.evidence import open_ledger
        from include.backup.steps.context import encryption_of, utc_now

        run, hook = run_identity(context), BackupHook()
        month = month_to_report(self.month, now=run.run_after)
        fleet = stores(hook)
        store = fleet.open(source)
        facts = gather(
            AuditContext(
                policy=load_policy(policy_path(os.environ)),
                source=source,
                store=store,
                store_connection=hook.store(source.store.connection),
                open_source=fleet.open,
                month=month,
                made_by=run.actor,
                now=utc_now(),
                key_arn=policy_key(source, store),
            )
        )
        report = build_report(facts, source, tested_by=run.actor)
        kept = keep_report(
            store,
            open_ledger(source, store),
            report,
            month=month,
            encryption=encryption_of(source, store),
            actor=run.actor,
        )
        return self._ended(context, source, report, where=store.url(kept.html_key))

    def _ended(self, context: Context, source: SourcePolicy, report: Report, *, where: str) -> dict[str, Any]:
        from include.backup.audit.fleet import fleet_lines
        from include.backup.audit.slack import summary

        run = context["dag_run"]
        for line in (*fleet_lines(report.fleet), *(f"finding: {text}" for text in report.problems), report.line()):
            step_log().info("%s", line)
        step_log().info("kept at %s", where)
        self.tell(source, summary(report, where=where, url=run_url(run.dag_id, run.run_id)))
        if report.live_test.passed is not True:
            raise ProofFailedError(f"{report.live_test.detail}; the report is kept at {where}")
        return {**report.to_dict(), "page": where}


class ReportFleetOperator(BaseOperator):
    """Log one table of all sources: protected as the policy says, or why not, as health found them last.

    Returns how many there are, and which are not protected. Whoever has to act was told by the look at health itself.
    """

    ui_color = "#f1f3f4"

    def execute(self, context: Context) -> dict[str, Any]:
        from include.backup.audit.fleet import fleet_lines, fleet_rows, gather_fleet
        from include.backup.steps.context import utc_now

        policy: Policy = load_policy(policy_path(os.environ))
        facts = gather_fleet(policy, stores(BackupHook()).open)
        rejected = {name: str(error) for name, error in policy.rejected.items()}
        rows = fleet_rows(facts, rejected, now=utc_now())
        for line in fleet_lines(rows):
            step_log().info("%s", line)
        return {"sources": len(rows), "not_protected": [row.source for row in rows if not row.protected]}
