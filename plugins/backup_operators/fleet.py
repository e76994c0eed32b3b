"""What the DAGs of the whole fleet share: one task for each source, which tells of its own failure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from backup_operators.chain import messaging
from backup_operators.defaults import OWNER, START_DATE
from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.messages import escape
from backup_operators.notify import run_url
from backup_operators.redaction import Redactor
from backup_operators.slack import deliver
from backup_operators.step import step_log
from include.backup.errors import BackupError, RetryWorthlessError
from include.backup.policy import load_policy, policy_path
from include.backup.policy.scheduling import SchedulingPolicy
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import SourcePolicy

LONGEST_REASON = 1500
RETRY_DELAY = timedelta(minutes=10)


class FleetOperator(BaseOperator):
    """Do one thing for one source; meant to be mapped over the sources.

    :param source: source of the policy (templated)

    A failure is told to the source's Slack channel here: a mapped task has no place in a message of the whole run.
    """

    template_fields: Sequence[str] = ("source",)
    ui_color = "#f1f3f4"
    # What a person does next when it failed; ``{source}`` is the source.
    next_step = "Look at the log, put it right, and clear the task."
    _runner: Runner | None = None

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> Any:
        die_with_parent()
        source = load_policy(policy_path(os.environ), only=self.source).source(self.source)
        try:
            return self.work(context, source)
        except RetryWorthlessError as error:
            self._tell_failure(context, source, error)
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except (Exception, AirflowTaskTimeout) as error:
            if context["ti"].try_number > (self.retries or 0):
                self._tell_failure(context, source, error)
            raise

    def work(self, context: Context, source: SourcePolicy) -> Any:
        """Do the work; raises what went wrong."""
        raise NotImplementedError

    def on_kill(self) -> None:
        """End the child processes."""
        if self._runner is not None:
            self._runner.kill()

    def tell(self, source: SourcePolicy, text: str) -> None:
        """Send a text to the source's channel; a message that does not arrive changes nothing.

        What others wrote is escaped in it: Slack reads commands and links out of a text.
        """
        where = messaging(source)
        redact = Redactor(BackupHook().secrets(where["secret_conn_ids"]))
        deliver(redact(text), conn_id=where["slack_conn_id"], redact=redact)

    def _tell_failure(self, context: Context, source: SourcePolicy, error: BaseException) -> None:
        if isinstance(error, BackupError):
            reason = str(error)[:LONGEST_REASON]
        elif isinstance(error, AirflowTaskTimeout):
            reason = f"took longer than {self.execution_timeout}"
        else:
            reason = f"unexpected {type(error).__name__}; the log has it"
        run = context["dag_run"]
        url = f"{run_url(run.dag_id, run.run_id)}/tasks/{self.task_id}"
        todo = self.next_step.format(source=escape(source.name))
        self.tell(
            source,
            f"❌ *{escape(source.name)}* `{self.task_id}` of {escape(run.dag_id)} *failed*\n*Why:* {escape(reason)}\n"
            f"*Next:* {todo} <{url}|log>",
        )


# How the tasks of the sources are told apart in the UI.
MAP_INDEX = "{{ task.source }}"


def fleet_arguments(dag_id: str) -> dict[str, Any]:
    """Return the arguments that all DAGs of the fleet share."""
    return {
        "dag_id": dag_id,
        "start_date": START_DATE,
        "catchup": False,
        "max_active_runs": 1,
        "max_consecutive_failed_dag_runs": 0,
        "is_paused_upon_creation": True,
        "default_args": {
            "owner": OWNER,
            "depends_on_past": False,
            "retries": 0,
            "retry_delay": RETRY_DELAY,
        },
    }


def source_names() -> list[str]:
    """Return the sources of the policy that are acceptable; a bad one hides no other."""
    policy = load_policy(policy_path(os.environ))
    for rejected in policy.rejected.values():
        step_log().error("a source is left out: %s", rejected)
    return list(policy.sources)


def sources_to_look_at() -> list[str]:
    """Return the sources whose health is looked at: when the policy has none that is acceptable, those it leaves out.

    Nobody else would tell of them: their tasks fail, and say why they are left out.
    """
    return source_names() or list(load_policy(policy_path(os.environ)).rejected)


def scratch_pool() -> str:
    """Return the pool of restore tests: that of most sources, since all tasks of a mapped one share theirs."""
    pools = [source.scheduling.scratch_pool for source in load_policy(policy_path(os.environ)).sources.values()]
    return max(sorted(set(pools)), key=pools.count, default=SchedulingPolicy().scratch_pool)


def folder_if_set(variable: str) -> Path | None:
    """Return the folder that an environment variable names, None when it is not set."""
    value = os.environ.get(variable)
    return Path(value) if value else None
