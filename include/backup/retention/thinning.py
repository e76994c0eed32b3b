"""Keep fewer of what is older: one backup a day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """Keep every backup of a tier for ``after``, and from then on one a day until its retention ends."""

    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """One backup as far as thinning asks: when its data was read, and whether a proof of it passed."""

    backup_id: str
    snapshot_time: datetime
    proven: bool


def thinned_out(backups: Iterable[Dated], thinning: Thinning, *, now: datetime) -> frozenset[str]:
    """Return the ids that thinning gives up.

    Of each UTC day the first proven backup stays, or else the first: as time goes on the choice never falls on
    another that was given up before. What is younger than ``after`` stays, and counts for its day.

    >>> day = datetime(2025, 1, 19, tzinfo=UTC)
    >>> hours = [Dated(backup_id=f"h{n}", snapshot_time=day + timedelta(hours=n), proven=n > 0) for n in range(4)]
    >>> sorted(thinned_out(hours, Thinning(after=timedelta(hours=48)), now=day + timedelta(hours=51)))
    ['h0', 'h2']
    """
    days: dict[date, list[Dated]] = {}
    for backup in backups:
        days.setdefault(backup.snapshot_time.astimezone(UTC).date(), []).append(backup)
    kept = {min(day, key=lambda item: (not item.proven, item.snapshot_time, item.backup_id)) for day in days.values()}
    return frozenset(
        backup.backup_id
        for day in days.values()
        for backup in day
        if backup not in kept and now - backup.snapshot_time > thinning.after
    )
