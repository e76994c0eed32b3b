"""A stored archive that is damaged, forged, or not the manifest's own is red, and the member or table is named.

Half of these forgeries have fitting hashes, so that only the restore and the comparison can tell.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from include.backup.archive.members import DATA_TRAILER
from include.backup.archive.reader import ArchiveReader
from include.backup.errors import ArchiveError, MemberHashError, ObjectShortError
from include.backup.manifest import Manifest
from include.backup.proof.record import Proof, Result
from include.backup.store import ObjectStore
from tests.support.proof_source import Site
from tests.support.proofs import Arena, BackUp, KeptRestore, StoredBackup, composite_checksum, frames

pytest_plugins = ["tests.support.proof_fixtures"]

FLIPS = 200
SEED = 20260511
HERE, THERE, ORDERS, SIZES, TWINS = "shop.here", "shop.there", "shop.orders", "shop.sizes", "shop.twins"
TABLES = (HERE, THERE, ORDERS, SIZES, TWINS)
LARGE_OBJECT = "dump/blob_70001.dat.zst"


def fetch(backup: StoredBackup, folder: Path) -> None:
    ArchiveReader(backup.store, backup.manifest).fetch_all(folder, progress=lambda _: None)


def differences(proof: Proof) -> list[str]:
    assert proof.result is Result.FAILED
    return [str(difference) for difference in proof.differences]


def shortened(backup: StoredBackup, table: str, rows: int, *, end_mark: bool) -> bytes:
    lines = backup.content(backup.data_member(table).name).removesuffix(DATA_TRAILER).splitlines(keepends=True)
    return b"".join(lines[:rows]) + (DATA_TRAILER if end_mark else b"")


def test_an_honest_repacking_passes(backup: StoredBackup, arena: Arena) -> None:
    """The control of the forgeries below: another tar, and a member of several whole frames, are no fault."""
    name = backup.data_member(THERE).name
    proof = arena.prove(backup.repacked({name: b"".join(frames(backup.content(name), 4))}, rehashed=True))
    assert [str(difference) for difference in proof.differences] == []
    assert proof.result is Result.PASSED


def forgeries(backup: StoredBackup) -> dict[str, bytes]:
    """Return other bytes for some members, each of which pg_restore takes with exit code 0."""
    names = {table: backup.data_member(table).name for table in TABLES}
    return {
        # whole lines in a whole frame, without an end mark; and with one
        names[ORDERS]: zstd.compress(shortened(backup, ORDERS, 200, end_mark=False)),
        names[TWINS]: zstd.compress(shortened(backup, TWINS, 29, end_mark=True)),
        # the first of four frames, which end at ends of lines
        names[SIZES]: frames(backup.content(names[SIZES]), 4)[0],
        # two members of equal columns in each other's place
        names[HERE]: backup.stored(names[THERE]),
        names[THERE]: backup.stored(names[HERE]),
        LARGE_OBJECT: zstd.compress(b"\0\xff\x0b"),
    }


def test_forged_members_with_fitting_hashes_are_each_caught_by_the_comparison(
    backup: StoredBackup, arena: Arena
) -> None:
    proof = arena.prove(backup.repacked(forgeries(backup), rehashed=True))
    found = {(difference.what, difference.name): difference.detail for difference in proof.differences}
    assert proof.result is Result.FAILED
    assert len(proof.differences) == len(found) == 6
    for table in (ORDERS, SIZES):
        assert f"table data {backup.data_member(table).name} has no end mark" in found["rows", table]
    assert found["rows", TWINS].startswith(f"member {backup.data_member(TWINS).name} holds 29 rows")
    assert "the manifest says 30" in found["rows", TWINS]
    for table in (HERE, THERE):
        assert found["rows", table].startswith(f"member {backup.data_member(table).name} holds 5000 rows")
    assert found["large object", "70001"] == "has other bytes after the restore"
    assert {table.table for table in proof.tables if not table.identical} == set(TABLES)


@pytest.mark.parametrize("number", range(6))
def test_each_forged_member_alone_is_caught_by_its_hash(backup: StoredBackup, tmp_path: Path, number: int) -> None:
    name, stored = list(forgeries(backup).items())[number]
    with pytest.raises(MemberHashError, match=f"member {name} is damaged"):
        fetch(backup.repacked({name: stored}, rehashed=False), tmp_path)


def test_a_member_cut_inside_a_frame(backup: StoredBackup, arena: Arena) -> None:
    name = backup.data_member(THERE).name
    (found,) = differences(arena.prove(backup.repacked({name: backup.stored(name)[:-9]}, rehashed=True)))
    assert 'table "there"' in found or name in found


def test_a_manifest_whose_members_swapped_their_names(backup: StoredBackup, kept: KeptRestore) -> None:
    """Every byte is in its place and every hash fits; only who it belongs to is wrong."""
    here, there = backup.data_member(HERE), backup.data_member(THERE)
    names = {here.name: there.name, there.name: here.name}
    members = tuple(replace(m, name=names.get(m.name, m.name)) for m in backup.manifest.members)
    (found,) = differences(kept.prove_forged(backup.saying(members=members)))
    assert f"differ on the data of {HERE}, {THERE}: this archive is not the one of this manifest" in found


def test_the_archive_of_another_backup(
    backup: StoredBackup, kept: KeptRestore, site: Site, back_up: BackUp, tmp_path: Path
) -> None:
    """Of the same database with the same rows: even then its own files differ."""
    other = back_up(replace(site.connection, dbname="proof_source"))
    forged = backup.saying(archive=replace(backup.manifest.archive, key=other.manifest.archive.key))
    with pytest.raises((MemberHashError, ObjectShortError), match=r"member \S+ is damaged|ends at byte"):
        fetch(forged, tmp_path)
    (found,) = differences(kept.prove_forged(forged))
    assert found.startswith(f"archive {backup.manifest.backup_id}: member ")
    assert "is damaged" in found


def test_a_table_of_contents_of_another_database(backup: StoredBackup, kept: KeptRestore) -> None:
    """An honest archive, and a manifest of its members that says they came from elsewhere."""
    server = replace(backup.manifest.dump.server, database="elsewhere")
    forged = backup.saying(dump=replace(backup.manifest.dump, server=server))
    (found,) = differences(kept.prove_forged(forged))
    assert "toc.dat is of the database proof_source and the manifest of elsewhere" in found


def toc_with(backup: StoredBackup, old: bytes, new: bytes) -> dict[str, bytes]:
    content = backup.content("dump/toc.dat")
    assert content.count(old) >= 1
    assert len(old) == len(new)
    return {"dump/toc.dat": content.replace(old, new)}


def test_an_edited_table_of_contents(backup: StoredBackup, tmp_path: Path) -> None:
    edited = toc_with(backup, b"mood <> 'sad'", b"mood <> 'xad'")
    with pytest.raises(MemberHashError, match=r"member dump/toc\.dat is damaged"):
        fetch(backup.repacked(edited, rehashed=False), tmp_path)


def test_a_table_of_contents_that_loads_a_table_from_another_file(backup: StoredBackup, kept: KeptRestore) -> None:
    """With fitting hashes, and with files whose names have the same length."""
    here, there = (Path(backup.data_member(table).name).name.removesuffix(".zst") for table in (HERE, THERE))
    content = backup.content("dump/toc.dat").replace(there.encode(), here.encode())
    (found,) = differences(kept.prove_forged(backup.repacked({"dump/toc.dat": content}, rehashed=True)))
    assert f"differ on the data of {THERE}: " in found


def test_a_table_of_contents_that_is_cut_short(backup: StoredBackup, kept: KeptRestore) -> None:
    content = backup.content("dump/toc.dat")[:-20]
    (found,) = differences(kept.prove_forged(backup.repacked({"dump/toc.dat": content}, rehashed=True)))
    assert "toc.dat cannot be read (it ends too early)" in found


def test_a_table_of_contents_that_is_no_sql(backup: StoredBackup, arena: Arena) -> None:
    """What PostgreSQL refuses is a finding with its own words, not an exception without a proof."""
    edited = toc_with(backup, b"CREATE TABLE shop.twins", b"CREATE TXBLE shop.twins")
    (found,) = differences(arena.prove(backup.repacked(edited, rehashed=True)))
    assert "the archive does not restore" in found
    assert 'syntax error at or near "TXBLE"' in found
    assert "CREATE TXBLE shop.twins (" in found


@pytest.mark.parametrize("rows", [0, 4999, 5001])
def test_a_manifest_with_another_number_of_rows(backup: StoredBackup, kept: KeptRestore, rows: int) -> None:
    member = backup.data_member(HERE)
    assert member.table_data is not None
    lying = backup.with_member(member.name, table_data=replace(member.table_data, rows=rows))
    (found,) = differences(kept.prove_forged(lying))
    assert found.startswith(f"rows {HERE}: member {member.name} holds 5000 rows")
    assert f"the manifest says {rows} with" in found


@pytest.mark.parametrize("table", [HERE, "shop.moods_0"])
def test_a_manifest_with_another_hash_of_the_rows(backup: StoredBackup, kept: KeptRestore, table: str) -> None:
    member = backup.data_member(table)
    assert member.table_data is not None
    data = replace(member.table_data, content_sha256="0" * 64)
    (found,) = differences(kept.prove_forged(backup.with_member(member.name, table_data=data)))
    assert found.startswith(f"rows {table.removesuffix('_0')}: member {member.name} holds")


def test_a_manifest_with_another_hash_of_a_member(backup: StoredBackup, kept: KeptRestore) -> None:
    member = backup.data_member(HERE)
    (found,) = differences(kept.prove_forged(backup.with_member(member.name, stored_sha256="0" * 64)))
    assert f"member {member.name} is damaged" in found


def test_a_manifest_without_one_of_the_tables(backup: StoredBackup, kept: KeptRestore) -> None:
    name = backup.data_member(HERE).name
    members = tuple(member for member in backup.manifest.members if member.name != name)
    (found,) = differences(kept.prove_forged(backup.saying(members=members)))
    assert f"differ on the data of {HERE}: " in found


def test_a_manifest_with_another_copy_statement(backup: StoredBackup, kept: KeptRestore) -> None:
    member = backup.data_member(HERE)
    assert member.table_data is not None
    data = replace(member.table_data, copy_statement="COPY shop.here (what, id) FROM stdin;\n")
    (found,) = differences(kept.prove_forged(backup.with_member(member.name, table_data=data)))
    assert f"differ on the data of {HERE}: " in found


def test_a_manifest_with_another_hash_of_a_large_object(backup: StoredBackup, kept: KeptRestore) -> None:
    lying = backup.with_member("dump/blob_70002.dat.zst", sha256="0" * 64)
    assert differences(kept.prove_forged(lying)) == ["large object 70002: has other bytes after the restore"]


def test_a_manifest_with_another_number_of_entries(backup: StoredBackup, kept: KeptRestore) -> None:
    entries = backup.manifest.toc_entries
    (found,) = differences(kept.prove_forged(backup.saying(toc_entries=entries + 1)))
    assert f"toc.dat has {entries} entries and the manifest says {entries + 1}" in found


class FlippedStore(ObjectStore):
    """The real store's bytes with one of them changed, handed out in chunks as the real one hands them out."""

    def __init__(self, archive: bytes, at: int, bit: int) -> None:
        self._archive = bytearray(archive)
        self._archive[at] ^= 1 << bit
        self.bucket = "flipped"

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        for start in range(offset, offset + length, 4096):
            yield bytes(self._archive[start : min(start + 4096, offset + length)])


