"""What is asked of pg_receivewal, and what is believed of what it leaves: its exit code proves nothing."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.errors import WalBrokenError, WalDiffersError, WalError
from include.backup.wal.mark import RunMark
from include.backup.wal.plan import WalPlan
from include.backup.wal.receive import _look, _target, receive_command
from include.backup.wal.segment_file import check_segment
from include.backup.wal.segments import Segment

SIZE = 1 << 20
PAGE = 8192
SYSTEM = "7401234567890123456"
NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)


def segment(number: int, timeline: int = 1) -> Segment:
    return Segment(timeline=timeline, number=number, size=SIZE)


def content(one: Segment, *, written: int = SIZE, system: str = SYSTEM, timeline: int | None = None) -> bytes:
    """Return a segment as a server writes it, with pages up to ``written`` and zeros after that."""
    pages = []
    for offset in range(0, SIZE, PAGE):
        if offset >= written:
            pages.append(bytes(PAGE))
            continue
        short = struct.pack("<HHIQ", 0xD116, 2 if offset == 0 else 0, timeline or one.timeline, one.start + offset)
        long = short + struct.pack("<I4xQII", 0, int(system), SIZE, PAGE) if offset == 0 else short
        pages.append(long.ljust(PAGE, b"\x7f"))
    return b"".join(pages)


def make_plan() -> WalPlan:
    return WalPlan(
        backup_id="x",
        system_identifier=SYSTEM,
        timeline=1,
        server_version="17.10",
        server_major=17,
        segment_size=SIZE,
        may_switch=True,
        start_lsn="0/500000",
        chain_start="0/100000",
        lag_bytes=0,
        base_wanted=None,
    )


def mark(end: int) -> RunMark:
    return RunMark(lsn=end - 100, time=NOON, end=end, switched=end % SIZE == 0)


def test_it_streams_to_the_last_byte_and_no_further_and_the_password_is_no_argument() -> None:
    database = DatabaseConnection(
        host="db", port=5432, dbname="shop", user="backup", password=Secret("geheim"), sslmode="verify-full"
    )
    command = receive_command(program="pg_receivewal", database=database, slot="r", folder=Path("/s"), end=0x4000000)
    assert "--endpos=0/3FFFFFF" in command.argv
    assert {"--slot=r", "--directory=/s", "--no-loop"} <= set(command.argv)
    assert "geheim" not in " ".join(command.argv)
    assert command.environment["PGPASSWORD"] == "geheim"


def test_a_pass_ends_at_the_mark_or_with_the_last_whole_segment_of_its_batch() -> None:
    assert _target(mark(9 * SIZE), 5 * SIZE + 7, batch=10 * SIZE, size=SIZE) == 9 * SIZE
    assert _target(mark(9 * SIZE), 5 * SIZE + 7, batch=2 * SIZE, size=SIZE) == 7 * SIZE
    assert _target(mark(9 * SIZE), 5 * SIZE + 7, batch=1, size=SIZE) == 6 * SIZE
    assert _target(mark(9 * SIZE + 300), 9 * SIZE, batch=10 * SIZE, size=SIZE) == 9 * SIZE + 300


def test_what_begins_after_the_slot_is_refused_although_the_exit_code_was_zero(tmp_path: Path) -> None:
    for number in (7, 8):
        (tmp_path / segment(number).name).write_bytes(content(segment(number)))
    with pytest.raises(WalBrokenError, match=f"sent no {segment(5).name}"):
        _look(make_plan(), tmp_path, start=5 * SIZE + 40, target=9 * SIZE, mark=mark(9 * SIZE), started=0)


def test_a_hole_in_what_came_is_refused(tmp_path: Path) -> None:
    for number in (5, 7, 8):
        (tmp_path / segment(number).name).write_bytes(content(segment(number)))
    with pytest.raises(WalBrokenError, match=f"sent no {segment(6).name}"):
        _look(make_plan(), tmp_path, start=5 * SIZE + 40, target=9 * SIZE, mark=mark(9 * SIZE), started=0)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WalBrokenError, match=f"sent no {segment(5).name}"):
        _look(make_plan(), tmp_path, start=5 * SIZE, target=6 * SIZE, mark=mark(6 * SIZE), started=0)


def test_whole_segments_and_the_beginning_of_the_next_are_taken_and_later_ones_left(tmp_path: Path) -> None:
    for number in (5, 6):
        (tmp_path / segment(number).name).write_bytes(content(segment(number)))
    (tmp_path / f"{segment(7).name}.partial").write_bytes(content(segment(7), written=2 * PAGE))
    end = 7 * SIZE + PAGE + 300
    received = _look(make_plan(), tmp_path, start=5 * SIZE + 40, target=end, mark=mark(end), started=0)
    assert received.segments == (segment(5).name, segment(6).name)
    assert (received.partial, received.caught_up) == (segment(7).name, True)


@pytest.mark.parametrize("more", [PAGE, 5 * PAGE])
def test_a_beginning_has_the_same_bytes_however_much_came_behind_its_end(tmp_path: Path, more: int) -> None:
    end = 7 * SIZE + PAGE + 300
    path = tmp_path / f"{segment(7).name}.partial"
    sent = content(segment(7), written=2 * PAGE + more)
    path.write_bytes(sent)
    _look(make_plan(), tmp_path, start=7 * SIZE, target=end, mark=mark(end), started=0)
    assert path.read_bytes() == sent[: PAGE + 300] + bytes(SIZE - PAGE - 300)
    check_segment(path, segment(7), system_identifier=SYSTEM, end=end)


def test_a_beginning_that_does_not_reach_the_mark_is_refused(tmp_path: Path) -> None:
    end = 7 * SIZE + 3 * PAGE
    with pytest.raises(WalError, match="sent no beginning"):
        _look(make_plan(), tmp_path, start=7 * SIZE, target=end, mark=mark(end), started=0)
    (tmp_path / f"{segment(7).name}.partial").write_bytes(content(segment(7), written=2 * PAGE))
    with pytest.raises(WalDiffersError, match="has no page at byte 16384, which was written"):
        _look(make_plan(), tmp_path, start=7 * SIZE, target=end, mark=mark(end), started=0)


@pytest.mark.parametrize("written", [PAGE, 5 * PAGE, SIZE])
def test_a_segment_is_its_pages_and_then_zeros(tmp_path: Path, written: int) -> None:
    path = tmp_path / segment(5).name
    path.write_bytes(content(segment(5), written=written))
    check_segment(path, segment(5), system_identifier=SYSTEM)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-1], "bytes instead of"),
        (lambda data: bytes(SIZE), "is of the cluster 0 instead of"),
        (lambda data: content(segment(5), system="7"), "is of the cluster 7 instead of"),
        (lambda data: content(segment(6)), "begins with position 600000"),
        (lambda data: content(segment(5), timeline=2), "of timeline 2"),
        (lambda data: data[:PAGE] + bytes(PAGE) + data[2 * PAGE :], "has at byte 8192 what is no page"),
        (lambda data: data[: 3 * PAGE] + content(segment(9))[3 * PAGE :], "has at byte 24576 what is no page"),
        (lambda data: content(segment(5), written=PAGE)[:-1] + b"x", "has at byte 8192 what is no page"),
    ],
)
def test_a_file_that_is_not_the_segment_of_its_name_is_refused(tmp_path: Path, spoil: object, words: str) -> None:
    path = tmp_path / segment(5).name
    path.write_bytes(spoil(content(segment(5))))  # type: ignore[operator]
    with pytest.raises(WalDiffersError, match=words):
        check_segment(path, segment(5), system_identifier=SYSTEM)


def test_the_pages_before_a_switch_of_timelines_may_be_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / segment(5, timeline=2).name
    path.write_bytes(content(segment(5, timeline=2), timeline=1))
    check_segment(path, segment(5, timeline=2), system_identifier=SYSTEM)
