"""Reading the stored chain: what lies where, from any segment on, and never more than was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from include.backup.errors import WalNameError
from include.backup.store import ObjectInfo
from include.backup.wal.chain import Span
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment
from include.backup.wal.stored import read_chain, stored_segments, stored_timelines
from tests.support.memory_store import MemoryStore

SIZE = 16 << 20
KEYS = ClusterKeys(system_identifier="7401234567890123456")
OTHER = ClusterKeys(system_identifier="740123456789012345")
HISTORY = b"1\t0/5000000\tno recovery target specified\n"


def segment(timeline: int, number: int) -> Segment:
    return Segment(timeline=timeline, number=number, size=SIZE)


def stored(*numbers: tuple[int, int], keys: ClusterKeys = KEYS) -> dict[str, bytes]:
    return {keys.segment(segment(*one)): b"x" for one in numbers}


class CountingStore(MemoryStore):
    """Counts what was listed."""

    listed = 0

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        for item in super().list(prefix, start_after=start_after):
            self.listed += 1
            yield item


def test_the_chain_has_segments_beginnings_and_histories_of_this_cluster_alone() -> None:
    store = MemoryStore(
        {
            **stored((1, 3), (1, 4), (2, 5), (2, 7)),
            **stored((1, 1), (4, 1), keys=OTHER),
            KEYS.partial(segment(2, 8), 0x8000100): b"x",
            KEYS.partial(segment(2, 8), 0x8000200): b"x",
            KEYS.history(2): HISTORY,
            f"{KEYS.prefix}base/anything.tar": b"x",
        }
    )
    chain = read_chain(store, KEYS, size=SIZE)
    assert chain.spans == {1: (Span(first=3, last=4),), 2: (Span(first=5, last=5), Span(first=7, last=7))}
    assert chain.partials == {segment(2, 8): 0x8000200}
    assert chain.reach(3 * SIZE, timeline=1).end == 6 * SIZE


def test_a_timeline_with_nothing_but_a_beginning_is_seen() -> None:
    store = MemoryStore({KEYS.partial(segment(3, 8), 0x8000100): b"x"})
    assert stored_timelines(store, KEYS) == (3,)
    assert read_chain(store, KEYS, size=SIZE).partials == {segment(3, 8): 0x8000100}


def test_a_listing_begins_with_the_segment_that_is_asked_for() -> None:
    store = CountingStore(stored(*((1, number) for number in range(1000))))
    found = list(stored_segments(store, KEYS, 1, size=SIZE, since=segment(1, 990)))
    assert [one.number for one in found] == list(range(990, 1000))
    assert store.listed == 10


def test_since_leaves_out_older_timelines() -> None:
    store = MemoryStore(stored((1, 3), (2, 5), (2, 6), (3, 7)))
    chain = read_chain(store, KEYS, size=SIZE, since=segment(2, 6))
    assert chain.spans == {2: (Span(first=6, last=6),), 3: (Span(first=7, last=7),)}


def test_a_damaged_history_is_named() -> None:
    store = MemoryStore({KEYS.history(2): b"nonsense\n"})
    with pytest.raises(WalNameError, match=r"00000002\.history"):
        read_chain(store, KEYS, size=SIZE)


def test_a_long_listing_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.wal.stored.PROGRESS_OBJECTS", 4)
    told: list[int] = []
    store = MemoryStore(stored(*((1, number) for number in range(10))))
    read_chain(store, KEYS, size=SIZE, on_progress=told.append)
    assert told == [4, 8]
