"""Cron expressions: refuse a wrong one where it is written, not where it is used."""

from __future__ import annotations

import hashlib
import re

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
# In the place of the minute: one of the source's own, so that many sources are not all due at once.
STAGGERED = "H"
_MINUTES = 60
_PART = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>\d{1,2}))?")


def cron_problem(text: str) -> str | None:
    """Return what is wrong with a cron expression of five numeric fields, or None.

    >>> cron_problem("0 2 * * *")
    >>> cron_problem("60 2 * * *")
    'the minute 60 is not within 0 to 59'
    >>> cron_problem("H 2 * * *")
    """
    fields = staggered(text, "").split()
    if len(fields) != len(_FIELDS):
        return f"a cron expression has 5 fields (minute hour day month weekday), this has {len(fields)}"
    for (name, low, high), field in zip(_FIELDS, fields, strict=True):
        for part in field.split(","):
            problem = _part_problem(name, part, low, high)
            if problem:
                return problem
    return None


def staggered(text: str, source: str) -> str:
    """Return the expression with a minute of the source's own for ``H``, the same at every reading.

    >>> staggered("H 2 * * *", "pulse_messages")
    '44 2 * * *'
    >>> staggered("0 2 * * *", "pulse_messages")
    '0 2 * * *'
    """
    minute, blank, rest = text.partition(" ")
    if minute != STAGGERED:
        return text
    return f"{int(hashlib.sha256(source.encode()).hexdigest(), 16) % _MINUTES}{blank}{rest}"


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
