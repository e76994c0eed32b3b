"""The month that a report is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from include.backup.errors import ParameterError

_TEXT = re.compile(r"(?P<year>2[0-9]{3})-(?P<month>0[1-9]|1[0-2])")
MONTHS_IN_YEAR = 12


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Month:
    """A month of the calendar, in UTC."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02}"

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read a month; raises ParameterError.

        >>> str(Month.parse("2026-05"))
        '2026-05'
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ParameterError(f"{text!r} is no month; write e.g. 2026-05")
        return cls(year=int(match["year"]), month=int(match["month"]))

    @classmethod
    def of(cls, moment: datetime) -> Month:
        """Return the month in which a moment lies."""
        moment = moment.astimezone(UTC)
        return cls(year=moment.year, month=moment.month)

    def plus(self, months: int) -> Month:
        """Return the month that lies so many later, or earlier.

        >>> str(Month.parse("2026-01").plus(-1))
        '2025-12'
        """
        year, month = divmod(self.year * MONTHS_IN_YEAR + self.month - 1 + months, MONTHS_IN_YEAR)
        return Month(year=year, month=month + 1)

    @property
    def begin(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment that is not in it any more."""
        return self.plus(1).begin


def month_to_report(text: str | None, *, now: datetime) -> Month:
    """Return the month that a person names, or the last one that is over; raises ParameterError for a later one."""
    if not text:
        return Month.of(now).plus(-1)
    found = Month.parse(text)
    if found > Month.of(now):
        raise ParameterError(f"{found} has not begun yet; name an earlier month")
    return found
