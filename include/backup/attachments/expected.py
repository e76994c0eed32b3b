"""What the database says of its files: the rows of storage.objects as the dump has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from include.backup.archive.members import without_trailer
from include.backup.archive.reader import ArchiveReader
from include.backup.errors import ArchiveError
from include.backup.manifest import Manifest

SCHEMA, TABLE = "storage", "objects"
OBJECTS_TABLE = f"{SCHEMA}.{TABLE}"
_COLUMNS = re.compile(r"\((?P<columns>.*)\)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A file of which the database knows; size and ETag where the row has them."""

    bucket: str
    key: str
    size: int | None
    etag: str | None


def expected_files(manifest: Manifest, reader: ArchiveReader) -> Iterator[Expected] | None:
    """Return the rows of the dump's storage.objects, read by range from the archive as stored; None without it."""
    for member in manifest.members:
        table = member.table_data
        if table is not None and (table.schema, table.table) == (SCHEMA, TABLE):
            content = without_trailer(reader.content(member), name=member.name)
            return parse_objects(table.copy_statement, content)
    return None


def parse_objects(copy_statement: str, content: Iterable[bytes]) -> Iterator[Expected]:
    """Yield the files of a COPY stream; raises ArchiveError when its columns are not those of Supabase."""
    columns = _columns(copy_statement)
    try:
        bucket, name = columns.index("bucket_id"), columns.index("name")
    except ValueError as error:
        raise ArchiveError(
            f"{OBJECTS_TABLE} of the dump has the columns {', '.join(columns)}; bucket_id and name are needed"
        ) from error
    metadata = columns.index("metadata") if "metadata" in columns else None
    for line in _lines(content):
        values = [_value(field) for field in line.split("\t")]
        bucket_id, key = values[bucket], values[name]
        if bucket_id is None or key is None:
            continue
        size, etag = _facts(None if metadata is None else values[metadata])
        yield Expected(bucket=bucket_id, key=key, size=size, etag=etag)


def _columns(copy_statement: str) -> list[str]:
    match = _COLUMNS.search(copy_statement)
    return [] if match is None else [part.strip().strip('"') for part in match["columns"].split(",")]


def _lines(content: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in content:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")
    if rest:
        yield rest.decode("utf-8", "surrogateescape")


def _value(field: str) -> str | None:
    """Return a value as COPY's text format has it.

    >>> _value("a\\\\tb"), _value("\\\\N")
    ('a\\tb', None)
    """
    if field == "\\N":
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), field)


def _facts(text: str | None) -> tuple[int | None, str | None]:
    """Return size and ETag of an object's metadata, as far as it has them."""
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None, None
    if not isinstance(found, dict):
        return None, None
    size, etag = found.get("size"), found.get("eTag")
    return (
        size if isinstance(size, int) and not isinstance(size, bool) else None,
        etag.strip('"') if isinstance(etag, str) and etag else None,
    )
