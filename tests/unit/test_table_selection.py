"""Which rows belong to the tables that a policy names, and which foreign keys an archive of them cannot have."""

from __future__ import annotations

from typing import Any

import pytest

from include.backup.errors import CriticalTableMissingError, TocError
from include.backup.inventory import find_backup
from include.backup.postgres.table_selection import RelationName, TableSelection, select_tables
from include.backup.postgres.toc import TocEntry
from include.backup.proof.gaps import find_gaps
from include.backup.proof.partial import keys_to_absent_rows, rows_left_out
from tests.support.builders import make_dump, make_entry, make_manifest, make_member, make_table, make_toc
from tests.unit.test_inventory import DAYS, FewBackups


def relation(oid: int, name: str, kind: str = "r", **more: Any) -> dict[str, Any]:
    schema, _, table = name.partition(".")
    return {"oid": oid, "schema": schema, "name": table, "kind": kind, "ancestors": [], "used_by": [], **more}


RELATIONS = [
    relation(1, "public.users"),
    relation(2, "public.events", "p"),
    relation(3, "public.events_2025", "p", ancestors=[2]),
    relation(4, "public.events_2025_a", ancestors=[3, 2]),
    relation(5, "public.noise"),
    relation(6, "public.users_id_seq", "S", used_by=[1]),
    relation(7, "public.noise_id_seq", "S", used_by=[5]),
    relation(8, "public.totals", "m"),
    relation(9, "public.happy", "v"),
    relation(10, "public.elsewhere", "f"),
]


def names(*texts: str) -> set[RelationName]:
    return {RelationName(*text.split(".", 1)) for text in texts}


def test_partitions_and_sequences_go_along_and_all_other_data_stays() -> None:
    found = select_tables(RELATIONS, ["public.users", "public.events"])
    assert found.with_rows == names("public.users", "public.events_2025_a")
    assert set(found.without_data) == names("public.noise", "public.noise_id_seq", "public.totals")


def test_a_partition_alone_can_be_critical() -> None:
    assert select_tables(RELATIONS, ["public.events_2025"]).with_rows == names("public.events_2025_a")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("public.orders", r"the critical table public\.orders does not exist"),
        ("public.Users", r"does not exist \(there is public\.users"),
        ("private.users", r"does not exist \(there is public\.users"),
        ("public.happy", r"public\.happy is a view, no table"),
        ("public.elsewhere", r"public\.elsewhere is a foreign table, no table"),
    ],
)
def test_what_is_not_there_is_named_with_what_is_alike(wanted: str, words: str) -> None:
    with pytest.raises(CriticalTableMissingError, match=words):
        select_tables(RELATIONS, ["public.users", wanted])


def made(*tables: str, filled: tuple[str, ...]) -> list[str]:
    """Return what differs for a dump with these tables, and rows for those of ``filled``."""
    entries = [make_entry(number, tag=name) for number, name in enumerate(tables, 1)]
    entries += [
        make_entry(100 + number, desc="TABLE DATA", tag=name, filename=f"{number}.dat")
        for number, name in enumerate(filled)
    ]
    selection = TableSelection(
        tables=(RelationName("public", "users"), RelationName("public", "events")),
        with_rows=frozenset(names("public.users", "public.part")),
        without_data=(),
    )
    return list(selection.differences(make_toc(entries)))


def test_a_dump_must_hold_exactly_the_rows_that_were_chosen() -> None:
    assert made("users", "events", "part", "noise", filled=("users", "part")) == []
    assert made("users", "events", "part", filled=("users",)) == ["public.part was dropped or renamed"]
    assert made("users", "part", filled=("users", "part")) == ["public.events was dropped or renamed"]
    assert made("users", "events", "part", "new", filled=("users", "part", "new")) == ["public.new was made or renamed"]


def key(number: int, definition: str, tag: str = "users x_fkey") -> TocEntry:
    return make_entry(number, desc="FK CONSTRAINT", tag=tag, definition=definition)


ADD = "ALTER TABLE ONLY {}\n    ADD CONSTRAINT x_fkey FOREIGN KEY ({}) REFERENCES {}(id){};\n"


def manifest(*tables: tuple[str, str], policy: tuple[str, ...] = ("public.users",)) -> Any:
    members = [
        make_member(f"dump/{number}.dat", offset=512 * number, table_data=make_table(schema=schema, table=table))
        for number, (schema, table) in enumerate(tables, 1)
    ]
    return make_manifest(kind="tables", members=tuple(members), dump=make_dump(tables=policy))


@pytest.mark.parametrize(
    ("definition", "refers_to"),
    [
        (ADD.format("public.users", "a", "public.regions", ""), "public.regions"),
        (ADD.format("public.users", "a", "public.regions", " ON DELETE CASCADE DEFERRABLE"), "public.regions"),
        (ADD.format("public.users", 'a, "b ""c"""', '"Odd ""S"""."T (x)"', ""), 'Odd "S".T (x)'),
        (ADD.format("public.users", "a", "public.users", ""), None),
        (ADD.format("public.users", "a", "public.regions", " NOT VALID"), None),
        (ADD.format("public.regions", "a", "public.users", ""), None),
        (ADD.format("public.regions", "a", "public.nations", ""), None),
    ],
)
def test_a_key_to_rows_that_are_not_there_is_found_by_its_two_ends(definition: str, refers_to: str | None) -> None:
    found = keys_to_absent_rows(make_toc([key(7, definition)]), manifest(("public", "users")))
    assert found == ({} if refers_to is None else {7: refers_to})


def test_rows_of_partitions_count_for_the_table_that_the_policy_names() -> None:
    definition = ADD.format("public.users", "a", "public.events", "")
    partial = manifest(("public", "users"), ("public", "events_2025"), policy=("public.users", "public.events"))
    assert keys_to_absent_rows(make_toc([key(7, definition)]), partial) == {}


def test_a_key_that_cannot_be_read_is_no_key_that_is_skipped() -> None:
    with pytest.raises(TocError, match="cannot be read"):
        keys_to_absent_rows(make_toc([key(7, "ALTER TABLE something else")]), manifest(("public", "users")))


def test_the_gaps_name_the_key_and_what_belongs_to_it() -> None:
    comment = make_entry(8, desc="COMMENT", tag="CONSTRAINT x_fkey ON users", dependencies=(7,))
    toc = make_toc([key(7, ADD.format("public.users", "a", "public.regions", "")), comment])
    gaps = find_gaps(toc, available_extensions=(), absent_rows={7: "public.regions"})
    assert gaps.skipped == {7, 8}
    assert gaps.reasons == (
        "FK CONSTRAINT public.users x_fkey refers to public.regions, whose rows are not in this archive",
        "COMMENT public.CONSTRAINT x_fkey ON users belongs to a foreign key to rows that are not in this archive",
    )
    assert gaps.skipped_table_data == ()


def test_a_proof_says_whose_rows_it_saw() -> None:
    text = rows_left_out(manifest(policy=("public.users", "public.events")))
    assert text == "the rows of all tables but public.users, public.events: they are not in this archive"


def test_latest_is_a_part_of_the_tables_only_where_the_tier_is_asked_for() -> None:
    hour = "pulse_messages_hourly_tables_20250121T103000Z_3fa9c1"
    catalog = FewBackups({DAYS[0]: (True, True), hour: (True, True)}, {})
    assert find_backup(catalog, "pulse_messages", "latest") == DAYS[0]
    assert find_backup(catalog, "pulse_messages", "latest", tier="hourly") == hour
