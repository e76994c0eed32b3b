"""Text for people: aligned columns, on a terminal and in a task's log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as aligned columns.

    >>> list(columns(["id", "size"], [["a", "12 kB"]]))
    ['id  size', 'a   12 kB']
    """
    table = [header, *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
