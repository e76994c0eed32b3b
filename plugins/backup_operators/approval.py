"""Ask a person before something is overwritten; and let the work itself make sure that he was asked.

Marking tasks, forging XComs and answering for oneself are all possible in Airflow. So what counts is only what
``require_approval`` reads over REST at the moment of the work, and the question is matched with the work by a seal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from backup_operators.airflow_rest import AirflowRest
from backup_operators.hook import BackupHook
from backup_operators.lifeline import die_with_parent
from backup_operators.step import keep_reason, step_log
from include.backup.errors import ApprovalError, BackupError, RetryWorthlessError
from include.backup.policy import load_policy, policy_path

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.approval import Approval, Question
    from include.backup.policy import ApprovalPolicy

ASK_TASK = "approve"
Ask = Callable[["Context"], "Question | None"]
Result = TypeVar("Result")


class AskOperator(ApprovalOperator):
    """Ask for a yes and wait for it, without a default and without holding a worker slot.

    The question is made when the task runs, from what the work will read too. A no ends this task well: what it
    means is decided by ``CheckApprovalOperator`` after it. A question that nobody answers in time fails.

    :param ask: makes the question, or returns None when nobody need be asked (the task is then skipped)
    :param response_timeout: how long to wait for an answer
    """

    template_fields: Sequence[str] = ()
    ui_color = "#fce8e6"

    def __init__(self, *, ask: Ask, response_timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(subject="not asked yet", body="", response_timeout=response_timeout, **kwargs)
        self.ask = ask

    def execute(self, context: Context) -> Any:
        question = guarded(context, lambda: self.ask(context))
        if question is None:
            raise AirflowSkipException("nobody need be asked: nothing in production is replaced")
        self.subject, self.body = question.subject, question.text
        step_log().info("asking for approval of %s: %s", question.seal, question.subject)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        # Not ApprovalOperator's own: on a no it would skip the check, and the run would end as a success.
        return HITLOperator.execute_complete(self, context, event)

    def process_trigger_event_error(self, event: dict[str, Any]) -> NoReturn:
        if event.get("error_type") == "timeout":
            message = f"nobody answered within {self.response_timeout}; nothing was changed, trigger a new run"
            raise AirflowFailException(message)
        super().process_trigger_event_error(event)
        raise AirflowFailException(str(event.get("error")))


class CheckApprovalOperator(BaseOperator):
    """Fail the run unless what was asked was answered with yes, by somebody who may; either goes into the evidence.

    :param source: source of the policy
    :param ask: makes the question as ``AskOperator`` did
    :param approval: the policy's block
    :param ask_task: the task that asked

    Returns who asked, who agreed, and when; or that nobody need be asked.
    """

    ui_color = "#fce8e6"

    def __init__(
        self, *, source: str, ask: Ask, approval: ApprovalPolicy, ask_task: str = ASK_TASK, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.ask = ask
        self.approval = approval
        self.ask_task = ask_task

    def execute(self, context: Context) -> dict[str, Any]:
        def check() -> dict[str, Any]:
            question = self.ask(context)
            if question is None:
                return {"needed": False}
            found = self._answer(context, question)
            step_log().info("%s asked, %s approved %s", found.requested_by, found.approved_by, found.seal)
            return {"needed": True, **found.to_dict()}

        return guarded(context, check)

    def _answer(self, context: Context, question: Question) -> Approval:
        """Return the yes, or raise why there is none; both only after they are on record."""
        from include.backup.approval import record_approval, record_refusal
        from include.backup.evidence import open_ledger
        from include.backup.steps.context import open_store

        source = load_policy(policy_path(os.environ), only=self.source).source(self.source)
        ledger = open_ledger(source, open_store(source, BackupHook().store(source.store.connection)))
        run = f"{context['dag_run'].dag_id} {context['dag_run'].run_id}"
        try:
            found = require_approval(context, seal=question.seal, approval=self.approval, ask_task=self.ask_task)
        except ApprovalError as error:
            record_refusal(ledger, question, run=run, why=str(error))
            raise
        record_approval(ledger, question, run=run, approval=found)
        return found


def require_approval(
    context: Context, *, seal: str, approval: ApprovalPolicy, ask_task: str = ASK_TASK, now: datetime | None = None
) -> Approval:
    """Return the yes to exactly this; raises ApprovalError when there is none, AirflowApiError when nobody knows.

    To be called by the destructive task itself, right before what cannot be undone. Asker and answerer both come
    from Airflow's API, as the policy's service user reads them.
    """
    from include.backup.approval import check_approval

    api = AirflowRest.from_spec(BackupHook().spec(approval.connection))
    run = context["dag_run"]
    shown = api.run(run.dag_id, run.run_id)
    requested_by = shown.get("triggering_user_name")
    return check_approval(
        api.answer(run.dag_id, run.run_id, ask_task),
        requested_by=None if requested_by is None else str(requested_by),
        seal=seal,
        two_people=approval.two_people,
        valid_for=approval.response_timeout,
        now=now or datetime.now(UTC),
    )


def guarded(context: Context, work: Callable[[], Result]) -> Result:
    """Run a task's work; what a retry cannot mend fails at once, and ``notify`` gets the reason."""
    die_with_parent()
    try:
        return work()
    except RetryWorthlessError as error:
        keep_reason(context, error, str(error), retry=False)
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except BackupError as error:
        keep_reason(context, error, str(error), retry=True)
        raise
