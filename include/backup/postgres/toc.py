"""Read pg_dump's table of contents (toc.dat of the directory format).

pg_restore -l does not show the COPY statements, the data files or the values of sequences, which the proof
needs. Format: src/bin/pg_dump/pg_backup_archiver.c (ReadHead, ReadToc), archive versions 1.14 (PostgreSQL
12 to 15), 1.15 (16) and 1.16 (17 and 18).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from io import BytesIO
from typing import BinaryIO

from include.backup.errors import TocError

MAGIC = b"PGDMP"
# pg_dump marks the toc.dat of a directory as the tar format's, so that a tar of the folder can be restored too.
DIRECTORY_FORMAT = 3
KNOWN_VERSIONS = ((1, 14), (1, 15), (1, 16))
# The oldest pg_restore that reads each archive version.
PG_RESTORE_MINIMUM = {(1, 14): 12, (1, 15): 16, (1, 16): 17}
IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s".(]+)'
_COPY = re.compile(
    rf"COPY (?P<target>{IDENTIFIER}(?:\.{IDENTIFIER})?) +(?P<columns>\(.*\) )?FROM stdin;\s*$", re.DOTALL
)
_SETVAL = re.compile(
    r"SELECT pg_catalog\.setval\('(?P<name>(?:[^']|'')+)', (?P<value>-?\d+), (?P<called>true|false)\);"
)


class Section(IntEnum):
    """The part of a restore in which an entry is made, as pg_dump numbers them."""

    NONE = 1
    PRE_DATA = 2
    DATA = 3
    POST_DATA = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TocEntry:
    """One entry: what pg_restore would do, and the data file it would load.

    ``section`` is never NONE: comments and grants, for which pg_dump writes that, count to the section in which
    they stand, as they do for pg_restore.
    """

    dump_id: int
    section: Section
    desc: str
    tag: str
    namespace: str
    owner: str
    definition: str
    copy_statement: str
    filename: str
    dependencies: tuple[int, ...]
    drop_statement: str = ""

    @property
    def is_table_data(self) -> bool:
        return self.desc == "TABLE DATA"

    @property
    def is_large_objects(self) -> bool:
        return self.desc in {"BLOBS", "LARGE OBJECTS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toc:
    """The whole table of contents."""

    version: tuple[int, int]
    database: str
    server_version: str
    dump_version: str
    entries: tuple[TocEntry, ...]

    @property
    def table_data(self) -> tuple[TocEntry, ...]:
        return tuple(entry for entry in self.entries if entry.is_table_data and entry.filename)

    @property
    def pg_restore_minimum(self) -> int:
        return PG_RESTORE_MINIMUM[self.version]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTarget:
    """The relation and column list of an entry's COPY statement, quoted as pg_dump wrote them."""

    relation: str
    columns: str

    @property
    def statement(self) -> str:
        """Return the COPY that reads the rows back; ONLY the relation that the entry was read from."""
        return f"COPY {self.relation} {self.columns}TO STDOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceValue:
    """What a SEQUENCE SET entry sets; ``name`` is quoted as pg_dump wrote it."""

    name: str
    value: int
    is_called: bool


def parse_copy(statement: str) -> CopyTarget:
    """Split ``COPY public.users (id, name) FROM stdin;``.

    >>> parse_copy('COPY public.users (id, name) FROM stdin;')
    CopyTarget(relation='public.users', columns='(id, name) ')
    """
    match = _COPY.match(statement.strip())
    if match is None:
        raise TocError(f"cannot read the COPY statement {statement[:200]!r}; report this pg_dump version")
    return CopyTarget(relation=match["target"], columns=match["columns"] or "")


def parse_setval(definition: str) -> SequenceValue:
    """Read the statement of a SEQUENCE SET entry.

    >>> parse_setval("SELECT pg_catalog.setval('public.s', 42, true);")
    SequenceValue(name='public.s', value=42, is_called=True)
    """
    match = _SETVAL.search(definition)
    if match is None:
        raise TocError(f"cannot read the sequence value {definition[:200]!r}; report this pg_dump version")
    return SequenceValue(
        name=match["name"].replace("''", "'"), value=int(match["value"]), is_called=match["called"] == "true"
    )


def read_toc(content: bytes) -> Toc:
    """Read the bytes of toc.dat.

    Raises TocError when they are not a table of contents, are cut short, or have an unknown version.
    """
    try:
        return _Reader(BytesIO(content)).toc()
    except (IndexError, ValueError, EOFError, OverflowError) as error:
        raise TocError(f"toc.dat cannot be read ({error}); the dump is damaged, use another backup") from error


def _in_sections(entries: Iterable[TocEntry]) -> Iterator[TocEntry]:
    current = Section.PRE_DATA
    for entry in entries:
        if entry.section is Section.NONE:
            yield replace(entry, section=current)
        else:
            current = entry.section
            yield entry


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._int_size = 4
        self._version = (0, 0)

    def toc(self) -> Toc:
        if self._bytes(5) != MAGIC:
            raise ValueError("it does not begin with PGDMP")
        self._version = (self._byte(), self._byte())
        self._byte()
        if self._version not in KNOWN_VERSIONS:
            raise ValueError(f"archive version {self._version[0]}.{self._version[1]} is not known")
        self._int_size = self._byte()
        self._byte()
        if self._byte() != DIRECTORY_FORMAT:
            raise ValueError("it is not of the directory format")
        if self._version >= (1, 15):
            self._byte()
        else:
            self._int()
        for _ in range(7):
            self._int()
        database, server, dump = self._text(), self._text(), self._text()
        entries = [self._entry() for _ in range(self._int())]
        return Toc(
            version=self._version,
            database=database,
            server_version=server,
            dump_version=dump,
            entries=tuple(_in_sections(entries)),
        )

    def _entry(self) -> TocEntry:
        dump_id = self._int()
        self._int()
        self._text()
        self._text()
        tag, desc = self._text(), self._text()
        section = Section(self._int())
        definition, drop_statement = self._text(), self._text()
        copy_statement, namespace = self._text(), self._text()
        self._text()
        self._text()
        if self._version >= (1, 16):
            self._int()
        owner = self._text()
        self._text()
        dependencies = []
        while (dependency := self._optional_text()) is not None:
            dependencies.append(int(dependency))
        return TocEntry(
            dump_id=dump_id,
            section=section,
            desc=desc,
            tag=tag,
            namespace=namespace,
            owner=owner,
            definition=definition,
            copy_statement=copy_statement,
            filename=self._text(),
            dependencies=tuple(dependencies),
            drop_statement=drop_statement,
        )

    def _bytes(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) != count:
            raise EOFError("it ends too early")
        return data

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _int(self) -> int:
        sign = self._byte()
        value = int.from_bytes(self._bytes(self._int_size), "little")
        return -value if sign else value

    def _optional_text(self) -> str | None:
        length = self._int()
        return None if length < 0 else self._bytes(length).decode("utf-8", "surrogateescape")

    def _text(self) -> str:
        return self._optional_text() or ""
