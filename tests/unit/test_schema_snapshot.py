"""A schema as text: the same for the same objects, whatever their numbers, and told by name when it changes."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from include.backup.errors import ManifestError
from include.backup.postgres.toc import TocEntry
from include.backup.schema_history.changes import SchemaChanges, commit_message, compare_objects, text_diff
from include.backup.schema_history.redaction import Redaction
from include.backup.schema_history.snapshot import (
    OBJECTS_FILE,
    ObjectName,
    SchemaSnapshot,
    Writing,
    is_untouched,
    read_objects,
    take_snapshot,
)
from tests.support.builders import make_entry, make_toc

WRITING = Writing(source="pulse", encoding="UTF8", redaction=Redaction())


def snapshot(*entries: TocEntry, writing: Writing = WRITING) -> SchemaSnapshot:
    return take_snapshot(make_toc(entries), writing)


def table(number: int, name: str, *needs: int, **overrides: object) -> TocEntry:
    definition = f"CREATE TABLE public.{name} (\n    id integer\n);\n"
    drop = f"DROP TABLE public.{name};\n"
    values = {"tag": name, "definition": definition, "drop_statement": drop, "dependencies": needs, **overrides}
    return make_entry(number, **values)


def text(taken: SchemaSnapshot) -> str:
    return taken.files["schema.sql"].decode()


def test_numbers_and_the_order_within_a_kind_do_not_matter() -> None:
    entries = [table(number, f"t{number}") for number in range(9)]
    wanted = snapshot(*entries)
    for seed in range(20):
        shuffled = random.Random(seed).sample(entries, len(entries))  # noqa: S311 - no secret
        renumbered = [replace(entry, dump_id=100 + number) for number, entry in enumerate(shuffled)]
        assert snapshot(*renumbered) == wanted


def test_what_needs_another_comes_after_it_though_its_name_comes_first() -> None:
    found = text(snapshot(table(5, "parent"), table(6, "a_child", 5)))
    assert found.index("TABLE public.parent") < found.index("TABLE public.a_child")


def test_a_circle_of_needs_is_written_as_it_came() -> None:
    found = text(snapshot(table(1, "b", 2), table(2, "a", 1)))
    assert found.index("TABLE public.b") < found.index("TABLE public.a")


def test_an_owner_is_given_as_the_drop_names_the_object() -> None:
    entry = make_entry(
        1, desc="FUNCTION", tag="f(integer)", owner='O"dd', definition="CREATE FUNCTION …;\n",
        drop_statement="DROP FUNCTION public.f(integer);\n",
    )  # fmt: skip
    assert 'ALTER FUNCTION public.f(integer) OWNER TO "O""dd";' in text(snapshot(entry))


def test_rows_are_no_part_of_it() -> None:
    entries = [make_entry(2, desc="TABLE DATA", filename="2.dat"), make_entry(3, desc="SEQUENCE SET")]
    assert snapshot(table(1, "a"), *entries) == snapshot(table(1, "a"))


def test_large_objects_are_rows_with_their_grants_and_comments() -> None:
    entries = [
        make_entry(2, desc="BLOB METADATA", tag="730000..730004", definition="730000\n730004\n"),
        make_entry(3, desc="BLOB", tag="730005", definition="SELECT pg_catalog.lo_create('730005');\n"),
        make_entry(4, desc="COMMENT", tag="LARGE OBJECT 730000", definition="COMMENT ON LARGE OBJECT …;\n"),
        make_entry(5, desc="ACL", tag="LARGE OBJECTS 730000..730004", definition="GRANT SELECT …;\n"),
    ]
    assert snapshot(table(1, "a"), *entries) == snapshot(table(1, "a"))
    assert snapshot(table(1, "a"), make_entry(5, desc="ACL", tag="TABLE a")) != snapshot(table(1, "a"))


def test_grants_in_another_order_are_the_same() -> None:
    one = make_entry(1, desc="ACL", tag="TABLE a", definition="GRANT SELECT ON a TO x;\nGRANT SELECT ON a TO y;\n")
    other = replace(one, definition="GRANT SELECT ON a TO y;\nGRANT SELECT ON a TO x;\n")
    assert snapshot(one) == snapshot(other)


def test_an_extensions_version_is_a_part_of_it() -> None:
    entry = make_entry(1, desc="EXTENSION", tag="citext", namespace="", definition="CREATE EXTENSION citext;\n")
    old, new = (
        snapshot(entry, writing=replace(WRITING, extension_versions={"citext": version})) for version in ("1.5", "1.6")
    )
    assert compare_objects(old.objects, new.objects).changed == (ObjectName("EXTENSION", "", "citext"),)
    assert "-- version 1.6" in text(new)


def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    found = text(snapshot(table(1, "a", owner="x\nDROP TABLE users;\u2028--")))
    assert "\nDROP TABLE users" not in found.partition("ALTER TABLE")[0]
    assert "-- TABLE public.a, owner x\\nDROP TABLE users;\\u2028--" in found


def test_objects_of_one_name_are_compared_together() -> None:
    one = make_entry(1, desc="DEFAULT ACL", tag="DEFAULT PRIVILEGES FOR TABLES", owner="a")
    other = replace(one, dump_id=2, owner="b")
    name = ObjectName("DEFAULT ACL", "public", "DEFAULT PRIVILEGES FOR TABLES")
    both, alone = snapshot(one, other).objects, snapshot(one).objects
    assert compare_objects(both, snapshot(other, one).objects) == SchemaChanges(added=(), removed=(), changed=())
    assert compare_objects(both, alone).changed == (name,)


def test_what_is_stored_is_read_back() -> None:
    taken = snapshot(table(1, "a"), table(2, "b\nc"))
    assert read_objects(taken.files[OBJECTS_FILE], name="x") == taken.objects
    assert is_untouched(taken.files)


@pytest.mark.parametrize("name", ["schema.sql", "database.sql", OBJECTS_FILE])
def test_an_edited_or_missing_file_is_noticed(name: str) -> None:
    files = dict(snapshot(table(1, "a")).files)
    assert not is_untouched({**files, name: None})
    assert not is_untouched({**files, name: b"edited"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"format_version": 2, "objects": []}',
        b'{"format_version": 1}',
        b'{"format_version": 1, "objects": [1]}',
    ],
)
def test_another_listing_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"abc is not a list of objects"):
        read_objects(content, name="abc")


def test_the_listing_has_a_line_for_each_object() -> None:
    listing = snapshot(table(1, "a"), table(2, "b")).files[OBJECTS_FILE].decode()
    assert [json.loads(line.rstrip(","))[2] for line in listing.splitlines() if line.startswith('["')] == ["a", "b"]


def names(kind: str, *tags: str) -> tuple[ObjectName, ...]:
    return tuple(ObjectName(kind, "public", tag) for tag in tags)


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        (SchemaChanges(added=names("TABLE", "a"), removed=(), changed=()), "s: TABLE public.a added"),
        (SchemaChanges(added=(), removed=(), changed=names("VIEW", "x" * 90)), "s: 1 VIEW changed"),
        (
            SchemaChanges(added=names("TABLE", "a", "b"), removed=names("INDEX", "i"), changed=()),
            "s: 2 TABLE added, 1 INDEX removed",
        ),
        (
            SchemaChanges(
                added=tuple(ObjectName(f"KIND {number}", "", "x") for number in range(30)), removed=(), changed=()
            ),
            "s: 30 added",
        ),
    ],
)
def test_a_subject_says_what_changed_in_72_characters(changes: SchemaChanges, subject: str) -> None:
    message = commit_message("s", changes, first=False, trailers=["Run: 1"])
    assert message.splitlines()[0] == subject
    assert len(subject) <= 72
    assert message.endswith("\n\nRun: 1\n")


def test_a_long_list_is_cut_and_says_so() -> None:
    changes = SchemaChanges(added=names("TABLE", *(f"t{number:04}" for number in range(500))), removed=(), changed=())
    lines = commit_message("s", changes, first=False, trailers=[]).splitlines()
    assert "… and 300 more" in lines
    assert len(lines) < 210


def test_a_diff_names_both_sides() -> None:
    lines = text_diff(b"a\n", b"b\n", names=("old", "new")).splitlines()
    assert lines == ["--- old", "+++ new", "@@ -1 +1 @@", "-a", "+b"]
    assert text_diff(b"a\n", b"a\n", names=("old", "new")) == ""