def member_at(manifest: Manifest, position: int) -> str | None:
    return next((m.name for m in manifest.members if m.offset <= position < m.offset + m.stored_length), None)


def flips(size: int) -> list[tuple[int, int]]:
    chance = random.Random(SEED)  # noqa: S311 - the same offsets in every run
    return [(chance.randrange(size), chance.randrange(8)) for _ in range(FLIPS)]


@pytest.mark.parametrize("part_size", [16 * 1024 * 1024, 10_000])
def test_one_byte_flipped_anywhere(backup: StoredBackup, tmp_path: Path, part_size: int) -> None:
    """200 seeded offsets, each in a member, a tar header, padding or the end of the archive; all by name."""
    checksum = composite_checksum(backup.archive, part_size)
    facts = replace(backup.manifest.archive, part_size=part_size, checksum=checksum)
    manifest = replace(backup.manifest, archive=facts)
    caught = {"member": 0, "between": 0}
    for at, bit in flips(len(backup.archive)):
        name = member_at(manifest, at)
        with pytest.raises(ArchiveError) as error:
            fetch(
                StoredBackup(store=FlippedStore(backup.archive, at, bit), manifest=manifest, scratch_root=tmp_path),
                tmp_path,
            )
        expected = "bytes between its members differ" if name is None else f"member {name} is damaged"
        assert expected in str(error.value), f"byte {at}"
        assert isinstance(error.value, MemberHashError) == (name is not None)
        caught["between" if name is None else "member"] += 1
    assert min(caught.values()) > FLIPS / 10
    fetch(
        replace(backup, manifest=replace(manifest, archive=replace(facts, key=backup.manifest.archive.key))), tmp_path
    )


def test_one_byte_flipped_in_the_store(backup: StoredBackup, kept: KeptRestore, tmp_path: Path) -> None:
    """The same with objects in the real store, and through the whole proof."""
    chosen = flips(len(backup.archive))[:20]
    for number, (at, bit) in enumerate(chosen):
        damaged = bytearray(backup.archive)
        damaged[at] ^= 1 << bit
        forged = backup.saying(archive=replace(backup.manifest.archive, key=backup.put(bytes(damaged))))
        expected = (
            f"member {member_at(backup.manifest, at)} is damaged" if member_at(backup.manifest, at) else "between"
        )
        with pytest.raises(ArchiveError, match=expected):
            fetch(forged, tmp_path)
        if number < 3:
            (found,) = differences(kept.prove_forged(forged))
            assert expected in found


def test_an_archive_that_ends_too_early(backup: StoredBackup, kept: KeptRestore) -> None:
    forged = backup.saying(archive=replace(backup.manifest.archive, key=backup.put(backup.archive[:-700])))
    (found,) = differences(kept.prove_forged(forged))
    assert "700 bytes too early" in found
