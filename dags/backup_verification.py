"""
### Verification: what has no proof yet is proven, what was proven long ago is proven again

**What** Lists the backups of one source and restores every one that has no proof into a throw-away server, comparing
every row, base backups and attachments by their own means; of each tier also one whose proof is older than the policy's
`verification.reprove_tier_days`, so that all take their turn. Once a week the verifier itself is tested: it is given
damaged copies, and the run is red if it passes one. Of the stored log some segments are read back; it is red
when one is damaged or the newest WAL cannot be recovered. A gap behind the oldest base backup that a newer one has
mended is an alert of health, and in the task's log, for as long as that backup is kept.

**When** Woken by each new backup, and daily as the policy's `verification.schedule` says. The event only wakes it: the
work list is read from the store, so that an event that was lost loses nothing.

**Needs** The policy (`BACKUP_POLICY`), the connections of the source's store and Slack, the policy's pools, the folder
`BACKUP_SCRATCH_DIR`. With WAL in the policy also the source's connection.

**Changes** Adds proofs below `proofs/`, what it did below `audit/<source>/verification/`, and the results of the weekly
test below `control/<source>/`. Never changes a backup or the source. A backup that was proven is not read again before
it is due.

**Run again** Clear the task that failed: what was proven meanwhile is not proven again. A backup whose proof failed is
due again like the others; do not rely on it.

**Undo** Nothing to undo.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, chain

from backup_operators.chain import LEASE_MARGIN, backups_of
from backup_operators.defaults import SCRATCH_TIMEOUT, Tag, dag_arguments, make_dags
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator
from backup_operators.verification import CheckLogOperator, ControlVerifierOperator, VerifyBackupsOperator
from include.backup.errors import PolicyError
from include.backup.policy import SourcePolicy

LOG_TIMEOUT = timedelta(hours=1)


def backup_verification(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    policy = source.verification
    if policy is None:
        raise PolicyError(f"the policy has no verification for {source.name}")
    lease = policy.timeout + LEASE_MARGIN
    with DAG(
        **dag_arguments(source, "backup_verification"),
        description=f"Proves the backups of {source.name} that have no proof, and old ones again",
        doc_md=__doc__,
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(policy.cron, timezone="UTC"), assets=[backups_of(source.name)]
        ),
        tags=[Tag.PROOF, Tag.SCHEDULED],
    ) as dag:
        prepare = PrepareScratchOperator(
            task_id="prepare_scratch", execution_timeout=SCRATCH_TIMEOUT, prove="True", lease=lease
        )
        proof = VerifyBackupsOperator(
            task_id="verify_backups",
            source=source.name,
            execution_timeout=policy.timeout,
            pool=source.scheduling.scratch_pool,
        )
        control = ControlVerifierOperator(
            task_id="control_verifier",
            source=source.name,
            execution_timeout=policy.timeout,
            pool=source.scheduling.scratch_pool,
        )
        remove = RemoveScratchOperator(task_id="remove_scratch", execution_timeout=SCRATCH_TIMEOUT, lease=lease)
        chain(prepare, [proof, control], remove.as_teardown(setups=prepare))
        if source.incremental is not None:
            CheckLogOperator(task_id="check_log", source=source.name, execution_timeout=LOG_TIMEOUT)
    return dag


make_dags(backup_verification, where=lambda source: source.verification is not None)
