"""What hangs on an extension that a scratch server lacks."""

from __future__ import annotations

from hypothesis import strategies as st

from include.backup.postgres.toc import Section, TocEntry
from include.backup.proof.gaps import describe, find_gaps
from tests.support.builders import make_entry, make_toc
from tests.support.properties import given


def extension(dump_id: int, name: str) -> TocEntry:
    return make_entry(dump_id, desc="EXTENSION", tag=name, namespace="")


def test_nothing_is_left_out_when_every_extension_is_there() -> None:
    gaps = find_gaps(
        make_toc([extension(1, "hstore"), make_entry(2, dependencies=(1,))]), available_extensions={"hstore"}
    )
    assert (gaps.skipped, gaps.reasons, gaps.skipped_table_data) == (frozenset(), (), ())


def test_what_hangs_on_what_hangs_on_it_goes_too() -> None:
    toc = make_toc(
        [
            make_entry(5, desc="TABLE DATA", section=Section.DATA, filename="5.dat", dependencies=(3,)),
            make_entry(4, desc="VIEW", tag="v", dependencies=(3,)),
            make_entry(3, desc="TABLE", tag="t", dependencies=(2,)),
            make_entry(2, desc="TYPE", tag="box", dependencies=(1,)),
            extension(1, "postgis"),
            extension(6, "hstore"),
            make_entry(7, desc="TABLE", tag="free", dependencies=(6,)),
        ]
    )
    gaps = find_gaps(toc, available_extensions={"hstore"})
    assert gaps.skipped == {1, 2, 3, 4, 5}
    assert set(gaps.reasons) == {
        "EXTENSION postgis is not installed on the scratch server",
        *(
            f"{what} depends on an extension that is not installed on the scratch server"
            for what in ("TYPE public.box", "TABLE public.t", "VIEW public.v", "TABLE DATA public.users")
        ),
    }
    assert gaps.skipped_table_data == ("TABLE DATA public.users",)


def test_a_circle_of_dependencies_ends() -> None:
    toc = make_toc(
        [extension(1, "x"), make_entry(2, dependencies=(3,)), make_entry(3, dependencies=(2, 1)), make_entry(4)]
    )
    assert find_gaps(toc, available_extensions=()).skipped == {1, 2, 3}


def test_an_entry_without_schema_is_named_without_one() -> None:
    assert describe(make_entry(desc="SCHEMA", tag="shop", namespace="")) == "SCHEMA shop"


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10), st.sets(st.integers(0, 9)))
def test_exactly_what_can_be_reached_is_left_out(dependencies: list[list[int]], missing: set[int]) -> None:
    entries = [
        extension(number, f"e{number}") if number in missing else make_entry(number, dependencies=tuple(needed))
        for number, needed in enumerate(dependencies)
    ]

    def reaches(number: int, seen: frozenset[int] = frozenset()) -> bool:
        if number in seen or number >= len(entries):
            return False
        return number in missing or any(reaches(needed, seen | {number}) for needed in dependencies[number])

    gaps = find_gaps(make_toc(entries), available_extensions=())
    assert gaps.skipped == {number for number in range(len(entries)) if reaches(number)}
    assert len(gaps.reasons) == len(gaps.skipped)
