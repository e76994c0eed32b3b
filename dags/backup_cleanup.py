"""
### Cleanup: delete what has expired, and say why the rest is kept

**What** For each source of the policy: lists what the store holds, decides about each backup, and deletes what has
expired, with its evidence written first. Floors beat policy: the newest proven backup of a tier, what is on hold,
being read, under Object Lock or needed by something that is kept stays, and so does every expired backup while no
newer one is proven. Archives without manifest and unfinished uploads go after a grace; so do staging folders of dead
runs and scratch servers whose holder is dead, on this worker's disks (on those of another queue's workers they go with
the next `preflight` and `prepare_scratch` there), and proofs whose time is over. WAL goes that no kept base backup
needs, and that of a cluster that the source has left once its base backups are gone and its last is older than
`base_backup.keep`. An archive that was a backup, as its evidence or a proof says, and has lost its manifest stays: the
task is red until the manifest is back (remove its delete marker), or somebody deletes the archive too. Databases that
restores have kept beside others, and the copies that they took first (`safety/`), go after the policy's
`restore.keep_old_days`, and not before a full backup of later is proven. Only databases that a restore has recorded
itself are dropped, by name and oid, on servers of the policy, and never one with a session, a slot or a subscription; a
hold on the safety copy keeps the database too.

**When** 05:30 UTC daily. A missed slot that starts more than six hours late does nothing.

**Needs** The policy (`BACKUP_POLICY`), the connections of each source's store and Slack. The store's role needs
`s3:DeleteObject`, `s3:DeleteObjectVersion`, `s3:ListBucketVersions`; without the second a delete marker hides an
object and its bytes stay until a lifecycle rule removes them, which the message says. Dropping a kept database needs
`restore.source_connection`, or the connection of its server; a database that cannot be looked at makes the task red.

**Changes** Scheduled runs delete. A run that a person starts only shows what would go, unless `delete` is set. What was
decided and done is kept in `audit/<source>/cleanup/`.

**Run again** Clear a source's task, or trigger a new run: it decides anew, and finishes what was left half done.

**Undo** Deleted versions and dropped databases cannot be brought back. What is only hidden can: remove its delete
marker. Hold a backup before it expires with `backup_hold` or
`python -m include.backup hold add SOURCE BACKUP_ID --reason WHY`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, chain

from backup_operators.cleanup import CleanupOperator
from backup_operators.defaults import Tag
from backup_operators.fleet import MAP_INDEX, fleet_arguments, source_names
from backup_operators.lateness import CHECK_LATENESS_TIMEOUT, CheckLatenessOperator

AT_MOST = timedelta(hours=6)
TIMEOUT = timedelta(hours=4)
DELETE = Param(
    False,
    type="boolean",
    title="Delete",
    description_md="Delete what has expired. Without it this run only shows what would be deleted, and why.",
)

with DAG(
    **fleet_arguments("backup_cleanup"),
    description="Deletes what has expired, and says why the rest is kept",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 5 * * *", timezone="UTC"),
    params={"delete": DELETE},
    tags=[Tag.RETENTION, Tag.SCHEDULED],
):
    chain(
        CheckLatenessOperator(task_id="check_lateness", at_most=AT_MOST, execution_timeout=CHECK_LATENESS_TIMEOUT),
        CleanupOperator.partial(
            task_id="clean_up",
            delete="{{ params.delete }}",
            execution_timeout=TIMEOUT,
            max_active_tis_per_dagrun=2,
            map_index_template=MAP_INDEX,
        ).expand(source=source_names()),
    )
