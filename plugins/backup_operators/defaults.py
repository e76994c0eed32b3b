"""What all DAGs share: owner, tags, start, pools, retries and timeouts."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.sdk import CronTriggerTimetable, get_parsing_context

from include.backup.policy import Schedule, SourcePolicy, TierPolicy, load_policy, policy_path
from include.backup.policy.scheduling import work_of

if TYPE_CHECKING:
    from airflow.sdk import DAG

log = logging.getLogger(__name__)

OWNER = "backup"
START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
SCRATCH_TIMEOUT = timedelta(minutes=10)
NOTIFY_TIMEOUT = timedelta(minutes=5)
COPIES_TIMEOUT = timedelta(minutes=10)
QUEUE_MARGIN = timedelta(hours=6)


class Tag(StrEnum):
    """Tags of DAGs; the first of a DAG is its area."""

    BACKUP = "backup"
    PROOF = "proof"
    RETENTION = "retention"
    HEALTH = "health"
    AUDIT = "audit"
    SCHEDULED = "scheduled"
    TRIGGERED = "triggered"
    RESTORE = "restore"


def dag_arguments(source: SourcePolicy, dag_name: str) -> dict[str, Any]:
    """Return the arguments that all DAGs of a source share, so that none is left to Airflow's defaults."""
    return {
        "dag_id": dag_id(source.name, dag_name),
        "start_date": START_DATE,
        "catchup": False,
        "max_active_runs": 1,
        "max_consecutive_failed_dag_runs": 0,
        "is_paused_upon_creation": True,
        "default_args": default_args(source, dag_name),
    }


def timetable(schedule: Schedule | None) -> CronTriggerTimetable | None:
    """Return when a DAG is due; None for one that is only triggered."""
    return None if schedule is None else CronTriggerTimetable(schedule.cron, timezone=schedule.timezone)


def default_args(source: SourcePolicy, dag_name: str) -> dict[str, Any]:
    """Return the arguments that all tasks of a source's DAG share."""
    work = work_of(dag_name)
    queue = source.scheduling.queue_of(work)
    return {
        "owner": OWNER,
        "depends_on_past": False,
        "retries": source.retries,
        "retry_delay": timedelta(seconds=source.retry_delay_seconds),
        "pool": source.scheduling.pool(work),
        "priority_weight": source.scheduling.priorities[work],
        # Not the sum of what comes after: a long DAG is no more urgent than a short one.
        "weight_rule": "absolute",
        **({} if queue is None else {"queue": queue}),
    }


def dagrun_timeout(source: SourcePolicy, tier: TierPolicy) -> timedelta:
    """Return the last resort: longer than all tries of all tasks and the waits between them.

    A run that this ends skips its teardowns, and nobody gets ``notify``'s message.
    """
    others = [SCRATCH_TIMEOUT, SCRATCH_TIMEOUT, COPIES_TIMEOUT, NOTIFY_TIMEOUT]
    return last_resort(source, [*astuple(tier.timeouts), *others])


def last_resort(source: SourcePolicy, timeouts: Sequence[timedelta]) -> timedelta:
    """Return what is longer than all tries of tasks with these timeouts, and the waits between them."""
    waits = timedelta(seconds=source.retry_delay_seconds) * source.retries * len(timeouts)
    return sum(timeouts, timedelta()) * (source.retries + 1) + waits + QUEUE_MARGIN


def make_dags(make: Callable[[SourcePolicy], DAG], *, where: Callable[[SourcePolicy], bool]) -> None:
    """Make a DAG for each source of the policy that ``where`` is true of; ``make`` has the DAG's name.

    A source that is not acceptable is left out, and hides no other. A process that needs one DAG makes only that.
    """
    wanted = get_parsing_context().dag_id
    own = wanted.partition(".")[0] if wanted and "." in wanted else None
    policy = load_policy(policy_path(os.environ), only=own)
    for rejected in policy.rejected.values():
        log.error("a source is left out: %s", rejected)
    for source in policy.sources.values():
        if where(source) and wanted in (None, dag_id(source.name, make.__name__)):
            make(source)


def has_tier(name: str) -> Callable[[SourcePolicy], bool]:
    """Return whether a source has a tier, as ``make_dags`` asks."""
    return lambda source: name in source.tiers


def dag_id(source: str, dag_name: str) -> str:
    """Return the id of a source's DAG."""
    return f"{source}.{dag_name}"
