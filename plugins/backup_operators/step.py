"""The operator that every step of a backup's chain is made of."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, AirflowTaskTimeout

from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.redaction import Redactor
from include.backup.errors import BackupError, ParameterError, RetryWorthlessError
from include.backup.policy import load_policy, policy_path
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.connections import StoreConnection
    from include.backup.policy import SourcePolicy
    from include.backup.steps.context import Release, RunIdentity, StepContext

FAILURE_KEY = "failure"
ATTACHMENTS = "attachments"


class BackupStepOperator(BaseOperator):
    """Run one step of a backup's chain for one source and tier.

    :param source: source of the policy (templated)
    :param tier: tier of that source (templated)
    :param release: release that the backup guards, together with ``git_sha`` (templated)
    :param git_sha: commit of that release (templated)
    :param kind: kind of the backup; without it the tier's

    Returns the step's report: ids and numbers.
    """

    template_fields: Sequence[str] = ("source", "tier", "release", "git_sha")
    step: ClassVar[str]
    _runner: Runner | None = None

    def __init__(
        self,
        *,
        source: str,
        tier: str,
        release: str | None = None,
        git_sha: str | None = None,
        kind: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.tier = tier
        self.release = release
        self.git_sha = git_sha
        self.kind = kind

    def execute(self, context: Context) -> dict[str, Any]:
        die_with_parent()
        try:
            return self.run_step(context)
        except RetryWorthlessError as error:
            self._keep_reason(context, error, retry=False)
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except (Exception, AirflowTaskTimeout) as error:
            self._keep_reason(context, error, retry=True)
            raise

    def run_step(self, context: Context) -> dict[str, Any]:
        """Run the step and log its line of evidence."""
        report = importlib.import_module(f"include.backup.steps.{self.step}").run(self.step_context(context))
        if report is None:
            return {}
        step_log().info("%s", report.line())
        result: dict[str, Any] = report.to_dict()
        return result

    def step_context(self, context: Context) -> StepContext:
        """Return what the core's steps are given."""
        from include.backup.steps.context import build_context

        policy = load_policy(policy_path(os.environ), only=self.source)
        source = policy.source(self.source)
        hook = BackupHook()
        self._runner = Runner(log=step_log())
        return build_context(
            policy=policy,
            source=self.source,
            tier=self.tier,
            run=run_identity(context),
            database=hook.database(source.connection),
            store=hook.store(source.store.connection),
            staging_root=folder_from("BACKUP_STAGING_DIR"),
            scratch_root=folder_from("BACKUP_SCRATCH_DIR"),
            runner=self._runner,
            log=step_log(),
            release=self._release(),
            kind=self.kind,
            attachments=self._attachments(hook, source),
        )

    def _attachments(self, hook: BackupHook, source: SourcePolicy) -> StoreConnection | None:
        """Return how to reach the source's files, if this step is about them: no other needs to be able to."""
        wanted = source.attachments is not None and self.kind == ATTACHMENTS
        return hook.store(source.attachments.connection) if wanted and source.attachments else None

    def on_kill(self) -> None:
        """End the child processes."""
        if self._runner is not None:
            self._runner.kill()

    def _release(self) -> Release | None:
        from include.backup.steps.context import Release

        if not self.release and not self.git_sha:
            return None
        return Release(name=self.release or "", git_sha=self.git_sha or "")

    def _keep_reason(self, context: Context, error: BaseException, *, retry: bool) -> None:
        """Leave for ``notify`` why this try failed."""
        if isinstance(error, BackupError):
            message = Redactor(self._secrets())(str(error))
        elif isinstance(error, AirflowTaskTimeout):
            message = f"took longer than {self.execution_timeout}"
        else:
            message = ""
        keep_reason(context, error, message, retry=retry)

    def _secrets(self) -> list[str]:
        policy = load_policy(policy_path(os.environ), only=self.source)
        if self.source not in policy.sources:
            return []
        return BackupHook().secrets(connection_ids(policy.source(self.source)))


def keep_reason(context: Context, error: BaseException, message: str, *, retry: bool) -> None:
    """Leave for ``notify`` why a try failed.

    ``message`` is one of the core's own, which are written without secrets, or empty: the text of any other
    exception may hold anything.
    """
    reason = {"error": type(error).__name__, "message": message, "retry": retry}
    try:
        context["ti"].xcom_push(key=FAILURE_KEY, value=reason)
    except AirflowRuntimeError as second:
        step_log().warning("the reason cannot be handed to notify: %s", type(second).__name__)


def connection_ids(source: SourcePolicy) -> tuple[str, ...]:
    """Return the ids of all connections of a source."""
    slack = () if source.slack is None else (source.slack.connection,)
    supabase = () if source.supabase is None else (source.supabase.connection,)
    schema = () if source.schema_backup is None else (source.schema_backup.connection,)
    files = () if source.attachments is None else (source.attachments.connection,)
    ping = () if source.health is None or source.health.ping is None else (source.health.ping.connection,)
    return (source.connection, source.store.connection, *slack, *supabase, *schema, *files, *ping)


def source_policy(name: str) -> SourcePolicy:
    """Return a source as the policy has it now."""
    return load_policy(policy_path(os.environ), only=name).source(name)


def run_identity(context: Context) -> RunIdentity:
    """Return which run this is."""
    from include.backup.steps.context import RunIdentity

    run = context["dag_run"]
    return RunIdentity(
        dag_id=run.dag_id,
        run_id=run.run_id,
        run_after=run.run_after,
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        try_number=context["ti"].try_number,
        triggered_by=run.triggering_user_name,
    )


def folder_from(variable: str) -> Path:
    """Return the folder that an environment variable names; raises ParameterError when it is not set."""
    value = os.environ.get(variable)
    if not value:
        raise ParameterError(f"{variable} is not set; set it to a folder that all workers of the chain share")
    return Path(value)


def step_log() -> logging.Logger:
    """Return the logger of the steps, whose lines go to the task's log."""
    return logging.getLogger("include.backup.steps")
