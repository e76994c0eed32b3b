"""Manifests: round trips, and every way in which one can be wrong gets a named error."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.archive.contents import check_contents
from include.backup.errors import ArchiveError, FormatVersionError, ManifestError, MemberMissingError
from include.backup.manifest import FORMAT_VERSION, Manifest, Member, ReleaseFacts, fingerprint, read_manifest
from include.backup.postgres.toc import Section
from tests.support.builders import (
    make_archive,
    make_dump,
    make_entry,
    make_manifest,
    make_member,
    make_server,
    make_table,
    make_toc,
)
from tests.support.properties import given

NAME = "daily/x.manifest.json"


def read(manifest: Manifest) -> Manifest:
    return read_manifest(manifest.to_json(), name=NAME)


def test_a_manifest_is_read_again() -> None:
    for manifest in (make_manifest(), make_manifest(release=ReleaseFacts(name="v1", git_sha="0123abc"))):
        assert read(manifest) == manifest


def test_it_says_how_much_it_holds() -> None:
    manifest = make_manifest()
    assert (manifest.rows, manifest.uncompressed_bytes, len(manifest.table_data)) == (2, 109, 1)
    assert manifest.member("dump/toc.dat") == manifest.members[0]
    with pytest.raises(MemberMissingError, match=r"has no member dump/9\.dat"):
        manifest.member("dump/9.dat")


@pytest.mark.parametrize("version", [FORMAT_VERSION - 1, FORMAT_VERSION + 1, str(FORMAT_VERSION)])
def test_an_unknown_version_is_refused(version: object) -> None:
    values = {**json.loads(make_manifest().to_json()), "format_version": version}
    with pytest.raises(FormatVersionError, match=r"daily/x\.manifest\.json has format_version"):
        read_manifest(json.dumps(values).encode(), name=NAME)


@pytest.mark.parametrize("field", [field.name for field in fields(Manifest) if field.default is not MISSING])
def test_a_field_that_was_added_later_may_be_missing(field: str) -> None:
    values = json.loads(make_manifest().to_json())
    del values[field]
    assert read_manifest(json.dumps(values).encode(), name=NAME) == make_manifest()


@pytest.mark.parametrize("field", [field.name for field in fields(Manifest) if field.default is MISSING])
def test_a_missing_field_is_refused(field: str) -> None:
    values = json.loads(make_manifest().to_json())
    del values[field]
    with pytest.raises(ManifestError, match=field):
        read_manifest(json.dumps(values).encode(), name=NAME)


def test_a_manifest_cut_anywhere_is_refused() -> None:
    content = make_manifest().to_json()
    for end in range(0, len(content) - 2, 37):
        with pytest.raises(ManifestError, match="is not valid JSON"):
            read_manifest(content[:end], name=NAME)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ((make_member("a", offset=0), make_member("b", offset=9)), "member b overlaps another"),
        ((make_member("a", offset=20), make_member("b", offset=0)), "member b overlaps another"),
        ((make_member("a", offset=-1),), "member a overlaps another"),
        ((make_member("a", stored_length=-1),), "member a overlaps another"),
        ((make_member("a", offset=4090),), "do not fit into the archive's 4096 bytes"),
        ((make_member("a", offset=0), make_member("a", offset=10)), "member a is there twice"),
    ],
)
def test_members_that_do_not_lie_side_by_side_are_refused(members: tuple[Member, ...], reason: str) -> None:
    with pytest.raises(ArchiveError, match=reason):
        read(make_manifest(members=members))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5))
def test_members_are_accepted_only_in_order_and_apart(places: list[tuple[int, int]]) -> None:
    members = tuple(make_member(str(n), offset=at, stored_length=size) for n, (at, size) in enumerate(places))
    used = [range(at, at + size) for at, size in places]
    apart = all(a.stop <= b.start for a, b in itertools.pairwise(used))
    manifest = make_manifest(members=members, archive=make_archive(size=60))
    if apart and all(at + size <= 60 for at, size in places):
        assert read(manifest) == manifest
    else:
        with pytest.raises(ArchiveError):
            read(manifest)


@pytest.mark.parametrize(("size", "part_size"), [(4096, 0), (4096, -1), (0, 1), (-1, 1)])
def test_sizes_that_no_archive_has_are_refused(size: int, part_size: int) -> None:
    with pytest.raises(ArchiveError, match="size"):
        read(make_manifest(archive=make_archive(size=size, part_size=part_size), members=()))


def test_the_fingerprint_is_that_of_the_bytes() -> None:
    assert fingerprint(b"x") == hashlib.sha256(b"x").hexdigest()


def contents(**changes: Any) -> Any:
    """Return a table of contents that fits ``make_manifest``, but for the changes of its one table."""
    table = make_table()
    values = {
        "desc": "TABLE DATA",
        "section": Section.DATA,
        "tag": table.table,
        "namespace": table.schema,
        "copy_statement": table.copy_statement,
        "filename": "11.dat",
    }
    return make_toc([make_entry(table.dump_id, **{**values, **changes})])


def test_a_fitting_table_of_contents_is_accepted() -> None:
    check_contents(contents(), make_manifest())


@pytest.mark.parametrize(
    "changes",
    [
        {"copy_statement": "COPY public.users (id) FROM stdin;\n"},
        {"filename": "12.dat"},
        {"filename": ""},
        {"tag": "orders"},
        {"namespace": "private"},
    ],
    ids=str,
)
def test_a_table_of_contents_that_differs_is_refused_with_the_table(changes: dict[str, Any]) -> None:
    with pytest.raises(ArchiveError, match=r"differ on the data of .*public\.users.*not the one of this manifest"):
        check_contents(contents(**changes), make_manifest())


def test_many_differing_tables_are_counted() -> None:
    members = tuple(make_member(f"dump/{n}.dat", table_data=make_table(dump_id=n, table=f"t{n:02}")) for n in range(30))
    with pytest.raises(ArchiveError, match=r"the data of public\.t00, .*public\.t09 and 20 more: "):
        check_contents(make_toc([make_entry()]), make_manifest(members=members))


def test_a_table_of_contents_of_another_archive_is_refused() -> None:
    with pytest.raises(ArchiveError, match="has 1 entries and the manifest says 2"):
        check_contents(contents(), make_manifest(toc_entries=2))
    elsewhere = make_dump(server=make_server(database="elsewhere"))
    with pytest.raises(ArchiveError, match="database pulse and the manifest of elsewhere"):
        check_contents(contents(), replace(make_manifest(), dump=elsewhere))
