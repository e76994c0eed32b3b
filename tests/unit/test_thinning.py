"""Thinning: one a day of what is old, and never less, however often it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.retention import Dated, Thinning, thinned_out

START = datetime(2026, 5, 1, tzinfo=UTC)
THINNING = Thinning(after=timedelta(hours=48))


def hours(count: int, *, unproven: Iterable[int] = ()) -> list[Dated]:
    return [
        Dated(backup_id=f"h{n:03}", snapshot_time=START + timedelta(hours=n), proven=n not in set(unproven))
        for n in range(count)
    ]


def given_up(backups: list[Dated], hour: float) -> list[str]:
    return sorted(thinned_out(backups, THINNING, now=START + timedelta(hours=hour)))


def test_every_hour_is_kept_for_48_hours() -> None:
    assert given_up(hours(49), 48) == []
    assert given_up(hours(49), 50.5) == ["h001", "h002"]


def test_later_one_a_day_is_left() -> None:
    backups = hours(24 * 5)
    left = {backup.backup_id for backup in backups} - set(given_up(backups, 24 * 30))
    assert sorted(left) == ["h000", "h024", "h048", "h072", "h096"]


def test_the_one_that_stays_is_a_proven_one() -> None:
    backups = hours(24, unproven=(0, 1))
    assert given_up(backups, 24 * 30) == [f"h{n:03}" for n in range(24) if n != 2]
    nothing_proven = hours(24, unproven=range(24))
    assert "h000" not in given_up(nothing_proven, 24 * 30)


@pytest.mark.parametrize("unproven", [(), (0,), range(24), range(10, 60)])
def test_what_was_kept_of_an_old_day_is_never_given_up_later_and_every_day_keeps_one(unproven: Iterable[int]) -> None:
    backups = hours(24 * 4, unproven=unproven)
    present = list(backups)
    for hour in range(24 * 8):
        gone = set(given_up([item for item in present if item.snapshot_time <= START + timedelta(hours=hour)], hour))
        present = [item for item in present if item.backup_id not in gone]
        days = {item.snapshot_time.date() for item in present}
        assert days == {item.snapshot_time.date() for item in backups}
    assert len(present) == 4


def test_a_day_is_utcs_whatever_zone_a_time_was_written_in() -> None:
    zone = datetime.fromisoformat("2026-05-02T01:00:00+02:00")
    late = Dated(backup_id="late", snapshot_time=zone, proven=True)
    early = Dated(backup_id="early", snapshot_time=START + timedelta(hours=3), proven=True)
    assert thinned_out([late, early], THINNING, now=START + timedelta(days=9)) == {"late"}
