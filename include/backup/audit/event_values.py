"""Values of an event's facts, which anybody may have written: each is what it should be, or None."""

from __future__ import annotations

from datetime import datetime


def text_of(value: object) -> str | None:
    """Return a text that is not empty."""
    return value if isinstance(value, str) and value else None


def number_of(value: object) -> float | None:
    """Return a number.

    >>> number_of(3), number_of(True), number_of("3")
    (3.0, None, None)
    """
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def moment_of(value: object) -> datetime | None:
    """Return a time with its zone.

    >>> moment_of("2026-05-01T00:00:00"), moment_of("x"), moment_of(None)
    (None, None, None)
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
