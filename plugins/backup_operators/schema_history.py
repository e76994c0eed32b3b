"""The schema's history: commit what changed, tell of drift, tell of failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout

from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.messages import escape
from backup_operators.notify import run_url
from backup_operators.redaction import Redactor
from backup_operators.slack import deliver
from backup_operators.step import FAILURE_KEY, connection_ids, folder_from, keep_reason, step_log
from include.backup.errors import BackupError, RetryWorthlessError
from include.backup.policy import load_policy, policy_path
from include.backup.process import Runner

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import SourcePolicy
    from include.backup.schema_history.drift import Drift
    from include.backup.schema_history.history import SchemaHistory

COMMIT_TASK = "commit_schema"
DRIFT_TASK = "announce_drift"
DIFF_LINES = 60
DIFF_CHARACTERS = 2500
LISTED_OBJECTS = 20
LONGEST_REASON = 1500


class SchemaOperator(BaseOperator):
    """What both tasks share: the source's history, and how a failure is left for ``notify``.

    :param source: source of the policy (templated)
    """

    template_fields: Sequence[str] = ("source",)
    _runner: Runner | None = None

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> dict[str, Any]:
        die_with_parent()
        try:
            return self.work(context)
        except RetryWorthlessError as error:
            keep_reason(context, error, self._redactor()(str(error)), retry=False)
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        except (Exception, AirflowTaskTimeout) as error:
            keep_reason(context, error, self._message(error), retry=True)
            raise

    def work(self, context: Context) -> dict[str, Any]:
        """Do the task."""
        raise NotImplementedError

    def history(self, context: Context) -> SchemaHistory:
        """Return the source's history, for this run."""
        from include.backup.policy.schema_backup import schema_policy
        from include.backup.schema_history.history import SchemaHistory
        from include.backup.schema_history.remote import GitRemote

        source = self.source_policy()
        hook = BackupHook()
        self._runner = Runner(log=step_log())
        run = context["dag_run"]
        return SchemaHistory(
            source=source,
            database=hook.database(source.connection),
            remote=GitRemote.from_spec(hook.spec(schema_policy(source).connection)),
            staging_root=folder_from("BACKUP_STAGING_DIR"),
            runner=self._runner,
            run_id=f"{run.dag_id} {run.run_id}",
            secrets=tuple(hook.secrets(connection_ids(source))),
        )

    def source_policy(self) -> SourcePolicy:
        return load_policy(policy_path(os.environ), only=self.source).source(self.source)

    def on_kill(self) -> None:
        """End the child processes."""
        if self._runner is not None:
            self._runner.kill()

    def _message(self, error: BaseException) -> str:
        if isinstance(error, AirflowTaskTimeout):
            return f"took longer than {self.execution_timeout}"
        return self._redactor()(str(error)) if isinstance(error, BackupError) else ""

    def _redactor(self) -> Redactor:
        sources = load_policy(policy_path(os.environ)).sources
        known = connection_ids(sources[self.source]) if self.source in sources else ()
        return Redactor(BackupHook().secrets(known))


class CommitSchemaOperator(SchemaOperator):
    """Read the schema and, if it has changed, commit it to the git remote.

    Returns the commit and how many objects were added, removed and changed.
    """

    ui_color = "#d2e3fc"

    def work(self, context: Context) -> dict[str, Any]:
        done = self.history(context).back_up()
        step_log().info("%s", done.line())
        for line in done.changes.lines():
            step_log().info("%s", line)
        return done.to_dict()


class AnnounceDriftOperator(SchemaOperator):
    """Compare a schema that has changed with that of the last release, and send the difference to Slack.

    A message that does not arrive fails nothing; the difference is in the log too.

    Returns how many objects differ, and whether the message was delivered.
    """

    ui_color = "#fef7e0"

    def work(self, context: Context) -> dict[str, Any]:
        from include.backup.schema_history.drift import drift_from_release
        from include.backup.steps.context import open_catalog, open_store

        done = context["ti"].xcom_pull(task_ids=COMMIT_TASK) or {}
        if not done.get("commit"):
            step_log().info("the schema has not changed; there is nothing to announce")
            return {"announced": False, "objects": 0}
        source = self.source_policy()
        history = self.history(context)
        store = open_store(source, BackupHook().store(source.store.connection))
        schema = history.committed(done["head"])
        drift = drift_from_release(history, schema, store=store, catalog=open_catalog(source, store))
        if drift is None:
            step_log().info("there is no pre-deployment backup to compare with")
            return {"announced": False, "objects": 0}
        return self._announce(context, source, drift, done["commit"])

    def _announce(self, context: Context, source: SourcePolicy, drift: Drift, commit: str) -> dict[str, Any]:
        step_log().info("%s", drift.line())
        if not drift.changes:
            return {"announced": False, "objects": 0, "backup_id": drift.backup_id}
        for line in drift.diff.splitlines():
            step_log().info("%s", line)
        run = context["dag_run"]
        text = drift_text(source.name, drift, commit=commit, url=run_url(run.dag_id, run.run_id))
        slack = None if source.slack is None else source.slack.connection
        delivery = deliver(text, conn_id=slack, redact=self._redactor())
        return {
            "announced": delivery.delivered,
            "reason": delivery.reason,
            "objects": drift.changes.count,
            "backup_id": drift.backup_id,
        }


