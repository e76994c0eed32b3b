"""What the tasks of a restore share: their context from the policy as it is now, and the form's wish."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from backup_operators.approval import guarded
from backup_operators.hook import BackupHook
from backup_operators.step import folder_from, run_identity, step_log
from include.backup.errors import ParameterError
from include.backup.policy import SourcePolicy, load_policy, policy_path
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.approval import Question
    from include.backup.restore.context import RestoreContext

RESOLVE, PREVIEW = "resolve_backup", "preview_restore"


class RestoreBaseOperator(BaseOperator):
    """A task of a restore of one source.

    :param source: source of the policy
    """

    ui_color = "#fff8e1"
    _runner: Runner | None = None

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> Any:
        return guarded(context, lambda: self.work(context))

    @abstractmethod
    def work(self, context: Context) -> Any:
        """Do the task's work; errors of the core are told to ``notify``."""

    def restore_context(self, context: Context) -> RestoreContext:
        """Return what the core's steps are given."""
        self._runner = Runner(log=step_log())
        return restore_context(context, self.source, runner=self._runner)

    def on_kill(self) -> None:
        """End the child processes."""
        if self._runner is not None:
            self._runner.kill()


def ask_for(source: SourcePolicy) -> Any:
    """Return what makes the question of a restore: read from the store, and None when nobody need be asked."""
    name = source.name

    def ask(context: Context) -> Question | None:
        ctx = restore_context(context, name, runner=Runner(log=logging.getLogger(__name__)))
        order = ctx.order(pulled(context, PREVIEW, "seal"))
        needed = order.needs_approval or (order.replaces and not order.dry_run and ctx.destination(order).production)
        return order.question() if needed else None

    return ask


def restore_context(context: Context, source: str, *, runner: Runner) -> RestoreContext:
    """Return what the core's steps are given, from the policy as it is now."""
    from include.backup.restore.context import RestoreContext

    policy = load_policy(policy_path(os.environ))
    found = policy.source(source)
    hook = BackupHook()
    return RestoreContext(
        policy=policy,
        source=found,
        connections=hook.database,
        store_connection=hook.store(found.store.connection),
        run=run_identity(context),
        staging_root=folder_from("BACKUP_STAGING_DIR"),
        scratch_root=folder_from("BACKUP_SCRATCH_DIR"),
        runner=runner,
        log=step_log(),
    )


def wish_of(context: Context) -> Any:
    """Return what the form's fields ask for."""
    from include.backup.restore.prepare import Wish
    from include.backup.restore.words import Where

    given = context["params"]
    sure: Sequence[str] = ("replace", "end_sessions", "give_up_slots", "give_up_writes")
    flags: Sequence[str] = (*sure, "unproven", "with_roles", "dry_run", "in_place")
    return Wish(
        backup_id=pulled(context, RESOLVE, "backup_id"),
        where=Where(given["where"]),
        server=given["server"] or None,
        database=given["database"] or None,
        reason=given["reason"] or "",
        **{name: bool(given[name]) for name in flags},
    )


def pulled(context: Context, task_id: str, key: str) -> str:
    """Return what a task has left; it is only a pointer, whatever it says is looked up and checked."""
    found = context["ti"].xcom_pull(task_ids=task_id)
    if not isinstance(found, dict) or not isinstance(found.get(key), str):
        raise ParameterError(f"{task_id} has left no {key}; clear it, or trigger a new run")
    return str(found[key])


def named_tables(given: Any) -> tuple[str, ...]:
    """Return the tables that the form names, one a line; the form of a whole database has no such field."""
    return tuple(line.strip() for line in given.get("tables") or () if line.strip())
