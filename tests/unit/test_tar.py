"""The archive as a tar: Python's own module reads it back, and any range of it is the same bytes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import strategies as st

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.errors import StagingError
from tests.support.properties import given

MODIFIED = 1_770_000_000
GIB = 1 << 30
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=120)
FILES = st.dictionaries(NAMES.map(lambda name: f"dump/{name}"), st.binary(max_size=1500), min_size=1, max_size=5)


class Folder:
    """Staged files in memory would be no files; this writes each content once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0

    def layout(self, contents: dict[str, bytes]) -> TarLayout:
        members = []
        for name, content in contents.items():
            self._number += 1
            path = self._path / str(self._number)
            path.write_bytes(content)
            members.append(FileMember(name=name, path=path, length=len(content)))
        return TarLayout(members, modified_at=MODIFIED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("staged"))


def unpacked(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


@given(FILES)
def test_python_reads_it_back(folder: Folder, contents: dict[str, bytes]) -> None:
    layout = folder.layout(contents)
    archive = layout.read(0, layout.size)
    assert len(archive) == layout.size
    assert layout.size % tarfile.BLOCKSIZE == 0
    assert unpacked(archive) == contents
    assert archive.endswith(bytes(2 * tarfile.BLOCKSIZE))
    for member in layout.members:
        assert archive[member.offset : member.offset + member.length] == contents[member.name]


@given(FILES, st.data())
def test_any_range_is_the_same_bytes(folder: Folder, contents: dict[str, bytes], data: st.DataObject) -> None:
    layout = folder.layout(contents)
    archive = layout.read(0, layout.size)
    offset = data.draw(st.integers(0, layout.size))
    length = data.draw(st.integers(0, layout.size))
    expected = archive[offset : offset + length]
    assert layout.read(offset, length) == expected
    assert layout.open(offset, length).read() == expected
    reader = io.BufferedReader(layout.open(offset, length), buffer_size=data.draw(st.integers(1, 700)))
    assert reader.read() == expected


@given(st.integers(1, 3000), st.data())
def test_parts_put_together_are_the_whole(folder: Folder, part_size: int, data: st.DataObject) -> None:
    layout = folder.layout(data.draw(FILES))
    parts = [layout.open(start, part_size) for start in range(0, layout.size, part_size)]
    assert sum(map(len, parts)) == layout.size
    assert b"".join(part.read() for part in parts) == layout.read(0, layout.size)


def test_a_reader_seeks_within_its_range_and_no_further(folder: Folder) -> None:
    layout = folder.layout({"dump/a": bytes(range(200)) * 5})
    archive = layout.read(0, layout.size)
    reader = layout.open(100, 900)
    assert (len(reader), reader.tell(), reader.readable(), reader.seekable()) == (900, 0, True, True)
    assert reader.seek(-5, io.SEEK_END) == 895
    assert reader.read() == archive[995:1000]
    assert reader.seek(10) == 10
    assert reader.seek(3, io.SEEK_CUR) == 13
    assert reader.read(4) == archive[113:117]
    assert reader.seek(5_000) == 900
    assert reader.read(7) == b""
    assert reader.seek(-5_000, io.SEEK_CUR) == 0


def test_the_bytes_depend_on_names_and_contents_alone(folder: Folder) -> None:
    contents = {"README.txt": b"read me", "dump/toc.dat": b"PGDMP"}
    first, second = folder.layout(contents), folder.layout(contents)
    assert first.read(0, first.size) == second.read(0, second.size)
    with tarfile.open(fileobj=io.BytesIO(first.read(0, first.size))) as tar:
        for info in tar:
            assert (info.mode, info.uid, info.gid, info.uname, info.mtime) == (0o600, 0, 0, "", MODIFIED)


@pytest.mark.parametrize(
    "name",
    ["dump/" + "x" * 95, "dump/" + "x" * 96, "dump/" + "y" * 250, "dump/" + "é" * 60, "dump/with space", "dump/🎈"],
)
def test_long_and_foreign_names(folder: Folder, name: str) -> None:
    layout = folder.layout({name: b"content", "dump/after": b"after"})
    assert unpacked(layout.read(0, layout.size)) == {name: b"content", "dump/after": b"after"}


@pytest.mark.parametrize("length", [8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 5000 * GIB])
def test_members_of_more_than_8_gib(tmp_path: Path, length: int) -> None:
    """The size no longer fits the classic header; read from a sparse file, without its content."""
    big, small = tmp_path / "big", tmp_path / "small"
    big.touch()
    os.truncate(big, length)
    small.write_bytes(b"small")
    layout = TarLayout(
        [
            FileMember(name="dump/1.dat.zst", path=big, length=length),
            FileMember(name="dump/2.dat.zst", path=small, length=5),
        ],
        modified_at=MODIFIED,
    )
    first, second = layout.members
    header = layout.read(0, first.offset)
    info = tarfile.TarInfo.frombuf(header[-tarfile.BLOCKSIZE :], "utf-8", "strict")
    assert info.name == "dump/1.dat.zst"
    with tarfile.open(fileobj=Tail(layout)) as tar:
        infos = [(info.name, info.size, info.offset_data) for info in tar]
    assert infos == [("dump/1.dat.zst", length, first.offset), ("dump/2.dat.zst", 5, second.offset)]
    assert layout.read(second.offset, 5) == b"small"


class Tail(io.RawIOBase):
    """The whole layout as a file, for the module that only reads headers of it."""

    def __init__(self, layout: TarLayout) -> None:
        super().__init__()
        self._reader = layout.open(0, layout.size)

    def read(self, size: int = -1) -> bytes:
        return self._reader.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()


def test_a_staged_file_that_became_shorter_is_named(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "1.dat.zst"
    path.write_bytes(b"0123456789")
    layout = TarLayout([FileMember(name="dump/1.dat.zst", path=path, length=10)], modified_at=MODIFIED)
    path.write_bytes(b"0123")
    with pytest.raises(StagingError, match=r"1\.dat\.zst became shorter while it was read; clear the dump task"):
        layout.read(0, layout.size)


def test_members_without_bytes(folder: Folder) -> None:
    layout = folder.layout({"dump/blob_1.dat.zst": b"", "dump/blob_2.dat.zst": b"", "dump/3": b"3"})
    assert unpacked(layout.read(0, layout.size)) == {
        "dump/blob_1.dat.zst": b"",
        "dump/blob_2.dat.zst": b"",
        "dump/3": b"3",
    }
