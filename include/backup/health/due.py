"""When a backup was due last."""

from __future__ import annotations

from datetime import UTC, datetime

from croniter import croniter

from include.backup.policy import Schedule


def last_due(schedule: Schedule, now: datetime) -> datetime:
    """Return the newest time not after ``now`` at which the schedule is due.

    >>> last_due(Schedule(cron="0 2 * * *", timezone="UTC"), datetime(2025, 1, 19, 2, 0, tzinfo=UTC)).isoformat()
    '2025-01-19T02:00:00+00:00'
    >>> last_due(Schedule(cron="0 2 * * *", timezone="UTC"), datetime(2025, 1, 19, 1, 59, tzinfo=UTC)).isoformat()
    '2025-01-18T02:00:00+00:00'
    """
    # The search begins a second later: croniter looks for what lies strictly before.
    found: datetime = croniter(schedule.cron, now.timestamp() + 1).get_prev(datetime)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def due_before(schedule: Schedule, due: datetime) -> datetime:
    """Return the time at which the schedule was due before ``due``."""
    found: datetime = croniter(schedule.cron, due.timestamp()).get_prev(datetime)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
