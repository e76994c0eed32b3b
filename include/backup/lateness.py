"""Whether a run is so late that what it was due to do should not be done any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

SCHEDULED = "scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How late a run is; ``too_late`` is never true of a run that a person or another DAG started."""

    too_late: bool
    by: timedelta

    def line(self, *, due: datetime, at_most: timedelta) -> str:
        """Return what a log and a message say of a run that does nothing."""
        return (
            f"due at {due:%Y-%m-%d %H:%M} UTC and {_spoken(self.by)} late, more than the {_spoken(at_most)} that are "
            "allowed: nothing is done. Trigger a new run if it is still wanted"
        )


def lateness(*, run_type: str, run_after: datetime, now: datetime, at_most: timedelta) -> Lateness:
    """Return how late a run is.

    Airflow starts the last missed slot as soon as a DAG is unpaused: an archive dated the first of a month would
    hold the data of the 22nd, and a cleanup or a drill would start at an hour that nobody chose.

    >>> from datetime import UTC
    >>> due, now = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 22, tzinfo=UTC)
    >>> lateness(run_type="scheduled", run_after=due, now=now, at_most=timedelta(hours=12)).too_late
    True
    >>> lateness(run_type="manual", run_after=due, now=now, at_most=timedelta(hours=12)).too_late
    False
    """
    by = max(now - run_after, timedelta())
    return Lateness(too_late=run_type == SCHEDULED and by > at_most, by=by)


def _spoken(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
