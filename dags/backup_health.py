"""
### Health: is every source protected as its policy says, and who is told when not

**What** For each source: are its backups there, in time, of a usual size, proven, with the rows of before; how much WAL
would be lost now, is there a gap; is the store's budget for archives filling up, or a hosted project's disk (of another
source's disk nothing is known here); are its DAGs paused, stale or broken, tasks stuck, Airflow's components alive; do
Supabase and Slack answer; are there three copies. What is wrong becomes an alert: told once, again after a day unless
somebody has acknowledged it, and told when it is over. At the end the log of `report_fleet` has all sources in one
table: protected as the policy says, or why not.

**When** Hourly, at minute 25: between the runs that it looks at.

**Needs** The policy (`BACKUP_POLICY`), the connections of each source (database, store, Slack, Supabase), and the
policy's `health.airflow_connection`, a user of Airflow that may read.

**Changes** Writes the open alerts, how full disks are and a heartbeat to `health/<source>/`; to the evidence each
alert's begin and end, and what has changed in the policy since it was last on record. On another machine
`python -m include.backup watch SOURCE --slack` by cron alarms when the heartbeat is old: nothing inside Airflow can
tell that Airflow is dead. With `health.ping` in the policy each good look also sends a request to a service outside,
which alarms when none comes.

**Run again** Clear a source's task, or trigger a new run: it looks anew. A task fails when it could not look, when
nobody could be told, or when its source is left out of the policy and no other is there to tell of that.

**Undo** Nothing to undo. Acknowledge an alert with the DAG `acknowledge_alert` or
`python -m include.backup alerts acknowledge SOURCE ALERT --note WHY`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, chain

from backup_operators.audit import ReportFleetOperator
from backup_operators.defaults import Tag
from backup_operators.fleet import MAP_INDEX, fleet_arguments, sources_to_look_at
from backup_operators.health import HealthOperator

TIMEOUT = timedelta(minutes=20)
FLEET_TIMEOUT = timedelta(minutes=10)

with DAG(
    **fleet_arguments("backup_health"),
    description="Looks whether every source is protected as its policy says, and tells people when not",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("25 * * * *", timezone="UTC"),
    tags=[Tag.HEALTH, Tag.SCHEDULED],
):
    look = HealthOperator.partial(
        task_id="look_at_health",
        execution_timeout=TIMEOUT,
        max_active_tis_per_dagrun=4,
        map_index_template=MAP_INDEX,
    ).expand(source=sources_to_look_at())
    fleet = ReportFleetOperator(task_id="report_fleet", execution_timeout=FLEET_TIMEOUT)
    # A teardown: it runs whatever the looks found, and makes no red run green.
    chain(look, fleet.as_teardown())
