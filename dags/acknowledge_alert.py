"""
### Acknowledge: say that you know of an alert, so that it is not sent again meanwhile

**What** Records that the person who triggers it knows of one open alert of the source, what they do about it, and until
when it may wait. It is not sent again before that time unless it gets worse; that it is resolved is told all the same.

**When** Triggered by a person who read of an alert in Slack or in the log of `backup_health`.

**Needs** The policy (`BACKUP_POLICY`), the connections of the source's store and Slack.

**Changes** Adds one small object below `health/<source>/acknowledged/` and a record to the evidence: who, why, until
when. Neither is ever changed. The next `backup_health` sees it.

**Run again** Clear the task: it finds what was said. An id that is none, or that fits several alerts, is refused; the
message lists those that are open.

**Undo** Acknowledge it again with another time, which then counts: a minute from now makes it due with the next look.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from backup_operators.alerts import AcknowledgeAlertOperator
from backup_operators.defaults import Tag, dag_arguments, make_dags
from include.backup.policy import SourcePolicy

TIMEOUT = timedelta(minutes=10)
PARAMETERS = {
    "alert": Param(
        type="string",
        minLength=1,
        maxLength=500,
        title="Alert",
        description_md="Its id as Slack and the log of backup_health show it, or its name, e.g. late:daily.",
    ),
    "note": Param(
        type="string",
        minLength=2,
        maxLength=500,
        title="Why it may wait",
        description_md="What you do about it. It goes into the evidence; write no personal data.",
    ),
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="Until",
        description_md="When it is sent again if it still holds. Empty: not before it gets worse.",
    ),
}


def acknowledge_alert(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    with DAG(
        **dag_arguments(source, "acknowledge_alert"),
        description=f"Say that you know of an alert of {source.name}, and until when it may wait",
        doc_md=__doc__,
        schedule=None,
        params=PARAMETERS,
        tags=[Tag.HEALTH, Tag.TRIGGERED],
    ) as dag:
        AcknowledgeAlertOperator(
            task_id="acknowledge",
            source=source.name,
            alert="{{ params.alert }}",
            note="{{ params.note }}",
            until="{{ params.until or '' }}",
            execution_timeout=TIMEOUT,
        )
    return dag


make_dags(acknowledge_alert, where=lambda source: True)