def drift_text(source: str, drift: Drift, *, commit: str, url: str) -> str:
    """Return the message about a schema that is not the last release's."""
    lines = drift.diff.replace("```", "'''").splitlines()
    shown = "\n".join(lines[:DIFF_LINES])[:DIFF_CHARACTERS]
    cut = "" if shown == "\n".join(lines) else "\n… cut; the run's log and the commit have all of it"
    objects = "\n".join(f"• {escape(line)}" for line in drift.changes.lines(most=LISTED_OBJECTS))
    return (
        f"🔀 *{escape(source)}* schema differs from the one before release *{escape(drift.release)}* "
        f"(`{drift.backup_id}`), commit `{commit[:12]}`\n{objects}\n```{escape(shown)}{cut}```\n"
        f"*Next:* If these are that release's migrations, nothing. If not, somebody changed the database by hand: put "
        f"it into a migration, or take it back. <{url}|run>"
    )


class NotifySchemaOperator(BaseOperator):
    """Tell Slack how the run ended, if the schema was committed or a task failed. Meant as a teardown.

    :param source: source of the policy (templated)
    :param slack_conn_id: Slack webhook connection, or None
    :param secret_conn_ids: connections whose passwords must not reach a message

    Returns whether a message was delivered, and the reason if not.
    """

    template_fields: Sequence[str] = ("source",)
    ui_color = "#fef7e0"

    def __init__(
        self, *, source: str, slack_conn_id: str | None, secret_conn_ids: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.slack_conn_id = slack_conn_id
        self.secret_conn_ids = secret_conn_ids

    def execute(self, context: Context) -> dict[str, Any]:
        ti: Any = context["ti"]
        run = context["dag_run"]
        states = {
            str(crumb["task_id"]): str(crumb["state"])
            for crumb in ti.get_task_breadcrumbs(dag_id=run.dag_id, run_id=run.run_id)
        }
        text = outcome_text(
            self.source, states, url=run_url(run.dag_id, run.run_id), pull=lambda task, key: _pulled(ti, task, key)
        )
        if text is None:
            return {"delivered": False, "reason": "nothing has changed"}
        redact = Redactor(BackupHook().secrets(self.secret_conn_ids))
        self.log.info("%s", redact(text))
        return deliver(text, conn_id=self.slack_conn_id, redact=redact).to_dict()


def outcome_text(
    source: str, states: dict[str, str], *, url: str, pull: Callable[[str, str], dict[str, Any]]
) -> str | None:
    """Return the message about a run; None when there is nothing to tell."""
    for task in (COMMIT_TASK, DRIFT_TASK):
        if states.get(task) == "failed":
            reason = pull(task, FAILURE_KEY)
            why = str(reason.get("message") or "its worker was lost, or an unexpected error; see its log")[
                :LONGEST_REASON
            ]
            return (
                f"❌ *{escape(source)}* schema backup *failed* at `{task}`\n"
                f"*Why:* {escape(str(reason.get('error') or 'unknown'))}: {escape(why)}\n"
                f"*Next:* Put it right, then clear `{task}`: what was committed is not lost. <{url}/tasks/{task}|log>"
            )
    if states.get(COMMIT_TASK) != "success":
        return (
            f"❌ *{escape(source)}* schema backup has not run to its end; somebody marked tasks, or the run was ended. "
            f"<{url}|run>"
        )
    done = pull(COMMIT_TASK, "return_value")
    if not done.get("commit"):
        return None
    counts = ", ".join(f"{done[word]} {word}" for word in ("added", "removed", "changed") if done.get(word))
    first = "first schema, " if done.get("first") else ""
    return (
        f"✅ *{escape(source)}* schema: {first}{counts or 'files restored'}; commit `{done['commit'][:12]}` <{url}|run>"
    )


def _pulled(ti: Any, task_id: str, key: str) -> dict[str, Any]:
    value = ti.xcom_pull(task_ids=task_id, key=key)
    return value if isinstance(value, dict) else {}
