"""
### Audit: what a month shows of every source's backups, and what it does not

**What** For each source: restores the newest backup into a throw-away server and compares every row, then writes the
report of the month. Backups by tier against the policy; each with size, proof, encryption, lock, class and the reason
for which it is kept; storage, its cost and trend; restores, who asked and who approved; how much could have been lost
and how long restores took, against the objectives; alerts and how long they took; access and keys; the controls of
SOC 2, ISO 27001 and HIPAA with the evidence for each, or "not shown"; and which source of the fleet is not protected.

**When** The 1st of the month, 08:00 UTC, for the month that is over. A run by hand may name another `month`: what lies
in the store is reported as it is now.

**Needs** The policy (`BACKUP_POLICY`; objectives and prices are in its `audit` block), the connections of each source's
store and Slack, the scratch pool, the folder `BACKUP_SCRATCH_DIR`.

**Changes** Writes the report as JSON and as a page without script or network to `audit/<source>/report/<month>/`, and
its hashes to the evidence; a proof of the newest backup. Never overwrites a report and never changes a backup.

**Run again** Clear a source's `write_report` for a new report beside the old one. It is red when the restore test of
its run has not passed, and the report is kept all the same.

**Undo** Nothing to undo. `python -m include.backup audit SOURCE --month YYYY-MM --output audit.html` makes the same
without Airflow.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, TriggerRule, chain

from backup_operators.audit import AuditOperator, ProveNewestOperator
from backup_operators.chain import LEASE_MARGIN
from backup_operators.defaults import SCRATCH_TIMEOUT, Tag
from backup_operators.fleet import MAP_INDEX, fleet_arguments, scratch_pool, source_names
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator

TEST_TIMEOUT = timedelta(hours=8)
REPORT_TIMEOUT = timedelta(hours=1)
LEASE = TEST_TIMEOUT + LEASE_MARGIN
MONTH = Param(
    "",
    type="string",
    pattern="^(2[0-9]{3}-(0[1-9]|1[0-2]))?$",
    title="Month",
    description_md="The month to report on, YYYY-MM. Empty: the last one that is over.",
)

with DAG(
    **fleet_arguments("backup_audit"),
    description="Restores the newest backup of every source, and reports on the month as an auditor asks",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 8 1 * *", timezone="UTC"),
    params={"month": MONTH},
    tags=[Tag.AUDIT, Tag.SCHEDULED],
):
    prepare = PrepareScratchOperator(
        task_id="prepare_scratch", execution_timeout=SCRATCH_TIMEOUT, prove="True", lease=LEASE
    )
    prove = ProveNewestOperator.partial(
        task_id="prove_newest",
        execution_timeout=TEST_TIMEOUT,
        pool=scratch_pool(),
        max_active_tis_per_dagrun=1,
        map_index_template=MAP_INDEX,
    ).expand(source=source_names())
    # The report is written whatever the test says, and is red itself when that has not passed.
    report = AuditOperator.partial(
        task_id="write_report",
        month="{{ params.month }}",
        execution_timeout=REPORT_TIMEOUT,
        trigger_rule=TriggerRule.ALL_DONE,
        max_active_tis_per_dagrun=2,
        map_index_template=MAP_INDEX,
    ).expand(source=source_names())
    remove = RemoveScratchOperator(task_id="remove_scratch", execution_timeout=SCRATCH_TIMEOUT, lease=LEASE)
    chain(prepare, prove, [report, remove.as_teardown(setups=prepare)])
