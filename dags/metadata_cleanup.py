"""
### Metadata: Airflow's database forgets old runs once the store remembers them

**What** Writes the runs that began longer ago than the policy's `metadata.keep_days`, with the state of each task and
who triggered them, to the store of the source that they are about; runs of the DAGs for all sources go to each. What
was written is read back and its hash recorded as evidence. Only when every source has kept its runs, `airflow db clean`
removes them, for the DAGs of this project and no others. Who did what in the UI (`log`) stays.

**When** Sundays 06:30 UTC. A missed slot that starts more than six hours late does nothing.

**Needs** The policy (`BACKUP_POLICY`) with a `metadata` block, the connection that it names (its password is the
SQLAlchemy URL of Airflow's database), each source's `health.airflow_connection`, store and Slack.

**Changes** Scheduled runs remove. A run that a person starts only shows what would go, unless `delete` is set. Adds
`audit/<source>/runs/…` and a record to the evidence. Task logs are not touched.

**Run again** Clear the task that failed: what is in the store already is found there.

**Undo** Removed runs cannot be brought back into Airflow; what they were is in the store.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, chain

from backup_operators.defaults import Tag
from backup_operators.fleet import MAP_INDEX, fleet_arguments, source_names
from backup_operators.lateness import CHECK_LATENESS_TIMEOUT, CheckLatenessOperator
from backup_operators.metadata import CleanMetadataOperator, KeepRunsOperator
from include.backup.policy import load_policy, policy_path

AT_MOST = timedelta(hours=6)
TIMEOUT = timedelta(hours=2)
DELETE = Param(
    False,
    type="boolean",
    title="Delete",
    description_md="Remove old runs. Without it this run only shows what would be removed.",
)

if load_policy(policy_path(os.environ)).metadata is not None:
    with DAG(
        **fleet_arguments("metadata_cleanup"),
        description="Keeps old runs as evidence, then removes them from Airflow's database",
        doc_md=__doc__,
        schedule=CronTriggerTimetable("30 6 * * 0", timezone="UTC"),
        params={"delete": DELETE},
        tags=[Tag.RETENTION, Tag.SCHEDULED],
    ):
        check = CheckLatenessOperator(
            task_id="check_lateness", at_most=AT_MOST, execution_timeout=CHECK_LATENESS_TIMEOUT
        )
        keep = KeepRunsOperator.partial(
            task_id="keep_runs",
            delete="{{ params.delete }}",
            execution_timeout=TIMEOUT,
            max_active_tis_per_dagrun=2,
            map_index_template=MAP_INDEX,
        ).expand(source=source_names())
        clean = CleanMetadataOperator(
            task_id="clean_metadata", kept=keep.output, delete="{{ params.delete }}", execution_timeout=TIMEOUT
        )
        chain(check, keep, clean)
