"""How full disks and budgets were on earlier days, from which it is told how fast they fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# A look that begins some minutes earlier than the one of yesterday is a day later all the same.
A_DAY_APART = timedelta(hours=23)
DAYS_KEPT = 8
_SECONDS_PER_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How many bytes were used at a time, by the name of the disk."""

    at: datetime
    disks: Mapping[str, int]


def with_use(uses: Sequence[Use], use: Use) -> tuple[Use, ...]:
    """Return the uses of the last days with one more, unless the newest is of the same day."""
    if uses and use.at - uses[-1].at < A_DAY_APART:
        return tuple(uses)
    return (*uses, use)[-DAYS_KEPT:]


def grows_per_day(uses: Sequence[Use], name: str, used: int, *, now: datetime) -> float | None:
    """Return by how many bytes a disk has grown a day, less what was removed; None before it was known for a day."""
    earlier = [use for use in uses if name in use.disks and now - use.at >= A_DAY_APART]
    if not earlier:
        return None
    return (used - earlier[0].disks[name]) / (now - earlier[0].at).total_seconds() * _SECONDS_PER_DAY
