"""The tasks of a point-in-time recovery: a new server beside the source, or, where it hosts, Supabase's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from backup_operators.approval import guarded, require_approval
from backup_operators.hook import BackupHook
from backup_operators.step import folder_from, run_identity, source_policy, step_log
from include.backup.errors import ParameterError
from include.backup.process import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from include.backup.approval import Question
    from include.backup.point_in_time.hosted import HostedPlan
    from include.backup.point_in_time.restore import PointInTimePlan
    from include.backup.point_in_time.target import RecoveryTarget
    from include.backup.policy import SourcePolicy
    from include.backup.store import ObjectStore
    from include.backup.supabase.project import SupabaseProject

RESTORE_VARIABLE = "BACKUP_RESTORE_DIR"


class PreviewRecoveryOperator(BaseOperator):
    """Decide what a recovery begins with and whether its target can be reached; change nothing.

    :param source: source of the policy

    Returns what would be done.
    """

    ui_color = "#e8f0fe"

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> dict[str, Any]:
        return guarded(context, lambda: self._look(context))

    def _look(self, context: Context) -> dict[str, Any]:
        source = source_policy(self.source)
        if is_hosted(source):
            with supabase(source) as project:
                hosted = hosted_plan(context, source, project)
            for line in hosted.lines():
                step_log().info("%s", line)
            return {"mode": "hosted", "target": hosted.target.isoformat(), "line": hosted.lines()[0]}
        plan, _ = own_plan(context, source)
        for line in plan.lines():
            step_log().info("%s", line)
        choice = plan.choice
        line = f"{choice.target} can be recovered from {choice.base.backup_id}; nothing was changed"
        return {"mode": "beside", **plan.to_dict(), "line": line}


class RecoverOperator(BaseOperator):
    """Build and recover the server, or let Supabase recover the project; a run that only looks is skipped.

    :param source: source of the policy

    Returns where it landed, with its line of evidence.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#fce8e6"
    _runner: Runner | None = None

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> dict[str, Any]:
        return guarded(context, lambda: self._recover(context))

    def on_kill(self) -> None:
        """End the child processes."""
        if self._runner is not None:
            self._runner.kill()

    def _recover(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowSkipException

        if context["params"]["preview_only"]:
            raise AirflowSkipException("only a preview was asked for; nothing was changed")
        source = source_policy(self.source)
        if is_hosted(source):
            return self._hosted(context, source)
        from include.backup.point_in_time.evidence import record_recovery
        from include.backup.point_in_time.restore import restore_point_in_time

        plan, store = own_plan(context, source)
        self._runner = Runner(log=step_log())
        report = restore_point_in_time(plan, store=store, runner=self._runner, log=step_log(), seconds=self._seconds())
        record_recovery(source, store, report.to_dict(), subject=report.backup_id, actor=run_identity(context).actor)
        for text in (report.line(), *report.details()):
            step_log().info("%s", text)
        return {**report.to_dict(), "line": report.line()}

    def _hosted(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.point_in_time.evidence import record_recovery
        from include.backup.point_in_time.hosted import restore_hosted
        from include.backup.steps.context import open_store

        if source.restore is None:
            raise ParameterError(f"the policy has no restore block for {source.name}, so that nobody can be asked")
        with supabase(source) as project:
            plan = hosted_plan(context, source, project)
            approval = require_approval(context, seal=plan.question().seal, approval=source.restore.approval)
            report = restore_hosted(
                plan, project, deadline_seconds=self._seconds(), say=lambda text: step_log().info("%s", text)
            )
        store = open_store(source, BackupHook().store(source.store.connection))
        facts = {**report.to_dict(), "approval": approval.to_dict()}
        record_recovery(source, store, facts, subject=plan.project_ref, actor=run_identity(context).actor)
        step_log().info("%s", report.line())
        return {**report.to_dict(), "line": report.line()}

    def _seconds(self) -> float:
        return 6 * 3600.0 if self.execution_timeout is None else self.execution_timeout.total_seconds()


def ask_for_recovery(source: str) -> Any:
    """Return what makes the question: only a recovery in place needs a yes, one beside replaces nothing."""

    def ask(context: Context) -> Question | None:
        found = source_policy(source)
        if context["params"]["preview_only"] or not is_hosted(found):
            return None
        with supabase(found) as project:
            return hosted_plan(context, found, project).question()

    return ask


def is_hosted(source: SourcePolicy) -> bool:
    """Tell whether the source is a hosted Supabase project, of which no files and no WAL can be had."""
    from include.backup.postgres.replication import is_hosted_supabase

    return is_hosted_supabase(BackupHook().database(source.connection))


def own_plan(context: Context, source: SourcePolicy) -> tuple[PointInTimePlan, ObjectStore]:
    """Return what the form means, decided from what the store holds now."""
    from include.backup.point_in_time.choose import Wanted
    from include.backup.point_in_time.restore import plan_point_in_time
    from include.backup.point_in_time.stored import read_stored
    from include.backup.postgres.account import runtime_dir, source_user
    from include.backup.steps.context import open_store

    given = context["params"]
    store = open_store(source, BackupHook().store(source.store.connection))
    root = runtime_dir(Path(folder_from(RESTORE_VARIABLE)), source_user())
    plan = plan_point_in_time(
        read_stored(source, store, system_identifier=given["system_identifier"] or None),
        Wanted(
            target=target_of(given),
            base=given["base_backup"] or None,
            timeline=given["timeline"],
            unproven=bool(given["unproven"]),
        ),
        source=source.name,
        folder=root / given["folder"],
        port=int(given["port"]),
    )
    return plan, store


def target_of(given: Any) -> RecoveryTarget:
    """Return the target that the form's fields mean."""
    from include.backup.point_in_time.target import RecoveryTarget

    kind = given["target_kind"]
    value = given["target_time"] if kind == "time" else given["target_value"]
    return RecoveryTarget.parse(kind, value or None)


def hosted_plan(context: Context, source: SourcePolicy, project: SupabaseProject) -> HostedPlan:
    """Return what Supabase would be asked."""
    from include.backup.point_in_time.hosted import plan_hosted

    return plan_hosted(project, target_of(context["params"]), source=source.name)


@contextmanager
def supabase(source: SourcePolicy) -> Iterator[SupabaseProject]:
    """Open the project behind a source; raises ParameterError when the policy names none."""
    from include.backup.supabase.connection import SupabaseConnection
    from include.backup.supabase.project import SupabaseProject

    if source.supabase is None:
        raise ParameterError(
            f"{source.name} is hosted by Supabase and the policy has no supabase block for it; add project_ref and "
            "connection, so that its own recovery can be asked for"
        )
    logging.getLogger(__name__).debug("asking Supabase about %s", source.supabase.project_ref)
    connection = SupabaseConnection.from_spec(BackupHook().spec(source.supabase.connection))
    with SupabaseProject.open(connection, source.supabase.project_ref) as project:
        yield project
