"""Cron expressions: refuse a wrong one where it is written, not where it is used."""

from __future__ import annotations

import re

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_PART = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>\d{1,2}))?")


def cron_problem(text: str) -> str | None:
    """Return what is wrong with a cron expression of five numeric fields, or None.

    >>> cron_problem("0 2 * * *")
    >>> cron_problem("60 2 * * *")
    'the minute 60 is not within 0 to 59'
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"a cron expression has 5 fields (minute hour day month weekday), this has {len(fields)}"
    for (name, low, high), field in zip(_FIELDS, fields, strict=True):
        for part in field.split(","):
            problem = _part_problem(name, part, low, high)
            if problem:
                return problem
    return None


def _part_problem(name: str, part: str, low: int, high: int) -> str | None:
    match = _PART.fullmatch(part)
    if match is None:
        return f"the {name} {part!r} is not a number, *, a range a-b or a step /n"
    for bound in (match["first"], match["last"]):
        if bound is not None and not low <= int(bound) <= high:
            return f"the {name} {bound} is not within {low} to {high}"
    if match["last"] is not None and int(match["last"]) < int(match["first"]):
        return f"the {name} range {part!r} runs backwards"
    if match["step"] is not None and int(match["step"]) == 0:
        return f"the {name} step in {part!r} is 0"
    return None
