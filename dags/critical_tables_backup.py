"""
### Critical tables: every hour, proven

**What** Takes the rows of the tables that the policy's `critical_tables` names, with those of their partitions and
children, in one snapshot, together with the whole schema (types, functions, sequences that they need). Stores and
verifies the archive, restores it into a throw-away server and compares every row. It is not a full backup: the
manifest, the archive's README and the proof say which tables it holds. What cannot be proven without the other
tables' rows, such as a foreign key to one of them, is named in the proof.

**When** As the policy's `tiers.hourly.schedule` says (minute 30 of every hour as shipped). Missed runs are not made
up for.

**Needs** The policy (`BACKUP_POLICY`), the connections that it names (source, store, Slack), the policy's pools, the
folders `BACKUP_STAGING_DIR` (shared by all workers of the chain) and `BACKUP_SCRATCH_DIR`.

**Changes** Adds `tables/<backup_id>.tar`, its manifest and a proof to the bucket. Never changes the source. While it
dumps, it holds the lock of readers on every table, so that an `ALTER TABLE` waits for it.

**Run again** Clear the task that failed, with what is downstream: it finds what was done. `CriticalTableMissingError`
means that a table was dropped or renamed: correct `critical_tables` in the policy, then trigger a new run.

**Undo** Nothing to undo. The policy keeps every hour for `thin.after`, then one backup a day until `keep` ends.
"""

from __future__ import annotations

from airflow.sdk import DAG

from backup_operators.chain import backup_chain, ended_run_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, dagrun_timeout, has_tier, make_dags, timetable
from include.backup.policy import SourcePolicy

TIER = "hourly"


def critical_tables_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    tier = source.tier(TIER)
    with DAG(
        **dag_arguments(source, "critical_tables_backup"),
        description=f"{len(source.critical_tables)} critical tables of {source.name}, kept {tier.keep}",
        doc_md=__doc__,
        schedule=timetable(tier.schedule),
        dagrun_timeout=dagrun_timeout(source, tier),
        on_failure_callback=ended_run_callback(source, tier),
        deadline=late_run_alert(source, tier.name, tier.deadline),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        backup_chain(source, tier, prove=str(tier.prove == "in_chain"))
    return dag


make_dags(critical_tables_backup, where=has_tier(TIER))
