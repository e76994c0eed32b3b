"""
### Hold: keep one backup beyond its time, or let it go again

**What** Sets a hold on a backup, or releases one. While a hold is active, `backup_cleanup` keeps the backup and all
that it needs, whatever the policy says.

**When** Triggered by a person: for a court order, an audit, an investigation.

**Needs** The policy (`BACKUP_POLICY`), the connections of the source's store and Slack.

**Changes** Adds one small object below `holds/<source>/<backup_id>/` and a record to the evidence: who, why, until
when. Holds are never changed or removed; a release is a record of its own.

**Run again** Clear the task: it finds the hold that it has set.

**Undo** Trigger it with `release` and the hold's id, which `python -m include.backup hold list SOURCE` shows.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from backup_operators.cleanup import HoldOperator
from backup_operators.defaults import Tag, dag_arguments, make_dags
from include.backup.policy import SourcePolicy

TIMEOUT = timedelta(minutes=10)
PARAMETERS = {
    "action": Param("add", type="string", enum=["add", "release"], title="What to do"),
    "backup": Param(
        type="string",
        pattern=r"^[a-zA-Z0-9_-]{4,120}$(?!\n)",
        title="Backup, or hold",
        description_md="To add: a backup's id, or latest-proven. To release: the hold's id.",
    ),
    "reason": Param(
        type="string",
        minLength=5,
        maxLength=500,
        title="Why",
        description_md="For whom, and why. It goes into the evidence; write no personal data.",
    ),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Until",
        description_md="When the hold ends by itself. Empty: when somebody releases it.",
    ),
}


def backup_hold(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    with DAG(
        **dag_arguments(source, "backup_hold"),
        description=f"Keep a backup of {source.name} beyond its time, or let it go again",
        doc_md=__doc__,
        schedule=None,
        params=PARAMETERS,
        tags=[Tag.RETENTION, Tag.TRIGGERED],
    ) as dag:
        HoldOperator(
            task_id="change_hold",
            source=source.name,
            action="{{ params.action }}",
            backup="{{ params.backup }}",
            reason="{{ params.reason }}",
            until="{{ params.until or '' }}",
            execution_timeout=TIMEOUT,
        )
    return dag


make_dags(backup_hold, where=lambda source: True)
