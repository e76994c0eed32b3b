"""toc.dat of real dumps: read as pg_restore reads it, and no cut or bent one is taken for whole."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from include.backup.archive.reader import ArchiveReader
from include.backup.errors import TocError
from include.backup.postgres.toc import Section, Toc, parse_copy, parse_setval, read_toc
from include.backup.postgres.tools import find_tools
from tests.support.proofs import KeptRestore, StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]

LISTED = re.compile(r"^(?P<id>\d+); \d+ \d+ (?P<rest>.*)$", re.MULTILINE)


@pytest.fixture(params=[17, pytest.param(15, marks=pytest.mark.postgres15)])
def dumped(request: pytest.FixtureRequest) -> StoredBackup:
    kept: KeptRestore = request.getfixturevalue("kept" if request.param == 17 else "kept15")
    return kept.backup


def listed(backup: StoredBackup, folder: Path, *options: str) -> dict[int, str]:
    """Return what ``pg_restore --list`` says of each entry."""
    ArchiveReader(backup.store, backup.manifest).fetch(["dump/toc.dat"], folder)
    program = find_tools(17).path("pg_restore")
    done = subprocess.run([program, "--list", *options, folder / "dump"], capture_output=True, text=True, check=True)
    return {int(match["id"]): match["rest"] for match in LISTED.finditer(done.stdout)}


def test_every_entry_is_read_as_pg_restore_reads_it(dumped: StoredBackup, tmp_path: Path) -> None:
    toc = dumped.toc
    hidden = {"ENCODING", "STDSTRINGS", "SEARCHPATH"}
    ours = {
        entry.dump_id: " ".join((entry.desc, entry.namespace or "-", entry.tag, entry.owner)).rstrip()
        for entry in toc.entries
        if entry.desc not in hidden
    }
    found = listed(dumped, tmp_path, "--create")
    assert {number: text.rstrip() for number, text in found.items() if number in ours} == ours
    assert set(found) <= {entry.dump_id for entry in toc.entries}
    assert toc.server_version.startswith(f"{dumped.manifest.dump.server.major}.")
    assert toc.database == "proof_source"


@pytest.mark.parametrize(("option", "section"), [("pre-data", 2), ("data", 3), ("post-data", 4)])
def test_sections_are_those_of_pg_restore(dumped: StoredBackup, tmp_path: Path, option: str, section: int) -> None:
    hidden = {"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"}
    ours = {
        entry.dump_id
        for entry in dumped.toc.entries
        if entry.section is Section(section) and entry.desc not in hidden and not entry.tag.startswith("DATABASE ")
    }
    assert ours == set(listed(dumped, tmp_path, f"--section={option}")) & {e.dump_id for e in dumped.toc.entries}


def test_each_copy_and_each_sequence_is_understood(dumped: StoredBackup) -> None:
    toc = dumped.toc
    assert len({parse_copy(entry.copy_statement).relation for entry in toc.table_data}) == 9
    values = {
        value.name: (value.value, value.is_called)
        for entry in toc.entries
        if entry.desc == "SEQUENCE SET"
        for value in [parse_setval(entry.definition)]
    }
    assert values == {
        "shop.customers_id_seq": (40, True),
        "shop.numbers": (250, True),
        "shop.orders_id_seq": (300, True),
        "shop.untouched": (1, False),
    }


def test_a_cut_anywhere_is_refused(dumped: StoredBackup) -> None:
    content = dumped.content("dump/toc.dat")
    for end in range(0, len(content), 97):
        with pytest.raises(TocError, match="use another backup"):
            read_toc(content[:end])


def test_a_bent_byte_gives_a_toc_or_a_toc_error(dumped: StoredBackup) -> None:
    content = dumped.content("dump/toc.dat")
    for at in range(0, len(content), 41):
        bent = bytearray(content)
        bent[at] ^= 0x55
        with suppress(TocError):
            assert isinstance(read_toc(bytes(bent)), Toc)
