"""Durations as the policy writes them, and those of work that is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def timed(durations: dict[str, float], name: str) -> Iterator[None]:
    """Note under ``name`` how many seconds the block took, when it comes to its end."""
    began = time.monotonic()
    yield
    durations[name] = round(time.monotonic() - began, 3)
