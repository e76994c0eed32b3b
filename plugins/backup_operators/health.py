"""Looking at health as a task."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backup_operators.chain import messaging
from backup_operators.fleet import FleetOperator
from backup_operators.hook import BackupHook
from backup_operators.notify import run_url
from backup_operators.redaction import Redactor
from backup_operators.slack import deliver
from backup_operators.step import run_identity, step_log
from include.backup.errors import ConnectionDefinitionError, HealthError
from include.backup.policy import load_policy, policy_path

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.health.alerts import Alert
    from include.backup.health.board import Board
    from include.backup.health.facts import AirflowFacts
    from include.backup.health.look import HealthReport
    from include.backup.policy import SourcePolicy
    from include.backup.supabase.project import SupabaseProject

log = logging.getLogger(__name__)


def _project(hook: BackupHook, source: SourcePolicy) -> SupabaseProject | None:
    from include.backup.supabase.project import SupabaseProject

    hosted = source.supabase
    if hosted is None:
        return None
    return SupabaseProject.open(hook.supabase(hosted.connection), hosted.project_ref)


class HealthOperator(FleetOperator):
    """Look at one source's health, tell people what is new, and write the heartbeat.

    :param source: source of the policy (templated)

    Returns which alerts are open and how many were told. A message that nobody got fails the task: a silent alarm
    is none.
    """

    next_step = (
        "Health was not looked at. Until it is, only `python -m include.backup watch {source}` would notice anything."
    )

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.evidence import open_ledger
        from include.backup.evidence.policy_record import record_policy
        from include.backup.health.board import Board
        from include.backup.health.gather import GatherContext, gather
        from include.backup.health.look import look, message
        from include.backup.steps.context import encryption_of, open_store, utc_now

        hook = BackupHook()
        store_connection = hook.store(source.store.connection)
        store = open_store(source, store_connection)
        now = utc_now()
        facts = gather(
            GatherContext(
                policy=load_policy(policy_path(os.environ)),
                source=source,
                store=store,
                store_connection=store_connection,
                database=hook.database(source.connection),
                open_project=lambda: _project(hook, source),
                now=now,
                airflow=self._airflow(source),
            )
        )
        run = context["dag_run"]
        url = run_url(run.dag_id, run.run_id)

        def tell(alerts: tuple[Alert, ...], resolved: tuple[Alert, ...]) -> bool:
            return self._tell_all(source, message(source.name, alerts, resolved, now=now, url=url))

        board = Board(store, source=source.name, encryption=encryption_of(source, store))
        ledger, actor = open_ledger(source, store), run_identity(context).actor
        record_policy(ledger, source, actor=actor)
        report = look(
            facts,
            source,
            board=board,
            ledger=ledger,
            run_id=actor,
            tell=tell,
            log=step_log(),
        )
        return {**self._ended(report), "ping": self._ping(source, board)}

    def _airflow(self, source: SourcePolicy) -> AirflowFacts:
        from backup_operators.airflow_facts import airflow_facts
        from backup_operators.airflow_rest import AirflowRest
        from include.backup.health.facts import AirflowFacts

        if source.health is None or source.health.airflow_connection is None:
            return AirflowFacts(unreachable="the policy's health block names no airflow_connection")
        try:
            spec = BackupHook().spec(source.health.airflow_connection)
            return airflow_facts(AirflowRest.from_spec(spec), source.name)
        except ConnectionDefinitionError as error:
            return AirflowFacts(unreachable=str(error))

    def _ping(self, source: SourcePolicy, board: Board) -> str | None:
        """Tell the service outside that somebody has looked; a failure is a finding of the next look."""
        from include.backup.health.ping import PingTarget, ping

        if source.health is None or source.health.ping is None:
            return None
        try:
            failure = ping(PingTarget.from_spec(BackupHook().spec(source.health.ping.connection)), source.health.ping)
        except ConnectionDefinitionError as error:
            failure = str(error)
        if failure is None:
            return "arrived"
        step_log().warning("the service that waits for a request after each look did not get it: %s", failure)
        beat = board.heartbeat()
        if beat is not None:
            board.beat(replace(beat, ping_failure=failure))
        return failure

    def _tell_all(self, source: SourcePolicy, text: str) -> bool:
        where = messaging(source)
        if where["slack_conn_id"] is None:
            log.warning("the policy names no Slack connection for %s: the alerts are only here", source.name)
            return True
        redact = Redactor(BackupHook().secrets(where["secret_conn_ids"]))
        return deliver(redact(text), conn_id=where["slack_conn_id"], redact=redact).delivered

    def _ended(self, report: HealthReport) -> dict[str, Any]:
        step_log().info("%s", report.line())
        if not report.delivered:
            raise HealthError(f"{report.line()}; check the Slack connection, the next look tells them again")
        return report.to_dict()
