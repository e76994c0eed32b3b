"""
### Weekly backup: everything, and the schema once more on its own

**What** Takes a full backup of one source and, right after it, a separate archive of the schema without rows, of
the kind `schema`. Both are stored encrypted, verified, restored into a throw-away server and compared: the full one
row by row, the schema archive object by object.

**When** As the policy's `tiers.weekly.schedule` says (Sundays 01:00 UTC as shipped). Runs that were missed are not
made up for; after an unpause the last one is.

**Needs** The policy (`BACKUP_POLICY`), the connections that it names (source, store, Slack), the policy's pools, the
folders `BACKUP_STAGING_DIR` (shared by all workers of the chain) and `BACKUP_SCRATCH_DIR`.

**Changes** Adds two archives, `<prefix>/<backup_id>.tar`, their manifests and a proof of each to the bucket. The two
ids differ in their kind alone. Never changes the source.

**Run again** Clear the task that failed, with what is downstream: it finds what was done. The two archives do not
wait for each other after their dumps: when one failed, the other is stored and proven all the same. An old run
without a backup refuses to start: trigger a new run. So does a backfill: a dump cannot read the past.

**Undo** Nothing to undo. `backup_cleanup` deletes what has expired.
"""

from __future__ import annotations

from airflow.sdk import DAG

from backup_operators.chain import BackupChain, ended_run_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, dagrun_timeout, has_tier, make_dags, timetable
from include.backup.policy import SourcePolicy

TIER = "weekly"
ARCHIVES = 2


def weekly_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    tier = source.tier(TIER)
    with DAG(
        **dag_arguments(source, "weekly_backup"),
        description=f"Full backup of {source.name} and its schema on its own, kept {tier.keep}",
        doc_md=__doc__,
        schedule=timetable(tier.schedule),
        dagrun_timeout=dagrun_timeout(source, tier) * ARCHIVES,
        on_failure_callback=ended_run_callback(source, tier),
        deadline=late_run_alert(source, tier.name, tier.deadline),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        backup = BackupChain(source, tier, prove=str(tier.prove == "in_chain"))
        backup.beside("schema")
        backup.end()
    return dag


make_dags(weekly_backup, where=has_tier(TIER))
