"""The tasks that store WAL: the steps of a run, the watch over a provider's recovery, the call for a base backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from backup_operators.defaults import dag_id
from backup_operators.hook import BackupHook
from backup_operators.step import BackupStepOperator, folder_from, run_identity, step_log
from include.backup.policy import SourcePolicy, load_policy, policy_path
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.wal.context import WalContext

TIER = "incremental"
BASE_DAG = "base_backup"
LONGEST_REASON = 500  # as the form of base_backup allows


class WalStepOperator(BackupStepOperator):
    """Run one step of a WAL run.

    :param source: source of the policy (templated)

    Returns the step's report: ids and numbers.
    """

    template_fields: Sequence[str] = ("source",)
    step: ClassVar[str] = ""

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(source=source, tier=TIER, **kwargs)

    def run_step(self, context: Context) -> dict[str, Any]:
        if not self._streams(context):
            raise AirflowSkipException("physical replication is refused here; the provider's recovery is watched")
        return self.work(self.wal_context(context), context)

    def work(self, ctx: WalContext, context: Context) -> dict[str, Any]:
        """Run the step's function and log its line of evidence."""
        report = _steps()[self.step](ctx)
        step_log().info("%s", report.line())
        result: dict[str, Any] = report.to_dict()
        return result

    def wal_context(self, context: Context) -> WalContext:
        """Return what the core's steps are given."""
        from include.backup.wal.context import WalContext

        source, hook = _source(self.source), BackupHook()
        self._runner = Runner(log=step_log())
        return WalContext(
            source=source,
            run=run_identity(context),
            database=hook.database(source.connection),
            store_connection=hook.store(source.store.connection),
            staging_root=folder_from("BACKUP_STAGING_DIR"),
            runner=self._runner,
            log=step_log(),
        )

    def _streams(self, context: Context) -> bool:
        found = context["ti"].xcom_pull(task_ids="preflight")
        return not isinstance(found, dict) or found.get("mode") != "provider"


class WalPreflightOperator(WalStepOperator):
    """Find out which mode is possible, whether the chain is whole, and see to it that the source keeps its log."""

    step: ClassVar[str] = "preflight"
    ui_color = "#e8f0fe"

    def run_step(self, context: Context) -> dict[str, Any]:
        from include.backup.wal.provider import Mode, check_watchable, mode_of

        source = _source(self.source)
        mode = mode_of(BackupHook().database(source.connection))
        if mode is Mode.PROVIDER:
            check_watchable(source)
            step_log().warning("physical replication is refused here: Supabase's own recovery is watched instead")
            return {"mode": mode.value, "base_wanted": None}
        step_log().info("WAL is streamed")
        return {"mode": mode.value, **self.work(self.wal_context(context), context)}


class WalReceiveOperator(WalStepOperator):
    """Stream the log into staging, up to a commit of this run."""

    step: ClassVar[str] = "receive"
    ui_color = "#d2e3fc"


class WalUploadOperator(WalStepOperator):
    """Compress, store and verify what was received."""

    step: ClassVar[str] = "upload"
    ui_color = "#d2e3fc"


class WalAdvanceOperator(WalStepOperator):
    """Let the source remove what is stored and verified, and nothing else."""

    step: ClassVar[str] = "advance"
    ui_color = "#ceead6"


class WalCatchUpOperator(WalStepOperator):
    """Receive, store and advance again, until a backlog longer than one batch is stored."""

    ui_color = "#d2e3fc"

    def work(self, ctx: WalContext, context: Context) -> dict[str, Any]:
        from include.backup.wal.run import catch_up

        received = context["ti"].xcom_pull(task_ids="receive")
        if isinstance(received, dict) and received.get("caught_up"):
            return {"passes": 0}
        return {"passes": catch_up(ctx, on_step=lambda name, step: step_log().info("%s: %s", name, step.line()))}


class WalReportOperator(WalStepOperator):
    """Write the run's record; fail a run that found the chain broken, once it has begun a new one."""

    step: ClassVar[str] = "report"
    ui_color = "#ceead6"

    def work(self, ctx: WalContext, context: Context) -> dict[str, Any]:
        from include.backup.wal import reporting

        report = reporting.run(ctx)
        step_log().info("%s", report.line())
        reporting.check_whole(report.record)
        return report.to_dict()


class WatchProviderOperator(WalStepOperator):
    """Ask Supabase between which times it can recover, where no WAL can be had.

    Returns the window.
    """

    ui_color = "#e8f0fe"

    def run_step(self, context: Context) -> dict[str, Any]:
        from include.backup.supabase.connection import SupabaseConnection
        from include.backup.supabase.project import SupabaseProject
        from include.backup.wal.provider import check_watchable, watch

        if self._streams(context):
            raise AirflowSkipException("this source's own WAL is stored")
        source = _source(self.source)
        check_watchable(source)
        if source.supabase is None:
            return {}
        connection = SupabaseConnection.from_spec(BackupHook().spec(source.supabase.connection))
        with SupabaseProject.open(connection, source.supabase.project_ref) as project:
            window = watch(source, project, now=datetime.now(tz=UTC))
        step_log().info("%s", window.line())
        if window.warning is not None:
            step_log().warning("%s", window.warning)
        return window.to_dict()


class RequestBaseOperator(TriggerDagRunOperator):
    """Start a base backup at once when preflight found the chain broken, or no base backup in it.

    :param source: source of the policy

    Returns nothing; skipped when none is wanted, or one is on its way.
    """

    ui_color = "#fef7e0"

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(
            trigger_dag_id=dag_id(source, BASE_DAG),
            logical_date=None,
            fail_when_dag_is_paused=True,
            skip_when_already_exists=True,
            **kwargs,
        )
        self.source = source

    def execute(self, context: Context) -> None:
        found = context["ti"].xcom_pull(task_ids="preflight")
        reason = found.get("base_wanted") if isinstance(found, dict) else None
        if not reason:
            raise AirflowSkipException("a base backup lies in the chain; none is wanted")
        if _source(self.source).base_backup is None:
            raise AirflowFailException(
                f"a base backup is wanted ({reason}) and the policy has no base_backup block for {self.source}; "
                "add one, or WAL cannot be used"
            )
        ti: Any = context["ti"]
        if ti.get_dr_count(dag_id=self.trigger_dag_id, states=["queued", "running"]):
            raise AirflowSkipException(f"a run of {self.trigger_dag_id} is on its way")
        self.conf = {"full": True, "reason": str(reason)[:LONGEST_REASON]}
        super().execute(context)


def _source(name: str) -> SourcePolicy:
    import os

    return load_policy(policy_path(os.environ), only=name).source(name)


def _steps() -> dict[str, Callable[[WalContext], Any]]:
    from include.backup.wal import advancing, plan, receive, storing

    return {"preflight": plan.run, "receive": receive.run, "upload": storing.run, "advance": advancing.run}
