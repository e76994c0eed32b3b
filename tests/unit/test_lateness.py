"""How late a run may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.backup.lateness import lateness

DUE = datetime(2026, 10, 1, 3, 0, tzinfo=UTC)
LIMIT = timedelta(hours=24)


@pytest.mark.parametrize(
    ("run_type", "late", "too_late"),
    [
        ("scheduled", timedelta(), False),
        ("scheduled", LIMIT, False),
        ("scheduled", LIMIT + timedelta(seconds=1), True),
        ("scheduled", timedelta(days=52), True),
        ("manual", timedelta(days=52), False),
        ("asset_triggered", timedelta(days=52), False),
        ("backfill", timedelta(days=52), False),
    ],
)
def test_only_a_scheduled_run_can_be_too_late(run_type: str, late: timedelta, too_late: bool) -> None:
    found = lateness(run_type=run_type, run_after=DUE, now=DUE + late, at_most=LIMIT)
    assert (found.too_late, found.by) == (too_late, late)


def test_a_clock_that_is_behind_makes_nothing_late() -> None:
    found = lateness(run_type="scheduled", run_after=DUE, now=DUE - timedelta(minutes=1), at_most=LIMIT)
    assert (found.too_late, found.by) == (False, timedelta())


def test_the_line_says_when_it_was_due_how_late_it_is_and_what_to_do() -> None:
    found = lateness(run_type="scheduled", run_after=DUE, now=DUE + timedelta(days=21), at_most=LIMIT)
    line = found.line(due=DUE, at_most=LIMIT)
    assert line.startswith("due at 2026-10-01 03:00 UTC and 21.0 days late, more than the 24.0 hours")
    assert line.endswith("Trigger a new run if it is still wanted")
