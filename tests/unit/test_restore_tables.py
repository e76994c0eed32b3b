"""How table data is read: small neighbours together, the largest first, each member's bytes and no others."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from include.backup.archive.reader import ArchiveReader
from include.backup.manifest import Member
from include.backup.restore.tables import RUN_BYTES, SMALL_BYTES, TableTask, side_by_side
from include.backup.store import ObjectStore
from tests.support.properties import given
from tests.support.records import make_manifest, make_member

KIB = 1024


class Bytes(ObjectStore):
    """A store of one object that counts its reads and hands out odd pieces."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        self.reads += 1
        end = offset + length
        while offset < end:
            step = min(offset * 7919 % 700 + 1, end - offset)
            yield self.content[offset : offset + step]
            offset += step


def make_tasks(*sizes: int, gap: int = 512) -> list[TableTask]:
    tasks, offset = [], 0
    for number, size in enumerate(sizes):
        offset += gap
        member = make_member(name=f"dump/{number}.dat.zst", offset=offset, stored_length=size, length=size * 4)
        assert member.table_data is not None
        tasks.append(TableTask(member=member, table=member.table_data, freeze=True))
        offset += size
    return tasks


def names(runs: list[list[TableTask]]) -> list[list[str]]:
    return [[task.member.name.removeprefix("dump/").removesuffix(".dat.zst") for task in run] for run in runs]


def test_small_neighbours_are_one_run_and_the_largest_run_comes_first() -> None:
    tasks = make_tasks(KIB, 2 * KIB, 100 * SMALL_BYTES, KIB, 3 * KIB)
    assert names(side_by_side(tasks)) == [["2"], ["3", "4"], ["0", "1"]]


def test_tables_with_much_between_them_are_read_apart() -> None:
    assert names(side_by_side(make_tasks(2 * KIB, KIB, gap=2 * SMALL_BYTES))) == [["0"], ["1"]]


@given(st.lists(st.integers(0, 3 * SMALL_BYTES), max_size=40))
def test_every_table_is_in_one_run_and_no_run_is_long(sizes: list[int]) -> None:
    tasks = make_tasks(*sizes)
    runs = side_by_side(tasks)
    assert sorted(task.member.name for run in runs for task in run) == sorted(task.member.name for task in tasks)
    for run in runs:
        last = run[-1].member
        assert len(run) == 1 or last.offset + last.stored_length - run[0].member.offset <= RUN_BYTES


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.integers(0, 900))
def test_a_run_gives_each_member_its_own_bytes_by_one_read(sizes: list[int], gap: int) -> None:
    members = [task.member for task in make_tasks(*sizes, gap=gap)]
    content = bytes(number * number % 251 for number in range(sum(sizes) + gap * len(sizes)))
    store = Bytes(content)
    reader = ArchiveReader(store, make_manifest(members=tuple(members)))
    found = {member.name: b"".join(chunks) for member, chunks in reader.stored_run(members)}
    assert found == {member.name: bytes_of(content, member) for member in members}
    assert store.reads <= 1


def bytes_of(content: bytes, member: Member) -> bytes:
    return content[member.offset : member.offset + member.stored_length]
