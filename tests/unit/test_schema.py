"""The comparison of two tables of contents: what counts as equal, and what is named as different."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.postgres.toc import Section, TocEntry
from include.backup.proof.record import Difference
from include.backup.proof.schema import BELONGING, DATA_ENTRIES, compare_populated, compare_schema, sequence_entries
from tests.support.builders import make_entry, make_toc
from tests.support.properties import given

ADMIN = "scratch_admin"


def compare(archived: list[TocEntry], restored: list[TocEntry], **options: Any) -> list[Difference]:
    options = {"extension_owner": ADMIN, **options}
    return list(compare_schema(make_toc(archived), make_toc(restored), **options)[1])


def texts(differences: list[Difference]) -> list[str]:
    return [str(difference) for difference in differences]


ENTRIES = st.lists(
    st.builds(
        make_entry,
        st.integers(1, 9),
        desc=st.sampled_from(["TABLE", "INDEX", "ACL"]),
        tag=st.sampled_from(["a", "b"]),
        owner=st.sampled_from(["x", "y"]),
        definition=st.sampled_from(["CREATE 1;\n", "CREATE 2;\n"]),
    ),
    max_size=6,
)


def shapes(entries: list[TocEntry]) -> list[tuple[str, ...]]:
    return sorted((entry.desc, entry.tag, entry.owner, entry.definition) for entry in entries)


@given(ENTRIES, ENTRIES)
def test_two_schemas_are_equal_only_with_the_same_objects_as_often(one: list[TocEntry], other: list[TocEntry]) -> None:
    assert (compare(one, other) == []) == (shapes(one) == shapes(other))


def test_numbers_order_and_dependencies_do_not_count() -> None:
    entries = [make_entry(1, tag="a"), make_entry(2, tag="b", dependencies=(1,))]
    again = [make_entry(8, tag="b"), make_entry(9, tag="a", dependencies=(8,))]
    count, differences = compare_schema(make_toc(entries), make_toc(again), extension_owner=ADMIN)
    assert (count, differences) == (6, ())


def test_each_kind_of_difference_is_named() -> None:
    archived = [make_entry(1, tag="gone"), make_entry(2, tag="owned"), make_entry(3, tag="bent")]
    restored = [
        make_entry(1, tag="new"),
        make_entry(2, tag="owned", owner="other"),
        make_entry(3, tag="bent", definition="CREATE TABLE public.users (\n    id bigint\n);\n"),
    ]
    assert texts(compare(archived, restored)) == [
        "TABLE public.bent: differs: 'id integer' became 'id bigint'",
        "TABLE public.gone: is not there after the restore",
        "TABLE public.new: is there after the restore but not in the archive",
        "TABLE public.owned: has the owner other instead of postgres",
    ]


def test_objects_of_one_name_are_told_apart_by_their_owner() -> None:
    """Default privileges of two roles have the same name."""
    archived = [make_entry(desc="DEFAULT ACL", owner=owner, definition=f"GRANT {owner};\n") for owner in ("a", "b")]
    restored = [archived[1], make_entry(desc="DEFAULT ACL", owner="a", definition="GRANT c;\n")]
    assert texts(compare(archived, restored)) == ["DEFAULT ACL public.users: differs: 'GRANT a;' became 'GRANT c;'"]
    assert len(compare(archived, [])) == 2
    assert len(compare([], archived)) == 2


@pytest.mark.parametrize("desc", sorted(DATA_ENTRIES))
def test_data_is_compared_elsewhere(desc: str) -> None:
    assert compare([make_entry(desc=desc)], []) == []


@pytest.mark.parametrize("desc", sorted(BELONGING))
def test_what_belongs_to_a_member_of_an_extension_may_have_the_owner_of_the_copy(desc: str) -> None:
    assert compare([make_entry(desc=desc)], [make_entry(desc=desc, owner=ADMIN)]) == []
    bent = make_entry(desc=desc, owner=ADMIN, definition="CREATE other;\n")
    assert len(compare([make_entry(desc=desc)], [bent])) == 1
    assert len(compare([make_entry(desc=desc)], [make_entry(desc=desc, owner="other")])) == 1


@pytest.mark.parametrize("desc", ["TABLE", "FUNCTION", "SCHEMA", "VIEW", "SEQUENCE", "TYPE", "DEFAULT ACL"])
def test_nothing_else_may(desc: str) -> None:
    found = compare([make_entry(desc=desc)], [make_entry(desc=desc, owner=ADMIN)])
    assert texts(found) == [f"{desc} public.users: has the owner {ADMIN} instead of postgres"]


def test_grants_are_equal_in_any_order_of_one_grantor() -> None:
    first = "GRANT A;\nGRANT B;\nSET SESSION AUTHORIZATION x;\nGRANT C;\nGRANT D;\nRESET SESSION AUTHORIZATION;\n"
    second = "GRANT B;\nGRANT A;\nSET SESSION AUTHORIZATION x;\nGRANT D;\nGRANT C;\nRESET SESSION AUTHORIZATION;\n"
    third = "GRANT C;\nGRANT A;\nSET SESSION AUTHORIZATION x;\nGRANT B;\nGRANT D;\nRESET SESSION AUTHORIZATION;\n"
    entries = [make_entry(desc="ACL", definition=text) for text in (first, second, third)]
    assert compare([entries[0]], [entries[1]]) == []
    assert len(compare([entries[0]], [entries[2]])) == 1


def test_settings_of_a_database_are_equal_in_any_order() -> None:
    one, other = "ALTER DATABASE d SET a TO ';';\n", "ALTER ROLE r IN DATABASE d SET b TO 'x';\n"
    properties = [make_entry(desc="DATABASE PROPERTIES", definition=text) for text in (one + other, other + one, one)]
    assert compare([properties[0]], [properties[1]]) == []
    assert len(compare([properties[0]], [properties[2]])) == 1


def test_what_was_left_out_is_not_missed() -> None:
    archived = [make_entry(1, tag="a"), make_entry(2, tag="b")]
    assert compare(archived, [archived[1]], skipped={1}) == []
    assert texts(compare(archived, [archived[0]], skipped={1})) == [
        "TABLE public.a: is there after the restore but not in the archive",
        "TABLE public.b: is not there after the restore",
    ]


def test_a_replaced_locale_excuses_the_database_alone() -> None:
    archived = [make_entry(1, desc="DATABASE", definition="CREATE DATABASE d LOCALE 'x';\n"), make_entry(2)]
    restored = [make_entry(1, desc="DATABASE", definition="CREATE DATABASE d LOCALE 'y';\n"), make_entry(2)]
    assert len(compare(archived, restored)) == 1
    assert compare(archived, restored, locale_replaced=True) == []
    assert len(compare(archived, restored[:1], locale_replaced=True)) == 1


def test_secrets_of_a_definition_are_not_shown() -> None:
    archived = [make_entry(desc="USER MAPPING", definition="OPTIONS (user 'a', password 'canary');\n")]
    restored = [make_entry(desc="USER MAPPING", definition="OPTIONS (user 'a', password 'other');\n")]
    (difference,) = compare(archived, restored)
    assert "canary" not in str(difference)
    assert "other'" not in str(difference)


def test_materialized_views_are_filled_on_both_sides_or_none() -> None:
    toc = make_toc(
        [make_entry(n, desc="MATERIALIZED VIEW DATA", tag=tag) for n, tag in enumerate(["filled", "not", "skipped"])]
    )
    found = compare_populated(toc, ["public.filled", "public.more"], skipped={2})
    assert texts(list(found)) == [
        "MATERIALIZED VIEW public.more: is populated, in the archive it is not",
        "MATERIALIZED VIEW public.not: is not populated after the restore",
    ]


def test_sequences_are_those_that_the_archive_sets() -> None:
    def setting(number: int, name: str) -> TocEntry:
        definition = f"SELECT pg_catalog.setval('{name}', {number}, true);\n"
        return make_entry(number, desc="SEQUENCE SET", section=Section.DATA, definition=definition)

    toc = make_toc([setting(1, "public.a"), setting(2, "public.b"), make_entry(3, desc="SEQUENCE")])
    assert list(sequence_entries(toc, skipped={2})) == [("public.a", 1, True)]
