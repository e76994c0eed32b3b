"""Rows that differ, as people look at them: a few keys in a log, many of them in a CSV file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from include.backup.errors import StagingError
from include.backup.table_restore.sql_parts import LONGEST_VALUE
from include.backup.table_restore.staged import Change, StagedTable

HEADER = ("change", "table", "key", "column", "archived", "present")
LOGGED = 5
LISTED = 10_000
LONGEST_KEY = 80
MOST_BYTES = 16 << 20


def logged(staged: Iterable[StagedTable]) -> Iterator[str]:
    """Yield a line for each kind of difference of each table, with the keys of some of its rows."""
    for table in staged:
        for change in Change:
            if count := table.counts.get(change, 0):
                keys = [_key(table, key) for key, _, _ in table.sample(change, LOGGED)]
                more = f" and {count - len(keys)} more" if count > len(keys) else ""
                yield f"{change.value} in {table.table.name}: {'; '.join(keys)}{more}"


def listed(staged: Iterable[StagedTable]) -> Iterator[bytes]:
    """Yield the lines of a CSV file: one for each value that differs, of so many rows of each kind at most.

    As PostgreSQL has it: null is an empty field, an empty text a quoted one.
    """
    yield _line(HEADER)
    size = 0
    for table in staged:
        name = str(table.table.name)
        for change in Change:
            for key, archived, present in table.sample(change, LISTED):
                for column, old, new in zip(table.columns, archived, present, strict=True):
                    if change is not Change.CHANGED or old != new or _is_cut(old):
                        line = _line((change.value, name, _key(table, key), column, old, new))
                        size += len(line)
                        yield line
                if size > MOST_BYTES:
                    yield _line((change.value, name, "the list is cut here", None, None, None))
                    return
            if table.counts[change] > LISTED:
                more = f"and {table.counts[change] - LISTED} more rows"
                yield _line((change.value, name, more, None, None, None))


def write_csv(path: Path, lines: Iterable[bytes]) -> None:
    """Write a CSV file that only this user can read; raises StagingError."""
    try:
        with open(path, "wb", opener=_private) as file:
            file.writelines(lines)
    except OSError as error:
        raise StagingError(f"{path} cannot be written: {error.strerror}; give another place") from error


def _line(values: Sequence[str | None]) -> bytes:
    cells = ("" if value is None else '"' + value.replace('"', '""') + '"' for value in values)
    return (",".join(cells) + "\r\n").encode("utf-8", "surrogateescape")


def _is_cut(value: str | None) -> bool:
    return value is not None and len(value) == LONGEST_VALUE


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _key(table: StagedTable, values: Sequence[str]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in zip(table.key.columns, values, strict=True))
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}…"
