"""How long a backup is kept, and how long the backup strategy says it must be kept at least."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType

_TEXT = re.compile(r"(?P<amount>[1-9]\d{0,3}) (?P<unit>day|week|month|year)s?")
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}
MONTHS_IN_YEAR = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A time such as 7 days or 12 months; months and years follow the calendar."""

    amount: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Retention | None:
        """Return the time, or None unless it is a number and days, weeks, months or years.

        >>> Retention.parse("4 weeks")
        Retention(amount=4, unit='week')
        >>> Retention.parse("90 minutes")
        """
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(amount=int(match["amount"]), unit=match["unit"])

    def __str__(self) -> str:
        return f"{self.amount} {self.unit}" + ("s" if self.amount != 1 else "")

    def after(self, moment: datetime) -> datetime:
        """Return when this time ends that begins at ``moment``; a day that a month lacks is its last.

        >>> Retention.parse("1 month").after(datetime(2025, 1, 31, 2))
        datetime.datetime(2025, 2, 28, 2, 0)
        """
        if self.unit in _DAYS:
            return moment + timedelta(days=self.amount * _DAYS[self.unit])
        year, month = divmod(moment.year * MONTHS_IN_YEAR + moment.month - 1 + self._months(), MONTHS_IN_YEAR)
        return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))

    def is_shorter_than(self, other: Retention) -> bool:
        """Say whether this time can end before the other.

        >>> Retention.parse("1 month").is_shorter_than(Retention.parse("30 days"))
        True
        >>> Retention.parse("1 year").is_shorter_than(Retention.parse("12 months"))
        False
        """
        if self.unit in _MONTHS and other.unit in _MONTHS:
            return self._months() < other._months()
        return self._days()[0] < other._days()[1]

    def _months(self) -> int:
        return self.amount * _MONTHS[self.unit]

    def _days(self) -> tuple[int, int]:
        """Return the fewest and the most days that this can be."""
        if self.unit in _DAYS:
            return (self.amount * _DAYS[self.unit],) * 2
        spans = [_span(first, self._months()) for first in range(2 * MONTHS_IN_YEAR * 4)]
        return min(spans), max(spans)


def _span(first: int, months: int) -> int:
    return (_month(first + months) - _month(first)).days


def _month(number: int) -> date:
    return date(2000 + number // MONTHS_IN_YEAR, number % MONTHS_IN_YEAR + 1, 1)


# From the backup strategy's retention table; pre_deployment from its section of that name.
STRATEGY_MINIMUM: Mapping[str, Retention] = MappingProxyType(
    {
        "daily": Retention(amount=7, unit="day"),
        "weekly": Retention(amount=4, unit="week"),
        "monthly": Retention(amount=12, unit="month"),
        "yearly": Retention(amount=7, unit="year"),
        "pre_deployment": Retention(amount=30, unit="day"),
        "hourly": Retention(amount=7, unit="day"),
    }
)
