"""Reading an archive: every byte takes part, single members are read by range, names stay in their folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import strategies as st

from include.backup.archive.members import Compression
from include.backup.archive.reader import (
    ArchiveReader,
    check_member,
    fetched_content,
    member_path,
    unpack_for_old_pg_restore,
)
from include.backup.archive.tar import FileMember, TarLayout
from include.backup.errors import ArchiveError, MemberHashError, MemberMissingError, ObjectShortError
from include.backup.manifest import Manifest, Member
from tests.support.builders import make_archive, make_manifest, make_member
from tests.support.memory_store import MemoryStore
from tests.support.proofs import composite_checksum
from tests.support.properties import given

KEY = "daily/x.tar"
CONTENTS = {
    "README.txt": b"read me",
    "dump/toc.dat": b"PGDMP" * 300,
    "dump/1.dat.zst": b"1\tone\n" * 500,
    "dump/blob_2.dat.zst": b"",
    "dump/3.dat.zst": bytes(range(256)) * 9,
}


def stored_bytes(name: str, content: bytes) -> bytes:
    return zstd.compress(content) if name.endswith(".zst") and content else content


def pack(folder: Path, contents: dict[str, bytes], *, part_size: int = 4096) -> tuple[MemoryStore, Manifest]:
    """Make an archive of these contents and its manifest."""
    files = []
    for number, (name, content) in enumerate(contents.items()):
        path = folder / f"staged-{number}"
        path.write_bytes(stored_bytes(name, content))
        files.append(FileMember(name=name, path=path, length=path.stat().st_size))
    layout = TarLayout(files, modified_at=0)
    archive = layout.read(0, layout.size)
    members = tuple(
        make_member(
            placed.name,
            offset=placed.offset,
            stored_length=placed.length,
            stored_sha256=hashlib.sha256(stored_bytes(placed.name, contents[placed.name])).hexdigest(),
            length=len(contents[placed.name]),
            sha256=hashlib.sha256(contents[placed.name]).hexdigest(),
            compression=Compression.ZSTD if placed.name.endswith(".zst") else Compression.NONE,
        )
        for placed in layout.members
    )
    checksum = composite_checksum(archive, part_size)
    facts = make_archive(key=KEY, size=len(archive), part_size=part_size, checksum=checksum)
    return MemoryStore({KEY: archive}), make_manifest(members=members, archive=facts)


@pytest.fixture
def packed(tmp_path: Path) -> tuple[MemoryStore, Manifest]:
    return pack(tmp_path, CONTENTS)


def fetch_all(store: MemoryStore, manifest: Manifest, folder: Path) -> int:
    """Fetch, and return how many bytes were told to be read."""
    told: list[int] = []
    ArchiveReader(store, manifest).fetch_all(folder, progress=told.append)
    return sum(told)


@pytest.mark.parametrize("part_size", [1, 7, 512, 4096, 1 << 24])
def test_the_whole_archive_becomes_files_whatever_the_parts(tmp_path: Path, part_size: int) -> None:
    small = {name: CONTENTS[name][:40] for name in CONTENTS} if part_size < 512 else CONTENTS
    store, manifest = pack(tmp_path, small, part_size=part_size)
    target = tmp_path / "out"
    assert fetch_all(store, manifest, target) == manifest.archive.size
    for member in manifest.members:
        assert (target / member.name).read_bytes() == stored_bytes(member.name, small[member.name])
        assert b"".join(fetched_content(target, member)) == small[member.name]
    assert sum(length for _, length in store.ranges) == manifest.archive.size


def test_the_folders_are_for_the_owner_alone(packed: tuple[MemoryStore, Manifest], tmp_path: Path) -> None:
    fetch_all(*packed, tmp_path / "out")
    assert (tmp_path / "out" / "dump").stat().st_mode & 0o777 == 0o700


def test_a_changed_byte_is_caught_by_the_name_of_its_member(
    packed: tuple[MemoryStore, Manifest], tmp_path: Path
) -> None:
    store, manifest = packed
    archive = store.objects[KEY]
    for at in range(0, len(archive), 61):
        store.objects[KEY] = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
        inside = [m.name for m in manifest.members if m.offset <= at < m.offset + m.stored_length]
        expected = f"member {inside[0]} is damaged" if inside else "bytes between its members differ"
        with pytest.raises(MemberHashError if inside else ArchiveError, match=expected):
            fetch_all(store, manifest, tmp_path / "out")


def test_an_archive_that_is_too_short_is_refused(packed: tuple[MemoryStore, Manifest], tmp_path: Path) -> None:
    store, manifest = packed
    store.objects[KEY] = store.objects[KEY][:-1]
    with pytest.raises(ObjectShortError):
        fetch_all(store, manifest, tmp_path / "out")


def test_single_members_are_read_by_their_ranges_alone(packed: tuple[MemoryStore, Manifest], tmp_path: Path) -> None:
    store, manifest = packed
    names = ["dump/3.dat.zst", "README.txt"]
    ArchiveReader(store, manifest).fetch(names, tmp_path / "out")
    wanted = [manifest.member(name) for name in names]
    assert sorted(store.ranges) == sorted((member.offset, member.stored_length) for member in wanted)
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"3.dat.zst", "README.txt"}
    with pytest.raises(MemberMissingError, match=r"no member dump/9\.dat"):
        ArchiveReader(store, manifest).fetch(["dump/9.dat"], tmp_path / "out")


def test_a_single_member_that_differs_is_refused(packed: tuple[MemoryStore, Manifest], tmp_path: Path) -> None:
    store, manifest = packed
    lying = replace(
        manifest, members=tuple(replace(m, stored_sha256="0" * 64, sha256="0" * 64) for m in manifest.members)
    )
    reader = ArchiveReader(store, lying)
    with pytest.raises(MemberHashError, match=r"member README\.txt is damaged"):
        reader.fetch(["README.txt"], tmp_path / "out")
    with pytest.raises(MemberHashError, match=r"member dump/1\.dat\.zst is damaged"):
        reader.read("dump/1.dat.zst")
    assert ArchiveReader(store, manifest).read("dump/1.dat.zst") == CONTENTS["dump/1.dat.zst"]


def test_members_that_follow_each_other_are_read_by_one_request(packed: tuple[MemoryStore, Manifest]) -> None:
    store, manifest = packed
    run = manifest.members[1:4]
    found = {member.name: b"".join(chunks) for member, chunks in ArchiveReader(store, manifest).stored_run(run)}
    assert found == {member.name: stored_bytes(member.name, CONTENTS[member.name]) for member in run}
    assert len(store.ranges) == 1


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    member = make_member("a", stored_length=3, stored_sha256=hashlib.sha256(b"ab").hexdigest())
    (tmp_path / "a").write_bytes(b"ab")
    with pytest.raises(MemberHashError, match="member a is damaged: 2 bytes"):
        check_member(tmp_path, member)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "//etc/passwd",
        "../outside",
        "dump/../../outside",
        "dump/..",
        "dump/./toc.dat",
        "./toc.dat",
        "dump//toc.dat",
        "dump/",
        "dump\\..\\outside",
        "a\0b",
    ],
)
def test_names_that_leave_the_folder_or_have_two_spellings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="is not allowed; the manifest is damaged or hostile"):
        member_path(tmp_path, name)


@given(st.text(st.sampled_from(list("ab./\\\0 é~$")), max_size=12))
def test_any_accepted_name_is_below_the_folder_and_its_own(name: str) -> None:
    folder = Path("/work/folder")
    try:
        path = member_path(folder, name)
    except ArchiveError:
        return
    assert path.is_relative_to(folder)
    assert path != folder
    assert ".." not in path.parts
    assert str(path.relative_to(folder)) == name


@pytest.mark.parametrize("names", [("dump", "dump/1"), ("dump/1", "dump")])
def test_a_member_in_the_place_of_a_folder_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    members: tuple[Member, ...] = tuple(make_member(name, offset=n * 512) for n, name in enumerate(names))
    store, manifest = MemoryStore({KEY: bytes(4096)}), make_manifest(members=members, archive=make_archive(key=KEY))
    with pytest.raises(ArchiveError, match=f"member name '{names[1]}' is not allowed"):
        fetch_all(store, manifest, tmp_path / "out")


def test_a_dump_is_unpacked_for_a_pg_restore_that_knows_no_zstd(tmp_path: Path) -> None:
    """An empty large object of pg_dump 17 included, which is no zstd frame."""
    for name, content in CONTENTS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stored_bytes(name, content))
    unpack_for_old_pg_restore(tmp_path / "dump")
    for name, content in CONTENTS.items():
        assert (tmp_path / name.removesuffix(".zst")).read_bytes() == content
