"""A schema as it is kept in git: text that only a real change makes different, without secrets."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from include.backup.errors import ManifestError
from include.backup.postgres.toc import Toc, TocEntry
from include.backup.proof.makers import is_property
from include.backup.proof.schema import DATA_ENTRIES, canonical_definition
from include.backup.schema_history.redaction import Redaction

FORMAT_VERSION = 1
SCHEMA_FILE = "schema.sql"
DATABASE_FILE = "database.sql"
OBJECTS_FILE = "objects.json"
# Settings of pg_dump's own session, the same in every dump.
_PREAMBLE = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})
# Large objects are rows: pg_dump leaves them, their grants and comments out of a schema, and puts them into a backup.
_LARGE_OBJECTS = frozenset({"BLOB", "BLOB METADATA"})
_LARGE_OBJECT_TAGS = ("LARGE OBJECT ", "LARGE OBJECTS ")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DROP = re.compile(r"DROP (?P<object>.+);\s*\Z", re.DOTALL)
_OWNED = frozenset(
    {
        "AGGREGATE",
        "COLLATION",
        "CONVERSION",
        "DOMAIN",
        "EVENT TRIGGER",
        "FOREIGN DATA WRAPPER",
        "FOREIGN TABLE",
        "FUNCTION",
        "MATERIALIZED VIEW",
        "OPERATOR",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE",
        "PROCEDURE",
        "PUBLICATION",
        "SCHEMA",
        "SEQUENCE",
        "SERVER",
        "STATISTICS",
        "SUBSCRIPTION",
        "TABLE",
        "TEXT SEARCH CONFIGURATION",
        "TEXT SEARCH DICTIONARY",
        "TYPE",
        "VIEW",
    }
)
_HEADER = """\
-- The schema of {source}, without rows and without secrets (*** stands for one). Written by the schema backup.
-- Roles, tablespaces and rows are in the archives; restore from those.

