"""Names, positions and keys of WAL: arithmetic that must hold for every timeline, size and position."""

from __future__ import annotations

import doctest
import random
from datetime import UTC, datetime

import pytest

from include.backup.errors import WalNameError
from include.backup.wal import chain, history, keys, lsn, segments
from include.backup.wal.history import parse_history
from include.backup.wal.keys import ClusterKeys, partial_of_key, run_key, segment_of_key
from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.segments import Segment

SIZES = tuple(1 << shift for shift in range(20, 31))
KEYS = ClusterKeys(system_identifier="7401234567890123456")


def cases(count: int = 2000) -> list[tuple[int, int, int]]:
    """Timelines, sizes and positions, also at the bounds of segments and of logs."""
    chance = random.Random(20260511)  # noqa: S311
    found = []
    for _ in range(count):
        size = chance.choice(SIZES)
        position = chance.choice(
            (chance.randrange(1, 1 << 63), chance.randrange(1, 1 << 34), (1 << 32) * chance.randrange(1, 9))
        )
        found.append((chance.randrange(1, 1 << 32), size, position + chance.choice((-1, 0, 1))))
    return found


@pytest.mark.parametrize("module", [lsn, segments, history, keys, chain], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_a_position_is_read_as_it_was_written() -> None:
    for _, _, position in cases():
        assert parse_lsn(format_lsn(position)) == position


def test_a_name_is_read_as_it_was_written_and_sorts_as_the_log_does() -> None:
    found = [Segment.at(position, timeline=timeline, size=size) for timeline, size, position in cases()]
    for segment in found:
        assert Segment.parse(segment.name, size=segment.size) == segment
    for size in SIZES:
        same = [segment for segment in found if segment.size == size]
        assert sorted(same) == sorted(same, key=lambda segment: segment.name)


def test_a_segment_holds_its_positions_and_no_other() -> None:
    for timeline, size, position in cases():
        segment = Segment.at(position, timeline=timeline, size=size)
        assert segment.start <= position < segment.end
        assert segment.end == segment.next.start
        assert Segment.before(segment.end, timeline=timeline, size=size) == segment
        assert Segment.before(segment.end + 1, timeline=timeline, size=size) == segment.next


def test_keys_of_segments_and_of_beginnings_are_told_apart() -> None:
    for timeline, size, position in cases(200):
        segment = Segment.at(position, timeline=timeline, size=size)
        complete, beginning = KEYS.segment(segment), KEYS.partial(segment, position)
        assert segment_of_key(complete, size=size) == segment
        assert segment_of_key(beginning, size=size) is None
        assert partial_of_key(beginning, size=size) == (segment, position)
        assert partial_of_key(complete, size=size) is None
        assert not beginning.startswith(KEYS.timeline(timeline))


def test_other_objects_of_the_folder_are_no_segments() -> None:
    for key in (KEYS.history(2), "incremental/7401/wal/00000001/x.zst", run_key("shop", datetime.now(UTC), "0123ab")):
        assert segment_of_key(key, size=16 << 20) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0000000100000016000001FF",
        "000000010000001600000100",
        "00000000000000160000007F",
        "00000001000000160000007f",
        "00000001000000160000007F.partial",
        "00000002.history",
    ],
)
def test_what_is_no_segment_is_refused_by_name(name: str) -> None:
    with pytest.raises(WalNameError, match="is no WAL segment"):
        Segment.parse(name, size=16 << 20)


@pytest.mark.parametrize("size", [0, 3 << 20, 1 << 19, 1 << 31])
def test_sizes_that_no_cluster_has_are_refused(size: int) -> None:
    with pytest.raises(WalNameError, match="is no size of WAL segments"):
        Segment.at(1, timeline=1, size=size)


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/100000000", "x/y", "0/1\n", "-1/0", "0x1/2"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(WalNameError, match="is no LSN"):
        parse_lsn(text)


@pytest.mark.parametrize("identifier", ["", "7401/..", "abc", "-1", "1" * 21])
def test_what_is_no_system_identifier_makes_no_key(identifier: str) -> None:
    with pytest.raises(WalNameError, match="is no system identifier"):
        ClusterKeys(system_identifier=identifier)


def test_a_history_file_is_read_with_comments_and_empty_lines() -> None:
    content = b"1\t0/5000000\tno recovery target specified\n\n# x\n2\t0/7000098\tbefore 2026-05-11 02:00:00+00\n"
    found = parse_history("00000003.history", content)
    assert found.path() == ((1, 0), (2, 0x5000000), (3, 0x7000098))
    assert found.holds(1, 0x5000000)
    assert not found.holds(1, 0x5000001)
    assert found.holds(3, 1 << 60)
    assert not found.holds(4, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("3.history", b""),
        ("00000003.history", b"one\t0/5000000\tx\n"),
        ("00000003.history", b"1\n"),
        ("00000003.history", b"1\tx\ty\n"),
        ("00000003.history", b"2\t0/7000000\tx\n1\t0/8000000\tx\n"),
        ("00000003.history", b"1\t0/7000000\tx\n2\t0/6000000\tx\n"),
        ("00000003.history", b"3\t0/7000000\tx\n"),
    ],
)
def test_a_damaged_history_file_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(WalNameError):
        parse_history(name, content)
