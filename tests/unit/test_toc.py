"""toc.dat: every version that is known, and everything that is not one. Real ones are read in tests/integration."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import strategies as st

from include.backup.errors import TocError
from include.backup.postgres.toc import (
    KNOWN_VERSIONS,
    PG_RESTORE_MINIMUM,
    CopyTarget,
    Section,
    SequenceValue,
    Toc,
    parse_copy,
    parse_setval,
    read_toc,
)
from tests.support.builders import make_entry, make_toc, toc_bytes
from tests.support.properties import given

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
SECTIONS = (Section.PRE_DATA, Section.DATA, Section.POST_DATA)


def small(version: tuple[int, int] = (1, 16)) -> Toc:
    return make_toc(
        [
            make_entry(1, owner='Ann "O\'Neill"', tag="naïve 🎈"),
            make_entry(
                2,
                desc="TABLE DATA",
                section=Section.DATA,
                definition="",
                copy_statement="COPY public.users (id) FROM stdin;\n",
                filename="2.dat",
                dependencies=(1,),
            ),
            make_entry(3, desc="BLOBS", section=Section.DATA, definition="", filename="blobs_3.toc"),
            make_entry(4, desc="INDEX", section=Section.POST_DATA, dependencies=(1, 2)),
        ],
        version=version,
    )


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_each_known_version_is_read_whole(version: tuple[int, int]) -> None:
    toc = small(version)
    assert read_toc(toc_bytes(toc)) == toc
    assert toc.pg_restore_minimum == PG_RESTORE_MINIMUM[version]


@given(
    st.lists(
        st.builds(
            make_entry,
            st.integers(min_value=0, max_value=2**31 - 1),
            tag=TEXT,
            namespace=TEXT,
            owner=TEXT,
            definition=TEXT,
            desc=TEXT,
            section=st.sampled_from(SECTIONS),
            dependencies=st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
        ),
        max_size=5,
    ),
    st.sampled_from(KNOWN_VERSIONS),
)
def test_whatever_is_written_is_read_again(entries: list[object], version: tuple[int, int]) -> None:
    toc = make_toc(entries, version=version)  # type: ignore[arg-type]
    assert read_toc(toc_bytes(toc)) == toc


def test_text_that_is_not_utf8_survives() -> None:
    toc = make_toc([make_entry(tag=b"\xe9t\xe9".decode("utf-8", "surrogateescape"))])
    assert read_toc(toc_bytes(toc)) == toc


@pytest.mark.parametrize("version", KNOWN_VERSIONS)
def test_a_cut_anywhere_is_refused(version: tuple[int, int]) -> None:
    content = toc_bytes(small(version))
    for end in range(len(content)):
        with pytest.raises(TocError, match=r"toc\.dat cannot be read .* use another backup"):
            read_toc(content[:end])


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, b"PGDXP", "does not begin with PGDMP"),
        (5, b"\x01\x0d", r"archive version 1\.13 is not known"),
        (5, b"\x01\x11", r"archive version 1\.17 is not known"),
        (5, b"\x02\x00", r"archive version 2\.0 is not known"),
        (10, b"\x01", "not of the directory format"),
    ],
)
def test_what_is_no_toc_of_a_known_kind_is_refused(at: int, value: bytes, reason: str) -> None:
    content = bytearray(toc_bytes(small()))
    content[at : at + len(value)] = value
    with pytest.raises(TocError, match=reason):
        read_toc(bytes(content))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_toc_or_a_toc_error(content: bytes) -> None:
    for data in (content, toc_bytes(make_toc())[:12] + content):
        with suppress(TocError):
            read_toc(data)


@given(st.integers(0, len(toc_bytes(small())) - 1), st.integers(1, 255))
def test_one_changed_byte_gives_a_toc_or_a_toc_error(at: int, change: int) -> None:
    content = bytearray(toc_bytes(small()))
    content[at] ^= change
    with suppress(TocError):
        read_toc(bytes(content))


def test_comments_and_grants_count_to_the_section_in_which_they_stand() -> None:
    none = Section.NONE
    entries = [
        make_entry(1, desc="ENCODING", section=none),
        make_entry(2),
        make_entry(3, desc="ACL", section=none),
        make_entry(4, desc="TABLE DATA", section=Section.DATA),
        make_entry(5, desc="COMMENT", section=none),
        make_entry(6, desc="INDEX", section=Section.POST_DATA),
        make_entry(7, desc="COMMENT", section=none),
    ]
    read = read_toc(toc_bytes(make_toc(entries)))
    assert [entry.section for entry in read.entries] == [
        *[Section.PRE_DATA] * 3,
        *[Section.DATA] * 2,
        *[Section.POST_DATA] * 2,
    ]


def test_only_entries_with_a_file_are_table_data() -> None:
    toc = small()
    assert [entry.dump_id for entry in toc.table_data] == [2]
    without = replace(toc, entries=tuple(replace(entry, filename="") for entry in toc.entries))
    assert without.table_data == ()
    assert [entry.is_large_objects for entry in toc.entries] == [False, False, True, False]


@pytest.mark.parametrize(
    ("statement", "relation", "columns"),
    [
        ("COPY public.users (id, name) FROM stdin;\n", "public.users", "(id, name) "),
        ("COPY private.no_columns  FROM stdin;\n", "private.no_columns", ""),
        ('COPY public."Order" ("select", "a""b") FROM stdin;\n', 'public."Order"', '("select", "a""b") '),
        ('COPY "a.b"."c (d) FROM stdin;" (x) FROM stdin;\n', '"a.b"."c (d) FROM stdin;"', "(x) "),
        ('COPY "new\nline"."t" ("b)", "new\nline") FROM stdin;\n', '"new\nline"."t"', '("b)", "new\nline") '),
        ("COPY naïve.été (é) FROM stdin;\n", "naïve.été", "(é) "),
    ],
)
def test_a_copy_statement_is_taken_apart(statement: str, relation: str, columns: str) -> None:
    target = parse_copy(statement)
    assert target == CopyTarget(relation=relation, columns=columns)
    assert target.statement == f"COPY {relation} {columns}TO STDOUT"


@pytest.mark.parametrize(
    "statement",
    ["", "COPY a FROM '/etc/passwd';", "COPY a FROM stdin; DROP TABLE b;", "SELECT 1;", "COPY a FROM PROGRAM 'x';"],
)
def test_what_is_no_copy_statement_is_refused(statement: str) -> None:
    with pytest.raises(TocError, match="cannot read the COPY statement"):
        parse_copy(statement)


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        ("SELECT pg_catalog.setval('public.s', 42, true);\n", SequenceValue(name="public.s", value=42, is_called=True)),
        ("SELECT pg_catalog.setval('s.t', -9, false);", SequenceValue(name="s.t", value=-9, is_called=False)),
        (
            'SELECT pg_catalog.setval(\'"it\'\'s"."a ""b"""\', 1, true);',
            SequenceValue(name='"it\'s"."a ""b"""', value=1, is_called=True),
        ),
    ],
)
def test_the_value_of_a_sequence_is_read(definition: str, value: SequenceValue) -> None:
    assert parse_setval(definition) == value


@pytest.mark.parametrize("definition", ["", "SELECT setval('s', 1);", "SELECT pg_catalog.setval('s', NULL, true);"])
def test_what_sets_no_sequence_is_refused(definition: str) -> None:
    with pytest.raises(TocError, match="cannot read the sequence value"):
        parse_setval(definition)
