"""How one table's lines are shared out among streams, and which tables are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from include.backup.restore import streams
from include.backup.restore.streams import Stream, share_out
from include.backup.restore.tables import SPLIT_BYTES, TableTask, to_be_split
from tests.support.properties import given
from tests.support.records import make_member


class Taken(Stream):
    """A stream that only keeps what it is given; it sends nothing, so that it always has as much to do."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = False

    @property
    def waiting(self) -> int:
        return len(self.content)

    def put(self, chunk: bytes) -> None:
        assert not self.ended
        self.content += chunk

    def end(self) -> None:
        self.ended = True


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=80), st.integers(1, 40))
def test_every_line_goes_whole_to_one_stream(lines: list[bytes], size: int) -> None:
    content = b"".join(line + b"\n" for line in lines)
    taken = [Taken() for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "TURN_BYTES", 32)
        share_out(pieces(content, size), taken)
    assert all(stream.ended for stream in taken)
    assert all(not stream.content or stream.content.endswith(b"\n") for stream in taken)
    found = [line for stream in taken for line in stream.content.splitlines(keepends=True)]
    assert sorted(b"".join(found).split(b"\n")) == sorted(content.split(b"\n"))
    assert sum(len(stream.content) for stream in taken) == len(content)


def test_the_stream_that_has_least_to_do_is_next() -> None:
    taken = [Taken() for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "TURN_BYTES", 10)
        share_out(pieces(b"123456789\n" * 40, 10), taken)
    assert abs(len(taken[0].content) - len(taken[1].content)) <= 20


def make_tasks(*megabytes: int) -> list[TableTask]:
    tasks = []
    for number, size in enumerate(megabytes):
        member = make_member(name=f"dump/{number}.dat.zst", stored_length=1, length=size << 20)
        assert member.table_data is not None
        tasks.append(TableTask(member=member, table=member.table_data, freeze=True))
    return tasks


@pytest.mark.parametrize(
    ("sizes", "jobs", "split"),
    [
        ((800, 60, 60, 60), 3, [800]),
        ((800, 100, 100), 2, [800]),
        ((320, 320, 320), 2, []),
        ((320, 320, 320), 3, []),
        ((400, 350, 250), 4, [400, 350, 250]),
        ((800, 500, 30), 3, [800, 500]),
        ((800, 100), 1, []),
        ((20, 1), 4, []),
        ((), 4, []),
    ],
)
def test_only_a_table_that_is_more_than_its_share_is_split(sizes: tuple[int, ...], jobs: int, split: list[int]) -> None:
    chosen, others = to_be_split(make_tasks(*sizes), jobs)
    assert [task.member.length >> 20 for task in chosen] == split
    assert sorted(task.member.length >> 20 for task in (*chosen, *others)) == sorted(sizes)
    assert SPLIT_BYTES == 32 << 20
