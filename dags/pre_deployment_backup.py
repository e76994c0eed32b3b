"""
### Backup before a deployment: safe to deploy, or not

**What** Takes a full backup of one source before a release goes out. The run succeeds once the backup is stored and
verified, and, with `wait_for_proof`, once it was restored and every row compared. It holds no lock on the source
then.

**When** Triggered by the deployment: `include/ci/pre_deployment_backup.sh`, or Trigger in the UI. `release` and
`git_sha` say what is about to be deployed; the manifest records both.

**Needs** The policy (`BACKUP_POLICY`), the connections that it names (source, store, Slack), the policy's pools, the
folders `BACKUP_STAGING_DIR` (shared by all workers of the chain) and `BACKUP_SCRATCH_DIR`. The DAG must not be paused:
a run that is triggered on a paused DAG waits for ever.

**Changes** Adds `<prefix>/<backup_id>.tar` and its manifest (and a proof) to the bucket. Never changes the source.

**Run again** Clear the task that failed, with what is downstream: it finds what was done. A failed `upload` goes on
with the dump in staging, for `keep_failed_hours` after the failure. For another release trigger a new run.

**Undo** Nothing to undo. `backup_cleanup` deletes what has expired.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from backup_operators.chain import ReleaseFields, backup_chain, ended_run_callback
from backup_operators.deadline import late_run_alert
from backup_operators.defaults import Tag, dag_arguments, dagrun_timeout, has_tier, make_dags
from include.backup.policy import SourcePolicy, TierPolicy

TIER = "pre_deployment"


def parameters(tier: TierPolicy) -> dict[str, Param]:
    """Return the form. ``$`` also matches before a last newline, hence what follows it."""
    return {
        "release": Param(
            type="string",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$(?!\n)",
            title="Release",
            description_md="What is about to be deployed, e.g. 2025.3.1: letters, digits, dots, underscores, + and -.",
        ),
        "git_sha": Param(
            type="string",
            pattern=r"^[0-9a-f]{7,40}$(?!\n)",
            title="Git commit",
            description_md="The commit of the release, 7 to 40 of its digits (0-9, a-f).",
        ),
        "wait_for_proof": Param(
            tier.prove == "in_chain",
            type="boolean",
            title="Wait for the proof",
            description_md="Restore the backup and compare every row before this run succeeds.",
        ),
    }


def pre_deployment_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    tier = source.tier(TIER)
    with DAG(
        **dag_arguments(source, "pre_deployment_backup"),
        description=f"Full backup of {source.name} before a deployment, kept {tier.keep}",
        doc_md=__doc__,
        schedule=None,
        dagrun_timeout=dagrun_timeout(source, tier),
        on_failure_callback=ended_run_callback(source, tier),
        deadline=late_run_alert(source, tier.name, tier.deadline),
        params=parameters(tier),
        tags=[Tag.BACKUP, Tag.TRIGGERED],
    ) as dag:
        backup_chain(
            source,
            tier,
            prove="{{ params.wait_for_proof }}",
            release=ReleaseFields(release="{{ params.release }}", git_sha="{{ params.git_sha }}"),
        )
    return dag


make_dags(pre_deployment_backup, where=has_tier(TIER))
