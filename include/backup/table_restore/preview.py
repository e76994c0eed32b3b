"""What a restore of tables would do, for a person, for JSON, and for the question that is asked about it.

Numbers and names only: samples of rows go to the log and into a CSV file, never anywhere else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.backup.inventory import Standing
from include.backup.restore.progress import size_text
from include.backup.table_restore.bonds import Orphans, Touched
from include.backup.text import labelled, one_line

LABEL_WIDTH = 11


class Mode(StrEnum):
    """How tables are restored."""

    BESIDE = "beside"
    REPLACE = "replace"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePreview:
    """One table: its rows in the archive and now, and how they differ; None where nobody looked."""

    table: str
    archived: int
    present: int | None
    missing: int | None
    changed: int | None
    surplus: int | None
    fixed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesPreview:
    """What would change; sizes in bytes."""

    backup_id: str
    manifest_sha256: str
    snapshot_time: datetime
    standing: Standing
    mode: Mode
    target: str
    schema: str | None
    reads: int
    tables: tuple[TablePreview, ...]
    touched: tuple[Touched, ...]
    orphans: tuple[Orphans, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]
    touches_children: bool

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        if self.mode is Mode.BESIDE:
            return True
        counted = ("missing",) if self.mode is Mode.MISSING else ("missing", "changed", "surplus")
        return any(getattr(table, name) for table in self.tables for name in counted)

    def refusals(self) -> Iterator[str]:
        """Yield why this would not be done, and what to do about it."""
        for orphans in self.orphans:
            yield (
                f"{orphans.rows} rows of {orphans.table} refer to rows of {orphans.parent} that are not there "
                f"({orphans.constraint}); restore {orphans.parent} with it, or restore it beside"
            )
        if self.mode is not Mode.REPLACE:
            return
        for table in self.tables:
            if table.fixed:
                yield (
                    f"{table.fixed} rows of {table.table} differ in an identity column that nobody may change; "
                    "restore it beside"
                )
        restored = {table.table for table in self.tables}
        for touched in self.touched:
            if touched.refuses:
                # Deleted rows go first: others may need their unique values.
                way = "restore it beside" if touched.table in restored else f"restore {touched.table} with it"
                yield (
                    f"{touched.rows} rows of {touched.table} refer to rows that would be deleted or changed "
                    f"({touched.constraint}, {touched.action}); {way}, or only missing rows"
                )
            elif not self.touches_children:
                yield (
                    f"{touched.rows} rows of {touched.table} would be changed by {touched.action} "
                    f"({touched.constraint}); say yes to that (touch children), or restore only missing rows"
                )
            elif touched.owner is not None:
                yield (
                    f"{touched.rows} rows of {touched.table} would be changed by {touched.action}, and it belongs to "
                    f"{touched.owner}: only its owner can keep its triggers from firing; use a role that is a member "
                    "of it, or restore only missing rows"
                )

    def grown(self, before: TablesPreview) -> Iterator[str]:
        """Yield what would be changed or deleted now beyond what was shown before."""
        if self.mode is not Mode.REPLACE:
            return
        shown = {table.table: table for table in before.tables}
        for table in self.tables:
            for name in ("changed", "surplus"):
                now, then = getattr(table, name) or 0, getattr(shown[table.table], name) or 0
                if now > then:
                    yield f"{table.table} has {now} {name} rows, {now - then} more than were shown"
        then_touched = before.touched_rows()
        for (name, constraint, action), rows in self.touched_rows().items():
            more = rows - then_touched[name, constraint, action]
            if more > 0:
                yield f"{more} more rows of {name} would be touched than were shown"

    def touched_rows(self) -> Counter[tuple[str, str, str]]:
        """Return how many rows of each child each action would touch; several tables' keys may have one name."""
        found: Counter[tuple[str, str, str]] = Counter()
        for touched in self.touched:
            found[touched.table, touched.constraint, touched.action] += touched.rows
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            **asdict(self),
            "snapshot_time": self.snapshot_time.isoformat(),
            "standing": self.standing.value,
            "mode": self.mode.value,
            "changes": self.changes,
            "refusals": list(self.refusals()),
        }

    @property
    def content(self) -> bytes:
        """Everything that a yes is about."""
        return json.dumps(self.to_dict(), sort_keys=True).encode()

    def lines(self) -> Iterator[str]:
        """Yield the preview for a log."""
        yield from labelled(self.facts(), width=LABEL_WIDTH)
        yield from _aligned(list(self.rows()))
        yield from labelled(self.consequences(), width=LABEL_WIDTH)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what would be done."""
        yield "backup", f"{self.backup_id} ({self.standing.value})"
        yield "data as of", f"{self.snapshot_time:%Y-%m-%d %H:%M:%S} UTC"
        yield "reads", f"{size_text(self.reads)} of the archive"
        yield "target", self.target
        yield "does", self._does()

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield how many rows of each table would change, the head first."""
        yield "table", "archive", "now", "missing", "changed", "surplus", ""
        for table in self.tables:
            counts = (table.archived, table.present, table.missing, table.changed, table.surplus)
            yield one_line(table.table), *map(_number, counts), table.note

    def consequences(self) -> Iterator[tuple[str, str]]:
        """Yield what else would come of it, and what speaks against it."""
        for touched in self.touched:
            yield "child", f"{touched.rows} rows of {touched.table}: {touched.action} by {touched.constraint}"
        for orphans in self.orphans:
            yield "no parent", f"{orphans.rows} rows of {orphans.table} in {orphans.parent} by {orphans.constraint}"
        for label, texts in (
            ("left out", self.left_out),
            ("warning", self.warnings),
            ("refused", tuple(self.refusals())),
        ):
            for text in texts:
                yield label, text

    def _does(self) -> str:
        if self.mode is Mode.BESIDE:
            return (
                f"makes the schema {self.schema} with these tables, their types, sequences, keys and indexes, and "
                "without what acts or lets in (triggers, rules, policies, grants); nothing that is there is changed"
            )
        if self.mode is Mode.MISSING:
            return "adds missing rows; rows that are there stay as they are"
        return "makes the tables as they were: adds missing rows, changes back changed ones, deletes surplus ones"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as columns: names to the left, numbers to the right, notes as they are."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for name, *numbers, note in rows:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells, note)).rstrip()


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
