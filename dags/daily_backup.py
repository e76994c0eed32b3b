"""
### Daily backup: from source to proof

**What** Takes a full backup of one source, stores it encrypted, compares what the store says of it with its
manifest, restores it into a throw-away server and compares every row with what the dump read. At the end, also of a
run that failed, `report_copies` asks Supabase whether its own daily backup is there and counts the copies (3-2-1).

**When** As the policy's `tiers.daily.schedule` says (02:00 UTC as shipped). Runs that were missed are not made up
for; after an unpause the last one is.

**Needs** The policy (`BACKUP_POLICY`), the connections that it names (source, store, Slack, Supabase), the policy's
pools, the folders `BACKUP_STAGING_DIR` (shared by all workers of the chain) and
`BACKUP_SCRATCH_DIR`.

**Changes** Adds `<prefix>/<backup_id>.tar`, its manifest and a proof to the bucket, and the report of copies below
`audit/<source>/copies/`. Never changes the source.

**Run again** Clear the task that failed, with what is downstream: it finds what was done. A failed `upload` goes on
with the dump in staging, for `keep_failed_hours` after the failure. A run that already stored its backup only
verifies it again. An old run without a backup refuses to start: trigger a new run. So does a backfill: a dump cannot
read the past.

**Undo** Nothing to undo. `backup_cleanup` deletes what has expired.
"""

from __future__ import annotations

from airflow.sdk import DAG

from backup_operators.chain import BackupChain, ended_run_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, dagrun_timeout, has_tier, make_dags, timetable
from include.backup.policy import SourcePolicy

TIER = "daily"


def daily_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    tier = source.tier(TIER)
    with DAG(
        **dag_arguments(source, "daily_backup"),
        description=f"Full backup of {source.name}, kept {tier.keep}",
        doc_md=__doc__,
        schedule=timetable(tier.schedule),
        dagrun_timeout=dagrun_timeout(source, tier),
        on_failure_callback=ended_run_callback(source, tier),
        deadline=late_run_alert(source, tier.name, tier.deadline),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        backup = BackupChain(source, tier, prove=str(tier.prove == "in_chain"))
        backup.report_copies()
        backup.end()
    return dag


make_dags(daily_backup, where=has_tier(TIER))
