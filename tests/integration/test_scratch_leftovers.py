"""Nothing of a scratch server is left: not after errors, not after SIGKILL; and the reaper takes no other thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.backup.errors import CommandKilledError, ScratchError
from include.backup.postgres.account import give, scratch_user, stand_in, usable_tools
from include.backup.postgres.postmaster import processes_in
from include.backup.process import Runner
from include.backup.proof.scratch import ScratchServer, reap_scratch
from include.backup.proof.scratch_lease import Lease
from tests.integration.servers import (
    ENTER_AND_HANG,
    ROOT,
    ask,
    enterable_folder,
    eventually,
    ordinary_user_command,
    run_inside,
    tools_of,
)

HOUR = 3600.0


@pytest.fixture
def root() -> Iterator[Path]:
    with enterable_folder() as folder:
        yield folder


def now() -> datetime:
    return datetime.now(UTC)


def leave_behind(root: Path) -> Path:
    """Kill a process that holds a scratch server; return what it left."""
    argv = [sys.executable, "-c", ENTER_AND_HANG, str(root), str(tools_of(17).bin_dir)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        folder = Path(json.loads(parent.stdout.readline())["folder"])
        assert processes_in(folder / "data")
        parent.kill()
    return folder


def test_nothing_is_left_after_the_block_not_even_what_a_program_started(root: Path) -> None:
    with ScratchServer(root=root, tools=tools_of(17)) as scratch:
        folder = scratch.folder
        run_inside(scratch, "exec setsid sleep 601 > /dev/null 2>&1 < /dev/null &")
        assert len(processes_in(folder / "data")) > 1
    assert processes_in(folder / "data") == ()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x00601\x00" in read(path)]
    assert list(root.iterdir()) == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_nothing_is_left_after_an_error_in_the_block(root: Path) -> None:
    def fail(scratch: ScratchServer) -> None:
        folders.append(scratch.folder)
        raise ValueError("restore failed")

    folders: list[Path] = []
    scratch = ScratchServer(root=root, tools=tools_of(17))
    with pytest.raises(ValueError, match="restore failed"), scratch:
        fail(scratch)
    assert processes_in(folders[0] / "data") == ()
    assert list(root.iterdir()) == []


def test_nothing_is_left_after_a_start_that_failed(root: Path) -> None:
    server = ScratchServer(root=root, tools=tools_of(17), settings={"shared_preload_libraries": "absent"})
    with pytest.raises(ScratchError, match='could not access file "absent"'), server:
        pytest.fail("the server started")
    assert list(root.iterdir()) == []


def test_task_that_is_killed_while_the_server_is_made_leaves_nothing(root: Path) -> None:
    runner = Runner()
    runner.kill()
    with pytest.raises(CommandKilledError), ScratchServer(root=root, tools=tools_of(17), runner=runner):
        pytest.fail("the server started")
    assert list(root.iterdir()) == []


def test_server_ends_with_a_killed_parent_and_the_reaper_removes_its_files(root: Path) -> None:
    shared_memory = set(Path("/dev/shm").iterdir())
    folder = leave_behind(root)
    assert eventually(lambda: processes_in(folder / "data") == ())
    assert (folder / "data" / "PG_VERSION").exists()
    assert {path for path in set(Path("/dev/shm").iterdir()) - shared_memory if path.owner() == folder.owner()} == set()
    assert reap_scratch(root, older_than_seconds=HOUR, now=now()) == (folder.name,)
    assert list(root.iterdir()) == []
    assert reap_scratch(root, older_than_seconds=HOUR, now=now()) == ()


def test_server_ends_with_the_thread_that_started_it(root: Path) -> None:
    server = ScratchServer(root=root, tools=tools_of(17))
    thread = threading.Thread(target=server.__enter__)
    thread.start()
    thread.join()
    assert eventually(lambda: processes_in(server.folder / "data") == ())
    server.__exit__(None, None, None)
    assert list(root.iterdir()) == []


def test_reaper_keeps_a_server_in_use_until_its_lease_is_too_old(root: Path) -> None:
    with ScratchServer(root=root, tools=tools_of(17)) as scratch:
        assert reap_scratch(root, older_than_seconds=HOUR, now=now()) == ()
        assert ask(scratch, scratch.admin, "SELECT 'up'") == "up"
        later = now() + timedelta(seconds=HOUR + 60)
        assert reap_scratch(root, older_than_seconds=HOUR, now=later) == (scratch.id,)
        assert scratch.pid is None
        assert list(root.iterdir()) == []


def test_reaper_takes_a_pid_that_is_used_again_for_a_dead_holder(root: Path) -> None:
    lease = Lease.of_this_process(now=now())
    for number, held in enumerate(
        (lease, replace(lease, process_started=1), replace(lease, hostname="elsewhere", pid=1))
    ):
        folder = root / f"scratch-0000000{number}"
        folder.mkdir()
        held.write(folder)
    assert reap_scratch(root, older_than_seconds=HOUR, now=now()) == ("scratch-00000001",)


def test_reaper_touches_nothing_that_is_not_a_scratch_folder(root: Path) -> None:
    for name in ("scratch-mine", "scratch-00000000.bak", "other"):
        (root / name).mkdir()
        (root / name / "lease.json").write_text("{}")
    (root / "scratch-0000000a").mkdir()
    assert reap_scratch(root, older_than_seconds=HOUR, now=now()) == ()
    later = now() + timedelta(seconds=HOUR + 60)
    assert reap_scratch(root, older_than_seconds=HOUR, now=later) == ("scratch-0000000a",)
    assert len(list(root.iterdir())) == 3


def test_reaper_kills_no_process_that_is_not_the_server(root: Path) -> None:
    folder = root / "scratch-00000000"
    (folder / "data").mkdir(parents=True)
    with (
        subprocess.Popen(["sleep", "600"]) as elsewhere,
        subprocess.Popen(["sleep", "600"], cwd=folder / "data") as person,
    ):
        try:
            (folder / "data" / "postmaster.pid").write_text(f"{elsewhere.pid}\n{folder / 'data'}\n")
            later = now() + timedelta(seconds=HOUR + 60)
            assert reap_scratch(root, older_than_seconds=HOUR, now=later) == (folder.name,)
            assert elsewhere.poll() is None
            assert person.poll() is None
        finally:
            elsewhere.kill()
            person.kill()


def test_ordinary_user_leaves_no_server_behind_when_killed(root: Path) -> None:
    tools = usable_tools(tools_of(17), scratch_user(), base=root)
    with enterable_folder() as own:
        give(own, scratch_user())
        argv = [*ordinary_user_command(root), "-c", ENTER_AND_HANG, str(own), str(tools.bin_dir)]
        with subprocess.Popen(argv, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            data = Path(json.loads(parent.stdout.readline())["folder"]) / "data"
            assert processes_in(data)
            os.kill(parent.pid, signal.SIGKILL)
        assert eventually(lambda: processes_in(data) == ())


@pytest.mark.skipif(os.geteuid() != 0, reason="root enters every folder of its own")
def test_root_below_which_nobody_can_enter_gets_a_stand_in(root: Path) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    with ScratchServer(root=closed, tools=tools_of(17)) as scratch:
        assert scratch.folder.parent == stand_in(closed)
        assert ask(scratch, scratch.admin, "SELECT 'up'") == "up"
    assert not stand_in(closed).exists()
    folder = leave_behind(closed)
    assert folder.parent == stand_in(closed)
    assert eventually(lambda: processes_in(folder / "data") == ())
    assert reap_scratch(closed, older_than_seconds=HOUR, now=now()) == (folder.name,)
    assert not stand_in(closed).exists()
