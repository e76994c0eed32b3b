"""Durations as the policy writes them."""

from __future__ import annotations

from datetime import timedelta

_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def parse_duration(text: str) -> timedelta:
    """Return a duration; the policy's schema has checked the text.

    >>> parse_duration("30 minutes")
    datetime.timedelta(seconds=1800)
    """
    amount, unit = text.split()
    return timedelta(seconds=int(amount) * _UNIT_SECONDS[unit.removesuffix("s")])


def optional_duration(text: str | None) -> timedelta | None:
    """Return a duration, or None where the policy has none."""
    return None if text is None else parse_duration(text)
