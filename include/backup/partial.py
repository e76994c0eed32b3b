"""What a backup leaves out because the policy says so; nobody may take a partial backup for a full one."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 8


def partial_text(schemas: Sequence[str], tables: Sequence[str], buckets: Sequence[str] = ()) -> str:
    """Return what is left out in words, or an empty text.

    >>> partial_text(["audit"], ["public.events"])
    'partial: without schema audit, table public.events'
    >>> partial_text([], [])
    ''
    """
    names = [*(f"schema {name}" for name in schemas), *(f"table {name}" for name in tables)]
    names += [f"the files of bucket {name}" for name in buckets]
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"partial: without {', '.join(names[:SHOWN])}{more}"
