"""What a scratch server cannot take of an archive: unavailable extensions, and all that hangs on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from include.backup.postgres.toc import Toc, TocEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Entries that are left out of a restore, by dump id, and why."""

    skipped: frozenset[int]
    reasons: tuple[str, ...]
    skipped_table_data: tuple[str, ...]


def find_gaps(
    toc: Toc, *, available_extensions: Collection[str], absent_rows: Mapping[int, str] = MappingProxyType({})
) -> Gaps:
    """Return the extensions that the server lacks with everything that depends on them.

    ``absent_rows`` are foreign keys to rows that the archive does not hold, with the table that they refer to.

    Nothing is replaced by a stub: a column of an unavailable type takes its table with it, and then the
    skipped TABLE DATA makes the proof red.
    """
    reasons = {
        entry.dump_id: f"EXTENSION {entry.tag} is not installed on the scratch server"
        for entry in toc.entries
        if entry.desc == "EXTENSION" and entry.tag not in available_extensions
    }
    reasons |= {
        entry.dump_id: f"{describe(entry)} refers to {absent_rows[entry.dump_id]}, whose rows are not in this archive"
        for entry in toc.entries
        if entry.dump_id in absent_rows
    }
    skipped = {entry.dump_id: entry for entry in toc.entries if entry.dump_id in reasons}
    while added := {
        entry.dump_id: entry
        for entry in toc.entries
        if entry.dump_id not in skipped and any(dependency in skipped for dependency in entry.dependencies)
    }:
        skipped.update(added)
    return Gaps(
        skipped=frozenset(skipped),
        reasons=tuple(_reason(entry, reasons, skipped) for entry in skipped.values()),
        skipped_table_data=tuple(describe(entry) for entry in skipped.values() if entry.is_table_data),
    )


def describe(entry: TocEntry) -> str:
    """Return an entry as people name it."""
    name = f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
    return f"{entry.desc} {name}"


def _reason(entry: TocEntry, reasons: Mapping[int, str], skipped: Mapping[int, TocEntry]) -> str:
    if entry.dump_id in reasons:
        return reasons[entry.dump_id]
    if any(skipped[number].desc == "FK CONSTRAINT" for number in entry.dependencies if number in skipped):
        return f"{describe(entry)} belongs to a foreign key to rows that are not in this archive"
    return f"{describe(entry)} depends on an extension that is not installed on the scratch server"
