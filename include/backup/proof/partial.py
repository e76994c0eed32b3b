"""What cannot be proven of an archive that holds the rows of some tables only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from include.backup.errors import TocError
from include.backup.manifest import Manifest
from include.backup.postgres.toc import IDENTIFIER, Toc, TocEntry

TABLES = "tables"
_NAME = rf"{IDENTIFIER}(?:\.{IDENTIFIER})?"
_FOREIGN_KEY = re.compile(
    rf"ALTER TABLE (?:ONLY )?(?P<table>{_NAME})\s+ADD CONSTRAINT {IDENTIFIER} FOREIGN KEY "
    rf"\({IDENTIFIER}(?:, {IDENTIFIER})*\) REFERENCES (?P<referenced>{_NAME})\(",
)
_UNCHECKED = re.compile(r"\bNOT VALID;\s*$")
_PART = re.compile(IDENTIFIER)


def is_partial(manifest: Manifest) -> bool:
    """Say whether an archive holds the rows of some tables only."""
    return manifest.kind == TABLES


def rows_left_out(manifest: Manifest) -> str:
    """Return what a proof says of the rows that are not in the archive."""
    return f"the rows of all tables but {', '.join(manifest.dump.tables)}: they are not in this archive"


def keys_to_absent_rows(toc: Toc, manifest: Manifest) -> dict[int, str]:
    """Return the foreign keys that no restore can check, by dump id, each with what it refers to.

    The rows that they refer to are not in the archive; PostgreSQL would refuse such a key.
    """
    present = {(table.schema, table.table) for table in manifest.table_data}
    present |= {_split(name) for name in manifest.dump.tables}
    found = {}
    for entry in toc.entries:
        if entry.desc == "FK CONSTRAINT" and not _UNCHECKED.search(entry.definition):
            table, referenced = _ends(entry)
            if table in present and referenced not in present:
                found[entry.dump_id] = ".".join(referenced)
    return found


def _split(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def _ends(entry: TocEntry) -> tuple[tuple[str, str], tuple[str, str]]:
    match = _FOREIGN_KEY.match(entry.definition)
    if match is None:
        raise TocError(f"the foreign key {entry.namespace}.{entry.tag} cannot be read; the dump is damaged")
    return _name(match["table"]), _name(match["referenced"])


def _name(quoted: str) -> tuple[str, str]:
    schema, table = _parts(quoted)
    return schema, table


def _parts(quoted: str) -> Iterator[str]:
    for part in _PART.findall(quoted):
        yield part[1:-1].replace('""', '"') if part.startswith('"') else part
