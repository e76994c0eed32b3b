"""
### Incremental backup: WAL, every few minutes

**What** Stores the write-ahead log of one source since the last run, so that it can be recovered to any point in time:
streams it from a slot, compresses, stores and verifies it, and only then lets the source remove it. Each run commits a
mark to recover to. Where physical replication is refused (hosted Supabase), it asks Supabase's own point-in-time
recovery between which times it can recover instead, and says that none of it is stored or proven here.

**When** As the policy's `incremental.schedule` says (every 15 minutes as shipped). A run that was missed loses nothing:
the next one stores what both would have.

**Needs** A role with `REPLICATION` (and, for complete segments, `EXECUTE` on `pg_switch_wal`), a line for `replication`
in `pg_hba.conf`, two free replication slots, `max_slot_wal_keep_size` as the policy's `max_slot_mib`; the connections
that the policy names, `BACKUP_STAGING_DIR`, and the DAG `base_backup` unpaused.

**Changes** Makes the slots `<source>_hold` and `<source>_run` on the source. Adds segments below
`incremental/<system identifier>/wal/` and one record a run below `incremental/runs/<source>/`.

**Run again** Never needed: the next run goes on, and nothing leaves the source before it is stored. A run that found
the chain broken (slot lost or dropped, another cluster, a failover, a gap) fails once, tells why, has begun a new chain
and asked `base_backup` for a base backup. `python -m include.backup wal SOURCE` shows what can be recovered.

**Undo** Remove `incremental` from the policy, then `python -m include.backup wal SOURCE --drop-slots`: a slot that
nobody reads keeps WAL until the source's disk is full, or the slot is lost.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import DAG, chain

from backup_operators.chain import messaging
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import NOTIFY_TIMEOUT, QUEUE_MARGIN, Tag, dag_arguments, make_dags, timetable
from backup_operators.incremental import (
    RequestBaseOperator,
    WalAdvanceOperator,
    WalCatchUpOperator,
    WalPreflightOperator,
    WalReceiveOperator,
    WalReportOperator,
    WalUploadOperator,
    WatchProviderOperator,
)
from backup_operators.incremental_notify import WalNotifyOperator
from backup_operators.notify import tell_of_ended_run
from include.backup.errors import PolicyError
from include.backup.policy import IncrementalPolicy, Schedule, SourcePolicy

SHORT = timedelta(minutes=5)
# The next run does the same work: a retry only spares an alarm for what a minute mends.
RETRY_DELAY = timedelta(minutes=1)
RETRY: dict[str, Any] = {"retries": 1, "retry_delay": RETRY_DELAY}


def has_incremental(source: SourcePolicy) -> bool:
    """Tell whether WAL of a source is to be stored."""
    return source.incremental is not None


def ended_wal_callback(source: SourcePolicy) -> Any:
    """Return the DAG's callback for runs that Airflow itself ends."""
    return partial(tell_of_ended_run, source=source.name, tier="incremental", **messaging(source))


def last_resort(policy: IncrementalPolicy) -> timedelta:
    """Return more than all tries of all tasks take together."""
    limits = policy.timeouts
    passes = limits.receive + limits.upload + limits.advance
    return 2 * (limits.preflight + 2 * passes + 4 * SHORT + 8 * RETRY_DELAY) + QUEUE_MARGIN


def incremental_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    policy = source.incremental
    if policy is None:
        raise PolicyError(f"{source.name} has no incremental block in the policy")
    limits = policy.timeouts
    step: dict[str, Any] = {"source": source.name, **RETRY}
    with DAG(
        **dag_arguments(source, "incremental_backup"),
        description=f"WAL of {source.name}, for recovery to any point in time",
        doc_md=__doc__,
        schedule=timetable(None if policy.cron is None else Schedule(cron=policy.cron, timezone="UTC")),
        dagrun_timeout=last_resort(policy),
        on_failure_callback=ended_wal_callback(source),
        deadline=late_run_alert(source, "incremental", policy.deadline),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        preflight = WalPreflightOperator(task_id="preflight", execution_timeout=limits.preflight, **step)
        base = RequestBaseOperator(task_id="request_base", execution_timeout=SHORT, **step)
        receive = WalReceiveOperator(task_id="receive", execution_timeout=limits.receive + SHORT, **step)
        upload = WalUploadOperator(task_id="upload", execution_timeout=limits.upload, **step)
        advance = WalAdvanceOperator(task_id="advance", execution_timeout=limits.advance, **step)
        catch_up = WalCatchUpOperator(
            task_id="catch_up", execution_timeout=limits.receive + limits.upload + limits.advance, **step
        )
        report = WalReportOperator(task_id="report", execution_timeout=SHORT, **step)
        watch = WatchProviderOperator(task_id="watch_provider", execution_timeout=SHORT, **step)
        notify = WalNotifyOperator(
            task_id="notify", source=source.name, execution_timeout=NOTIFY_TIMEOUT, **RETRY, **messaging(source)
        ).as_teardown()
        chain(preflight, receive, upload, advance, catch_up, report, notify)
        chain(preflight, base, notify)
        chain(preflight, watch, notify)
    return dag


make_dags(incremental_backup, where=has_incremental)
