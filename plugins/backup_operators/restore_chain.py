"""Wire the tasks of a restore of a whole database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import TriggerRule, chain

from backup_operators.approval import ASK_TASK, AskOperator, CheckApprovalOperator
from backup_operators.chain import messaging
from backup_operators.defaults import NOTIFY_TIMEOUT
from backup_operators.restore import PREVIEW, RESOLVE, RestoreBaseOperator, ask_for
from backup_operators.restore_tasks import (
    CheckAfterwardsOperator,
    CompareOperator,
    KeepOldOperator,
    LoadBesideOperator,
    PreviewRestoreOperator,
    ReopenTargetOperator,
    ResolveBackupOperator,
    RestoreInPlaceOperator,
    SafetyBackupOperator,
    SwapOperator,
    ThawSensor,
)
from backup_operators.tell import TellOperator
from include.backup.policy import RestorePolicy, SourcePolicy

SHORT = timedelta(minutes=10)
PREVIEW_TIMEOUT = timedelta(minutes=30)
# Bulk thaws of Deep Archive take two days.
THAW_TIMEOUT = timedelta(hours=72)
# The first answer may come before Airflow has parked the question; that try fails, and the second asks again.
ASK_RETRIES = 1
UNTOUCHED = "Nothing was changed."
ASKED_ADVICE = {
    RESOLVE: f"{UNTOUCHED} Choose another backup, or more clearly, and trigger a new run.",
    "thaw_archive": f"{UNTOUCHED} Clear `thaw_archive`, or choose a backup that is not in Glacier.",
    ASK_TASK: f"{UNTOUCHED} Trigger a new run, and let another person answer it under Required Actions.",
    "check_approval": f"{UNTOUCHED} Without a yes of another person nothing is replaced; trigger a new run.",
}
ADVICE = {
    **ASKED_ADVICE,
    PREVIEW: f"{UNTOUCHED} Put it right, and trigger a new run.",
    "take_safety_backup": f"{UNTOUCHED} Put it right, then clear `take_safety_backup`.",
    "restore_beside": f"{UNTOUCHED} Put it right, then clear `restore_beside`.",
    "compare_rows": f"{UNTOUCHED} Look at the restored database beside; choose another backup.",
    "swap_databases": "The log says if the names were changed; if not, production is as it was. Cleared, it goes on.",
    "restore_in_place": "The log says if it was rolled back; if not, restore the safety backup, though unproven.",
    "check_afterwards": "The restored database is in place, and a check fails; the runbook says how to go back.",
    "keep_old": "The restored database is in place. Clear `keep_old`, which says until when the old one stays.",
}
TELL = (PREVIEW, "compare_rows", "swap_databases", "restore_in_place")


def restore_chain(source: SourcePolicy, restore: RestorePolicy) -> None:
    """Add the tasks of a restore to the DAG in whose block this is called."""
    name: dict[str, Any] = {"source": source.name}
    # What was skipped because it is not needed must not skip what is.
    late: dict[str, Any] = {**name, "trigger_rule": TriggerRule.NONE_FAILED}
    once: dict[str, Any] = {**late, "retries": 0}
    notify = TellOperator(
        task_id="notify",
        execution_timeout=NOTIFY_TIMEOUT,
        title=f"{source.name} restore",
        advice=ADVICE,
        tell=TELL,
        **restore_messaging(source, restore),
    )
    chain(
        *asked(source, restore, preview=PreviewRestoreOperator, ask=ask_for(source)),
        SafetyBackupOperator(
            task_id="take_safety_backup", execution_timeout=restore.timeout, pool=source.scheduling.source_pool, **late
        ),
        LoadBesideOperator(task_id="restore_beside", execution_timeout=restore.timeout, **once),
        CompareOperator(task_id="compare_rows", execution_timeout=restore.timeout, **late),
        SwapOperator(task_id="swap_databases", execution_timeout=SHORT, **once),
        RestoreInPlaceOperator(task_id="restore_in_place", execution_timeout=restore.timeout, **once),
        KeepOldOperator(task_id="keep_old", execution_timeout=SHORT, **late),
        CheckAfterwardsOperator(task_id="check_afterwards", execution_timeout=PREVIEW_TIMEOUT, **late),
        ReopenTargetOperator(task_id="reopen_target", execution_timeout=SHORT, **name).as_teardown(),
        notify.as_teardown(),
    )


def asked(
    source: SourcePolicy, restore: RestorePolicy, *, preview: type[RestoreBaseOperator], ask: Any
) -> tuple[Any, ...]:
    """Make the tasks that every restore begins with, in their order: find the backup, show what it does, get a yes."""
    name: dict[str, Any] = {"source": source.name}
    return (
        ResolveBackupOperator(task_id=RESOLVE, execution_timeout=SHORT, **name),
        ThawSensor(
            task_id="thaw_archive",
            execution_timeout=SHORT,
            poke_interval=restore.thaw.poll_seconds,
            timeout=THAW_TIMEOUT.total_seconds(),
            **name,
        ),
        preview(task_id=PREVIEW, execution_timeout=PREVIEW_TIMEOUT, **name),
        *approval_tasks(source, restore, ask=ask),
    )


def approval_tasks(source: SourcePolicy, restore: RestorePolicy, *, ask: Any) -> tuple[Any, ...]:
    """Make the question and the look at who answered it; both are skipped when ``ask`` has nothing to ask."""
    return (
        AskOperator(
            task_id=ASK_TASK,
            ask=ask,
            execution_timeout=SHORT,
            response_timeout=restore.approval.response_timeout,
            retries=ASK_RETRIES,
        ),
        CheckApprovalOperator(
            task_id="check_approval",
            source=source.name,
            ask=ask,
            approval=restore.approval,
            execution_timeout=SHORT,
            trigger_rule=TriggerRule.NONE_FAILED,
        ),
    )


def restore_messaging(source: SourcePolicy, restore: RestorePolicy) -> dict[str, Any]:
    """Return where messages about restores go, and which connections' passwords must not be in them."""
    common = messaging(source)
    secret = (*common["secret_conn_ids"], *restore.connections, restore.approval.connection)
    return {**common, "secret_conn_ids": tuple(dict.fromkeys(secret))}
