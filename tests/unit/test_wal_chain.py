"""The stored chain and the windows that it allows, compared with the plainest possible model of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from include.backup.wal.chain import Chain, needed_segments, spans_of
from include.backup.wal.history import History, Switch
from include.backup.wal.segments import Segment
from include.backup.wal.window import BasePoint, Mark, current, windows

SIZE = 1 << 20
NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)
# Timeline 2 branched off in the middle of segment 12, timeline 3 at the very beginning of segment 20.
SECOND = History(timeline=2, ancestors=(Switch(timeline=1, lsn=12 * SIZE + 77),))
THIRD = History(timeline=3, ancestors=(*SECOND.ancestors, Switch(timeline=2, lsn=20 * SIZE)))


def segment(timeline: int, number: int) -> Segment:
    return Segment(timeline=timeline, number=number, size=SIZE)


def chain_of(numbers: Iterable[tuple[int, int]], **more: Any) -> Chain:
    return Chain(size=SIZE, spans=spans_of(segment(*one) for one in sorted(numbers)), **more)


def base(start: int, **overrides: Any) -> BasePoint:
    values: dict[str, Any] = {
        "backup_id": f"base-{start}",
        "timeline": 1,
        "start": start * SIZE + 40,
        "end": start * SIZE + 300,
        "finished_at": NOON + timedelta(minutes=start),
        "proven": True,
    }
    return BasePoint(**{**values, **overrides})


def marks(*numbers: int, timeline: int = 1) -> list[Mark]:
    """Return a mark near the end of each segment, a minute after the base that begins there would be finished."""
    return [
        Mark(timeline=timeline, lsn=(number + 1) * SIZE - 5, time=NOON + timedelta(minutes=number + 1))
        for number in numbers
    ]


def test_spans_gaps_and_reach_agree_with_a_set_of_numbers() -> None:
    chance = random.Random(7)  # noqa: S311
    for _ in range(300):
        there = {number for number in range(5, 45) if chance.random() < chance.choice((0.5, 0.9, 1.0))}
        chain = chain_of((1, number) for number in there)
        assert chain.segments == len(there)
        assert {n for n in range(60) if chain.has(segment(1, n))} == there
        missing = {n for gap in chain.gaps() for n in range(gap.first.number, gap.last.number + 1)}
        assert missing == (set(range(min(there), max(there))) - there if there else set())
        start = chance.randrange(0, 50)
        following = start
        while following in there:
            following += 1
        reach = chain.reach(start * SIZE + 9, timeline=1)
        assert reach.missing == segment(1, following)
        assert reach.end == (following * SIZE if following > start else start * SIZE + 9)


def test_a_million_segments_are_one_span() -> None:
    spans = spans_of(segment(1, number) for number in range(1_000_000))
    assert {timeline: len(found) for timeline, found in spans.items()} == {1: 1}


def test_recovery_crosses_to_the_newer_timeline_in_the_segment_where_it_branched_off() -> None:
    chain = chain_of(
        [*((1, n) for n in range(3, 12)), *((2, n) for n in range(12, 20)), *((3, n) for n in range(20, 25))],
        histories={2: SECOND, 3: THIRD},
    )
    reach = chain.reach(3 * SIZE + 1, timeline=1)
    assert (reach.timeline, reach.end) == (3, 25 * SIZE)
    needed = list(needed_segments(11 * SIZE, 21 * SIZE, timeline=1, target=THIRD, size=SIZE))
    assert needed == [segment(1, 11), *(segment(2, n) for n in range(12, 20)), segment(3, 20)]


def test_the_old_timelines_copy_of_the_segment_does_not_stand_in_for_the_new_ones() -> None:
    chain = chain_of([*((1, n) for n in range(3, 16)), *((2, n) for n in range(13, 18))], histories={2: SECOND})
    reach = chain.reach(3 * SIZE, timeline=1)
    assert reach.missing == segment(2, 12)
    assert reach.end == 12 * SIZE


def test_what_the_old_primary_wrote_after_the_failover_belongs_to_its_own_timeline() -> None:
    chain = chain_of([*((1, n) for n in range(3, 16)), *((2, n) for n in range(12, 18))], histories={2: SECOND})
    reach = chain.reach(14 * SIZE, timeline=1)
    assert (reach.timeline, reach.end) == (1, 16 * SIZE)


def test_the_beginning_of_the_next_segment_lengthens_the_reach_and_any_other_does_not() -> None:
    ending = {segment(1, 6): 6 * SIZE + 500, segment(1, 9): 9 * SIZE + 500}
    reach = chain_of([(1, 4), (1, 5)], partials=ending).reach(4 * SIZE, timeline=1)
    assert (reach.end, reach.partial, reach.missing) == (6 * SIZE + 500, True, segment(1, 6))


def test_a_window_begins_at_the_base_backup_and_ends_at_the_last_marked_commit() -> None:
    chain = chain_of((1, n) for n in range(3, 10))
    (window,) = windows([base(4)], chain, marks(2, 5, 9, 12))
    assert window.earliest == NOON + timedelta(minutes=4)
    assert window.latest == NOON + timedelta(minutes=10)
    assert window.end == 10 * SIZE


def test_a_base_backup_whose_wal_was_not_stored_up_to_its_end_has_no_window() -> None:
    chain = chain_of((1, n) for n in range(3, 10))
    unfinished = base(8, end=11 * SIZE)
    assert windows([base(2), unfinished], chain, marks(9)) == ()


def test_no_window_reaches_across_a_gap() -> None:
    chain = chain_of([*((1, n) for n in range(3, 8)), *((1, n) for n in range(9, 14))])
    found = windows([base(4)], chain, marks(6, 12))
    assert found[0].latest == NOON + timedelta(minutes=7)
    assert found[0].missing == segment(1, 8)
    assert current(found, timeline=1, lsn=14 * SIZE) is None


def test_the_current_window_begins_with_the_oldest_base_backup_that_reaches_the_end() -> None:
    chain = chain_of([*((1, n) for n in range(3, 8)), *((1, n) for n in range(9, 20))])
    found = windows([base(4), base(10), base(15)], chain, marks(6, 12, 19))
    window = current(found, timeline=1, lsn=20 * SIZE)
    assert window is not None
    assert window.base.backup_id == "base-10"


def test_commits_of_an_abandoned_timeline_do_not_lengthen_a_window() -> None:
    chain = chain_of([*((1, n) for n in range(3, 16)), *((2, n) for n in range(12, 14))], histories={2: SECOND})
    (window,) = windows([base(4)], chain, [*marks(5, 15), *marks(13, timeline=2)])
    assert (window.timeline, window.latest) == (2, NOON + timedelta(minutes=14))


def test_a_base_backup_without_a_commit_after_it_can_be_recovered_to_its_own_end() -> None:
    (window,) = windows([base(4)], chain_of((1, n) for n in range(3, 6)), marks(3))
    assert window.earliest == window.latest == base(4).finished_at
