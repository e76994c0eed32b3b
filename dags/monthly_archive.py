"""
### Monthly archive: kept for a year, January's for seven

**What** Takes a full backup of one source, stores it in a class that can be read at once, restores it and compares
every row. The files of the policy's `attachments` buckets go into an archive of their own beside it (kind
`attachments`, the same run), as far as they changed since the last one, and are compared with `storage.objects` of
the dump: what is missing, extra or changed is in the manifest. That archive is read back too. Then both are copied, in
January, within the store to `yearly/`, and moved to the class in which they are kept (GLACIER as shipped). Nothing is
dumped twice, and nothing moves that is not proven.

**When** As the policy's `tiers.monthly.schedule` says (the first of the month, 04:00 UTC, as shipped). A slot that
was missed by more than a day is left out and Slack is told: trigger a run by hand if the archive is still wanted.

**Needs** The policy (`BACKUP_POLICY`) with the tiers monthly and, for January's copies, yearly; the connections that
it names (source, store, attachments, Slack); the policy's pools; the folders `BACKUP_STAGING_DIR` and
`BACKUP_SCRATCH_DIR`. The store's user may delete versions below `monthly/`, or old versions stay and are paid for.

**Changes** Adds up to two archives `monthly/<backup_id>.tar`, their manifests and their proofs, and in January the
same below `yearly/`. Only reads the buckets of files.
Changing the class makes a new version of the archive and deletes the one before it. Never changes the source.

**Run again** Clear the task that failed, with what is downstream: it finds what was done. A kill at any point leaves
a whole archive. The parameter `yearly` makes up for a missed January (`yes`), or leaves the copies out (`no`).

**Undo** Nothing to undo. What has moved to GLACIER or DEEP_ARCHIVE is thawed before it is read, which takes hours to
days, and is paid for at least 90 or 180 days.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from backup_operators.archives import ArchiveAttachmentsOperator, ChangeClassOperator, CopyYearlyOperator
from backup_operators.chain import BackupChain, ended_run_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, dagrun_timeout, has_tier, make_dags, timetable
from backup_operators.lateness import CHECK_LATENESS_TIMEOUT, CheckLatenessOperator
from include.backup.policy import SourcePolicy

TIER = "monthly"
AT_MOST_LATE = timedelta(days=1)
# The chain's own last resort counts no copies.
COPIES = 3


def parameters() -> dict[str, Param]:
    """Return the form."""
    return {
        "yearly": Param(
            "by month",
            type="string",
            enum=["by month", "yes", "no"],
            title="Copy to the yearly tier",
            description_md="**by month** copies in January; **yes** makes up for a January that was missed.",
        ),
    }


def monthly_archive(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    tier = source.tier(TIER)
    with DAG(
        **dag_arguments(source, "monthly_archive"),
        description=f"Archive of {source.name}, kept {tier.keep} in {tier.storage_class}",
        doc_md=__doc__,
        schedule=timetable(tier.schedule),
        dagrun_timeout=dagrun_timeout(source, tier) * COPIES,
        on_failure_callback=ended_run_callback(source, tier),
        deadline=late_run_alert(source, tier.name, tier.deadline),
        params=parameters(),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        backup = BackupChain(source, tier, prove=str(tier.prove == "in_chain"))
        backup.begin_with(
            CheckLatenessOperator(
                task_id="check_lateness", execution_timeout=CHECK_LATENESS_TIMEOUT, at_most=AT_MOST_LATE
            )
        )
        upload = tier.timeouts.upload
        if source.attachments is not None:
            backup.attachments(
                backup.step(
                    ArchiveAttachmentsOperator,
                    "archive_attachments",
                    upload,
                    kind="attachments",
                    yearly="{{ params.yearly }}",
                )
            )
        backup.before_close(
            backup.step(CopyYearlyOperator, "copy_yearly", upload, yearly="{{ params.yearly }}"),
            backup.step(ChangeClassOperator, "change_class", upload),
        )
        backup.end()
    return dag


make_dags(monthly_archive, where=has_tier(TIER))
