"""Wire the tasks of one backup."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import Asset, TriggerRule, chain

from backup_operators.defaults import NOTIFY_TIMEOUT, SCRATCH_POOL, SCRATCH_TIMEOUT, SOURCE_POOL
from backup_operators.notify import NotifyOperator, tell_of_ended_run
from backup_operators.operators import (
    CloseStagingOperator,
    CompressOperator,
    DumpOperator,
    PreflightOperator,
    RestoreTestOperator,
    UploadOperator,
    VerifyOperator,
)
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator
from backup_operators.step import connection_ids
from include.backup.policy import SourcePolicy, TierPolicy

LEASE_MARGIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFields:
    """Templates of the release that a backup guards."""

    release: str
    git_sha: str


def backup_chain(source: SourcePolicy, tier: TierPolicy, *, prove: str, release: ReleaseFields | None = None) -> None:
    """Add the tasks of one backup to the DAG in whose block this is called.

    ``prove`` is a template that gives ``True`` or ``False``: whether this run also proves its backup.
    """
    guarded = {} if release is None else {"release": release.release, "git_sha": release.git_sha}
    step: dict[str, Any] = {"source": source.name, "tier": tier.name, **guarded}
    limits = tier.timeouts
    lease = limits.restore_test + LEASE_MARGIN
    preflight = PreflightOperator(task_id="preflight", execution_timeout=limits.preflight, **step)
    dump = DumpOperator(task_id="dump", execution_timeout=limits.dump, pool=SOURCE_POOL, **step)
    compress = CompressOperator(task_id="compress", execution_timeout=limits.compress, **step)
    upload = UploadOperator(task_id="upload", execution_timeout=limits.upload, **step)
    verify = VerifyOperator(task_id="verify", execution_timeout=limits.verify, asset=backups_of(source.name), **step)
    prepare = PrepareScratchOperator(
        task_id="prepare_scratch", execution_timeout=SCRATCH_TIMEOUT, prove=prove, lease=lease
    )
    restore_test = RestoreTestOperator(
        task_id="restore_test", execution_timeout=limits.restore_test, pool=SCRATCH_POOL, **step
    )
    remove = RemoveScratchOperator(task_id="remove_scratch", execution_timeout=SCRATCH_TIMEOUT, lease=lease)
    close = CloseStagingOperator(
        task_id="close_staging",
        execution_timeout=limits.close_staging,
        # A proof that was not asked for is skipped; the staging goes all the same.
        trigger_rule=TriggerRule.NONE_FAILED,
        **step,
    )
    notify = NotifyOperator(
        task_id="notify",
        execution_timeout=NOTIFY_TIMEOUT,
        source=source.name,
        tier=tier.name,
        kind=tier.kind,
        keep_failed_hours=source.keep_failed_hours,
        release=None if release is None else release.release,
        **messaging(source),
    )
    chain(preflight, dump, compress, upload, verify, prepare, restore_test, close, notify.as_teardown())
    chain(restore_test, remove.as_teardown(setups=prepare), notify)


def backups_of(source: str) -> Asset:
    """Return the asset that each new backup of a source updates. The scheme with x- needs no provider."""
    return Asset(name=f"{source}_backups", uri=f"x-backup://{source}", group="backups")


def ended_run_callback(source: SourcePolicy, tier: TierPolicy) -> Any:
    """Return the DAG's callback for runs that Airflow itself ends."""
    return partial(tell_of_ended_run, source=source.name, tier=tier.name, **messaging(source))


def messaging(source: SourcePolicy) -> dict[str, Any]:
    """Return where messages about a source go, and which connections' passwords must not be in them."""
    slack = None if source.slack is None else source.slack.connection
    return {"slack_conn_id": slack, "secret_conn_ids": connection_ids(source)}
