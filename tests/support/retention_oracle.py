"""A second opinion on retention: the rules read one by one, by brute force, sharing no code with the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from include.backup.retention.plan import Candidate, Guards

# How long each tier of the tests is kept at most and at least, in days: months and years differ in length.
DAYS: Mapping[str, tuple[int, int]] = {
    "daily": (7, 7),
    "weekly": (28, 28),
    "monthly": (365, 366),
    "yearly": (7 * 365 + 1, 7 * 365 + 2),
    "pre_deployment": (30, 30),
    "hourly": (9, 9),
}


def may_go(backups: Iterable[Candidate], guards: Guards, *, now: datetime) -> tuple[set[str], set[str]]:
    """Return the ids that must be gone, and those of which the calendar decides (a day more or less)."""
    everything = list(backups)
    certain = {one.backup_id for one in everything if _goes(one, everything, guards, now, sure=True)}
    possible = {one.backup_id for one in everything if _goes(one, everything, guards, now, sure=False)}
    return _unneeded(certain, everything), _unneeded(possible, everything)


def _goes(one: Candidate, everything: list[Candidate], guards: Guards, now: datetime, *, sure: bool) -> bool:
    if one.unknown is not None or one.tier not in DAYS:
        return False
    for kept in (guards.held, guards.in_use, guards.locked):
        if one.backup_id in kept:
            return False
    alike = [other for other in everything if other.tier == one.tier and other.kind == one.kind and not other.unknown]
    if not any(other.proven and other.snapshot_time > one.snapshot_time for other in alike):
        return False
    age = now - one.snapshot_time
    least, most = DAYS[one.tier]
    if age >= timedelta(days=most if sure else least):
        return True
    return one.tier == "hourly" and age > timedelta(hours=48) and not _first_of_its_day(one, alike)


def _first_of_its_day(one: Candidate, alike: list[Candidate]) -> bool:
    day = [other for other in alike if other.snapshot_time.date() == one.snapshot_time.date()]
    proven = [other for other in day if other.proven]
    return min(proven or day, key=lambda other: (other.snapshot_time, other.backup_id)).backup_id == one.backup_id


def _unneeded(going: set[str], everything: list[Candidate]) -> set[str]:
    """Take back, again and again, whatever something that stays needs."""
    left = set(going)
    while True:
        needed = {need for one in everything if one.backup_id not in left for need in one.needs}
        if not needed & left:
            return left
        left -= needed