SET client_encoding = '{encoding}';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SELECT pg_catalog.set_config('search_path', '', false);
"""
_DATABASE_HEADER = """\
-- The database of {source}: how it is made, its settings and grants, without secrets. Written by the schema backup.
"""


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """What tells an object from others: pg_dump's kind, schema (or nothing) and name."""

    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        """Return one line, whatever characters the name has."""
        return _one_line(f"{self.kind} {self.schema}.{self.name}" if self.schema else f"{self.kind} {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaObject:
    """One object; ``digest`` is the SHA-256 of its definition without secrets."""

    name: ObjectName
    owner: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaSnapshot:
    """The files of one moment, and the objects in them."""

    objects: tuple[SchemaObject, ...]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a schema is to be written."""

    source: str
    encoding: str
    redaction: Redaction
    withheld: Collection[str] = ()
    extension_versions: Mapping[str, str] | None = None


def take_snapshot(toc: Toc, writing: Writing) -> SchemaSnapshot:
    """Return the schema of a table of contents, that of a whole backup or of one without rows."""
    entries = [_clean(entry, writing) for entry in _in_order(toc.entries)]
    of_database = [entry for entry in entries if entry.desc == "DATABASE" or is_property(entry)]
    inside = [entry for entry in entries if entry not in of_database]
    schema = _HEADER.format(source=writing.source, encoding=writing.encoding) + "".join(map(_text, inside))
    database = _DATABASE_HEADER.format(source=writing.source) + "".join(map(_text, of_database))
    objects = tuple(
        sorted((_object(entry) for entry in entries), key=lambda item: (item.name, item.owner, item.digest))
    )
    files = {SCHEMA_FILE: _bytes(schema), DATABASE_FILE: _bytes(database)}
    return SchemaSnapshot(objects=objects, files={**files, OBJECTS_FILE: _listing(objects, files)})


def read_objects(content: bytes, *, name: str) -> tuple[SchemaObject, ...]:
    """Read objects.json; raises ManifestError when it is not what this project wrote."""
    try:
        data = json.loads(content)
        if data["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {data['format_version']!r}")
        return tuple(
            SchemaObject(name=ObjectName(kind, schema, tag), owner=owner, digest=digest)
            for kind, schema, tag, owner, digest in data["objects"]
        )
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{name} is not a list of objects as this version writes it ({error!r})") from error


def is_untouched(files: Mapping[str, bytes | None]) -> bool:
    """Say whether files are as they were written together: somebody may have edited one by hand."""
    listing = files.get(OBJECTS_FILE)
    if listing is None:
        return False
    try:
        recorded = json.loads(listing)["files"]
    except (ValueError, TypeError, KeyError):
        return False
    return all(
        content is not None and recorded.get(name) == _digest(content)
        for name, content in files.items()
        if name != OBJECTS_FILE
    )


def _in_order(entries: Iterable[TocEntry]) -> Iterator[TocEntry]:
    """Yield what is schema, in pg_dump's order, in which everything comes after what it needs.

    Where pg_dump goes by the numbers that objects happen to have, within one kind, names decide instead.
    """
    wanted = [
        entry for entry in entries if entry.desc not in DATA_ENTRIES | _PREAMBLE and not _is_of_large_objects(entry)
    ]
    for _, run in groupby(wanted, lambda entry: (entry.section, entry.desc)):
        yield from _by_name(list(run))


def _is_of_large_objects(entry: TocEntry) -> bool:
    belongs = entry.desc in {"ACL", "COMMENT", "SECURITY LABEL"} and entry.tag.startswith(_LARGE_OBJECT_TAGS)
    return belongs or entry.desc in _LARGE_OBJECTS


def _by_name(run: Sequence[TocEntry]) -> Iterator[TocEntry]:
    inside = {entry.dump_id: entry for entry in run}
    waiting = {
        number: {needed for needed in entry.dependencies if needed in inside} for number, entry in inside.items()
    }
    needed_by: dict[int, list[int]] = {}
    for number, needs in waiting.items():
        for needed in needs:
            needed_by.setdefault(needed, []).append(number)
    ready = [(_key(inside[number]), number) for number, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    done = set()
    while ready:
        _, number = heapq.heappop(ready)
        done.add(number)
        yield inside[number]
        for other in needed_by.get(number, ()):
            waiting[other].discard(number)
            if not waiting[other]:
                heapq.heappush(ready, (_key(inside[other]), other))
    yield from (entry for entry in run if entry.dump_id not in done)  # a circle: as pg_dump has it


def _key(entry: TocEntry) -> tuple[str, str, str, str]:
    return entry.namespace, entry.tag, entry.owner, canonical_definition(entry)


def _clean(entry: TocEntry, writing: Writing) -> TocEntry:
    name = f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
    if {name, name.partition("(")[0]} & set(writing.withheld):
        return replace(entry, definition="-- withheld, as the policy says\n", drop_statement="")
    definition = writing.redaction(entry.desc, canonical_definition(entry)).strip("\n")
    version = (writing.extension_versions or {}).get(entry.tag) if entry.desc == "EXTENSION" else None
    if version is not None:
        definition += f"\n-- version {_one_line(version)}"
    return replace(entry, definition=f"{definition}\n")


def _object(entry: TocEntry) -> SchemaObject:
    return SchemaObject(
        name=ObjectName(entry.desc, entry.namespace, entry.tag),
        owner=entry.owner,
        digest=_digest(_bytes(entry.definition)),
    )


def _text(entry: TocEntry) -> str:
    owner = f", owner {_one_line(entry.owner)}" if entry.owner else ""
    name = ObjectName(entry.desc, entry.namespace, entry.tag)
    return f"\n-- {name}{owner}\n{entry.definition}{_owner_statement(entry)}"


def _owner_statement(entry: TocEntry) -> str:
    """Return what gives an object its owner, as pg_restore does: the object is named as its DROP names it."""
    match = _DROP.match(entry.drop_statement)
    if entry.desc not in _OWNED or match is None or not entry.owner or "*not* creating" in entry.definition:
        return ""
    owner = '"' + entry.owner.replace('"', '""') + '"'
    return f"ALTER {match['object']} OWNER TO {owner};\n"


def _listing(objects: Sequence[SchemaObject], files: Mapping[str, bytes]) -> bytes:
    """Return objects.json, one line for each object."""
    digests = json.dumps({name: _digest(content) for name, content in files.items()})
    lines = ",\n".join(
        json.dumps([item.name.kind, item.name.schema, item.name.name, item.owner, item.digest]) for item in objects
    )
    return f'{{"format_version": {FORMAT_VERSION},\n"files": {digests},\n"objects": [\n{lines}\n]}}\n'.encode()


def _one_line(text: str) -> str:
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
