"""
### Base backup: the cluster's files, from which its log goes on to any point in time

**What** Copies the files of the whole cluster with `pg_basebackup`, compressed by the server, and sends them to the
store while they are copied. A full one when the last is `full_every_days` old; on the days between, on PostgreSQL 17
and newer, what changed since the last one. The log that it needs is stored with it. Then it is unpacked into a
throw-away server, compared with PostgreSQL's own manifest, started, recovered, and every table, index and page read.

**When** As the policy's `base_backup.schedule` says (04:00 UTC as shipped), and at once when `incremental_backup`
finds the log broken: it triggers this DAG with `{"full": true, "reason": "…"}`.

**Needs** The policy's blocks `base_backup` and `incremental`, a role with REPLICATION, `wal_level` of `replica` or
`logical`, `summarize_wal` for incremental ones, the server's own major version of PostgreSQL on the worker, the
connections that the policy names, the policy's pools, `BACKUP_STAGING_DIR` and `BACKUP_SCRATCH_DIR`. A hosted Supabase
project refuses all this: preflight says so.

**Changes** Adds `incremental/<system identifier>/base/<backup_id>.tar`, its manifest and a proof to the bucket, and WAL
beside it. On the source: a checkpoint, and the slot that keeps its log until it is stored.

**Run again** Clear the task that failed, with what is downstream. A failed `upload` goes on with what is in staging.
A failed `restore_test` because of missing WAL: clear `store_wal`.

**Undo** Nothing to undo. `backup_cleanup` deletes what no recoverable point in time needs any more.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from backup_operators.base_chain import base_chain, base_dagrun_timeout, base_ended_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, make_dags, timetable
from include.backup.policy import Schedule, SourcePolicy


def parameters() -> dict[str, Param]:
    """Return the form; a scheduled run takes what is due."""
    return {
        "full": Param(
            False,
            type="boolean",
            title="Full",
            description_md="Take a full one now, whatever is due.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            maxLength=500,
            title="Reason",
            description_md="Who or what asks for it; goes into the log.",
        ),
    }


def base_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    policy = source.base_backup
    if policy is None:
        raise ValueError(f"{source.name} has no base_backup in its policy")
    schedule = None if policy.schedule is None else Schedule(cron=policy.schedule, timezone="UTC")
    with DAG(
        **dag_arguments(source, "base_backup"),
        description=f"Base backup of the cluster of {source.name}, kept {policy.keep}",
        doc_md=__doc__,
        schedule=timetable(schedule),
        dagrun_timeout=base_dagrun_timeout(source, policy),
        on_failure_callback=base_ended_callback(source),
        deadline=late_run_alert(source, "base", policy.deadline),
        params=parameters(),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        base_chain(source, policy)
    return dag


make_dags(base_backup, where=lambda source: source.base_backup is not None)
