"""Text for people: aligned columns on a terminal and in a task's log, tables on a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MARKS = re.compile(r"([\\`*_\[\]<>|~&])")


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as aligned columns.

    >>> list(columns(["id", "size"], [["a", "12 kB"]]))
    ['id  size', 'a   12 kB']
    """
    table = [header, *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def labelled(facts: Iterable[tuple[str, str]], *, width: int) -> Iterator[str]:
    """Yield facts as lines, the labels in a column of their own.

    >>> list(labelled([("into", "shop")], width=6))
    ['into   shop']
    """
    for label, text in facts:
        yield f"{label:<{width}} {text}"


def one_line(name: str) -> str:
    """Return a name that keeps to its line, whatever is in it.

    >>> one_line("two\\nlines")
    'two\\\\nlines'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def markdown_table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows as a table of a page, the first one as its head; what is in them stays plain text.

    >>> list(markdown_table([("table", "rows"), ("a|b_", "1")]))
    ['| table | rows |', '|---|---|', '| a\\\\|b\\\\_ | 1 |']
    """
    for number, row in enumerate(rows):
        yield f"| {' | '.join(plain_markdown(cell) for cell in row)} |"
        if number == 0:
            yield f"|{'---|' * len(row)}"


def plain_markdown(text: str) -> str:
    """Return a text that a page shows as it is.

    >>> plain_markdown("**x**")
    '\\\\*\\\\*x\\\\*\\\\*'
    """
    return _MARKS.sub(r"\\\1", one_line(text))
