"""Wire the tasks of a base backup."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import TriggerRule, chain

from backup_operators.base_backup import (
    BasePreflightOperator,
    CloseBaseOperator,
    StartBaseOperator,
    StoreWalOperator,
    TakeBaseOperator,
    UploadBaseOperator,
    VerifyBaseOperator,
)
from backup_operators.chain import LEASE_MARGIN, messaging
from backup_operators.defaults import NOTIFY_TIMEOUT, QUEUE_MARGIN, SCRATCH_TIMEOUT
from backup_operators.notify import tell_of_ended_run
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator
from backup_operators.tell import TellOperator
from include.backup.policy import SourcePolicy
from include.backup.policy.base_backup import BaseBackupPolicy

ADVICE = {
    "preflight": "Nothing was read yet. Put it right, then clear `preflight` or trigger a new run.",
    "take_base": "Put it right, then clear `take_base` or trigger a new run.",
    "upload": "Put it right, then clear `upload`: what was taken is kept in staging, and is not taken again.",
    "verify": "This backup does not count until `verify` passes. Clear it; if it fails again, trigger a new run.",
    "store_wal": "Without its WAL the backup cannot be used. Put it right, then clear `store_wal`.",
    "prepare_scratch": "The backup is stored, not proven. Put it right, then clear `prepare_scratch`.",
    "restore_test": "The backup is stored, not proven: do not rely on it. Clear `restore_test`, or trigger a full one.",
    "close_staging": "The backup is stored; only its staging folder is left. Clear `close_staging`.",
}
TELL = ("verify", "restore_test")
# What was wrong with the log before this backup: the next WAL run finds it whole.
ALSO = ("preflight", "store_wal")


def base_chain(source: SourcePolicy, policy: BaseBackupPolicy) -> None:
    """Add the tasks of a base backup to the DAG in whose block this is called."""
    limits = policy.timeouts
    step: dict[str, Any] = {"source": source.name}
    lease = limits.restore_test + LEASE_MARGIN
    preflight = BasePreflightOperator(
        task_id="preflight",
        execution_timeout=limits.preflight,
        full="{{ params.full }}",
        reason="{{ params.reason or '' }}",
        **step,
    )
    take = TakeBaseOperator(
        task_id="take_base", execution_timeout=limits.take, pool=source.scheduling.source_pool, **step
    )
    upload = UploadBaseOperator(task_id="upload", execution_timeout=limits.upload, **step)
    verify = VerifyBaseOperator(task_id="verify", execution_timeout=limits.verify, **step)
    store_wal = StoreWalOperator(task_id="store_wal", execution_timeout=limits.upload, **step)
    prepare = PrepareScratchOperator(
        task_id="prepare_scratch",
        execution_timeout=SCRATCH_TIMEOUT,
        prove=str(policy.prove == "in_chain"),
        lease=lease,
    )
    restore_test = StartBaseOperator(
        task_id="restore_test", execution_timeout=limits.restore_test, pool=source.scheduling.scratch_pool, **step
    )
    remove = RemoveScratchOperator(task_id="remove_scratch", execution_timeout=SCRATCH_TIMEOUT, lease=lease)
    close = CloseBaseOperator(
        task_id="close_staging",
        execution_timeout=limits.preflight,
        # The staging goes although a proof was not asked for; a run that took nothing has none.
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        **step,
    )
    notify = TellOperator(
        task_id="notify",
        execution_timeout=NOTIFY_TIMEOUT,
        title=f"{source.name} base backup",
        advice=ADVICE,
        tell=TELL,
        also=ALSO,
        **messaging(source),
    )
    chain(preflight, take, upload, verify, store_wal, prepare, restore_test, close, notify.as_teardown())
    chain(store_wal, close)
    chain(restore_test, remove.as_teardown(setups=prepare), notify)


def base_ended_callback(source: SourcePolicy) -> Any:
    """Return the DAG's callback for runs that Airflow itself ends."""
    return partial(tell_of_ended_run, source=source.name, tier="base", **messaging(source))


def base_dagrun_timeout(source: SourcePolicy, policy: BaseBackupPolicy) -> timedelta:
    """Return the last resort: longer than all tries of all tasks and the waits between them."""
    limits = policy.timeouts
    timeouts = [*astuple(limits), limits.upload, limits.preflight, SCRATCH_TIMEOUT, SCRATCH_TIMEOUT, NOTIFY_TIMEOUT]
    waits = timedelta(seconds=source.retry_delay_seconds) * source.retries * len(timeouts)
    return sum(timeouts, timedelta()) * (source.retries + 1) + waits + QUEUE_MARGIN
