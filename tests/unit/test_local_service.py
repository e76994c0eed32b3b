"""Programs of the embedded stack: started once, known for sure, stopped with all their children."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from include.local.errors import ServiceFailedError
from include.local.layout import Layout, layout_of
from include.local.processes import (
    MARKER,
    Identity,
    identify,
    is_alive,
    marked_processes,
    processes_naming,
    read_stat,
    session_members,
    signal_all,
    wait_until,
)
from include.local.service import Program, Service, stop_all

FAMILY = "sleep 600 & sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done' & wait"


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    found = layout_of(6400, tmp_path / "state")
    found.make_folders()
    yield found
    signal_all(marked_processes(found.state), signal.SIGKILL)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with a stack."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        yield child
        with suppress(ProcessLookupError):
            child.kill()


def service(layout: Layout, script: str, *, term_seconds: float = 0.5, name: str = "part") -> Service:
    environment = {"PATH": os.environ["PATH"], "TOKEN": "hush-hush"}
    program = Program(name=name, argv=("sh", "-c", script), environment=environment, term_seconds=term_seconds)
    return Service(layout, program)


def started(layout: Layout, script: str) -> Service:
    part = service(layout, script)
    assert part.start()
    assert wait_until(lambda: "ready" in part.log.read_text(), 10)
    return part


def test_a_service_is_started_once(layout: Layout) -> None:
    part = started(layout, "echo ready; sleep 600")
    first = part.identity()
    assert not part.start()
    assert part.identity() == first
    part.stop()
    assert not part.running()


def test_stopping_ends_children_that_ignore_sigterm(layout: Layout) -> None:
    part = started(layout, FAMILY)
    leader = part.identity()
    assert leader is not None
    assert len(session_members(leader)) >= 3
    part.stop()
    assert session_members(leader) == []
    assert list(processes_naming(layout.state)) == []


def test_stopping_ends_children_of_a_leader_that_was_killed(layout: Layout) -> None:
    part = started(layout, FAMILY)
    leader = part.identity()
    assert leader is not None
    os.kill(leader.pid, signal.SIGKILL)
    assert wait_until(lambda: not part.running(), 10)
    assert session_members(leader) != []
    part.stop()
    assert session_members(leader) == []


def test_a_pid_that_another_process_has_now_is_never_signalled(
    layout: Layout, bystander: subprocess.Popen[bytes]
) -> None:
    part = service(layout, "sleep 600")
    identity = identify(bystander.pid)
    assert identity is not None
    recycled = replace(identity, started_ticks=identity.started_ticks - 1)
    (layout.pids / "part.json").write_text(json.dumps(recycled.to_json()))
    assert not part.running()
    part.stop()
    assert bystander.poll() is None
    assert not (layout.pids / "part.json").exists()


def test_a_pid_of_an_earlier_boot_is_never_signalled(layout: Layout, bystander: subprocess.Popen[bytes]) -> None:
    part = service(layout, "sleep 600")
    identity = identify(bystander.pid)
    assert identity is not None
    (layout.pids / "part.json").write_text(json.dumps(replace(identity, boot="another").to_json()))
    part.stop()
    assert bystander.poll() is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "started_ticks": 1, "boot": ""}']
)
def test_a_damaged_pid_file_stops_nothing_and_is_removed(layout: Layout, content: str) -> None:
    part = service(layout, "sleep 600")
    (layout.pids / "part.json").write_text(content)
    assert part.identity() is None
    part.stop()
    assert not (layout.pids / "part.json").exists()


def test_a_service_that_ends_is_reported_with_the_end_of_its_log(layout: Layout) -> None:
    part = service(layout, "echo cannot bind the port; exit 3")

    def start_and_look() -> None:
        part.start()
        assert wait_until(lambda: not part.running(), 10)
        part.require_running()

    with pytest.raises(ServiceFailedError, match="cannot bind the port"):
        start_and_look()


def test_secrets_are_in_no_argument_and_the_pid_file_is_private(layout: Layout) -> None:
    part = started(layout, "echo ready; sleep 600")
    identity = part.identity()
    assert identity is not None
    assert b"hush-hush" not in Path(f"/proc/{identity.pid}/cmdline").read_bytes()
    assert "hush-hush" not in repr(part.program)
    assert stat.S_IMODE((layout.pids / "part.json").stat().st_mode) == 0o600
    part.stop()


def test_what_a_killed_command_has_left_is_found_by_its_marker(layout: Layout) -> None:
    environment = {"PATH": os.environ["PATH"], MARKER: str(layout.state)}
    with subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True) as left:
        try:
            # In the moment of its exec a process has no environment that others can read.
            assert wait_until(lambda: [found.pid for found in marked_processes(layout.state)] == [left.pid], 10)
            assert marked_processes(layout.state.with_name("state2")) == []
            signal_all(marked_processes(layout.state), signal.SIGKILL)
            assert wait_until(lambda: left.poll() is not None, 10)
        finally:
            left.kill()
    assert left.returncode == -signal.SIGKILL


def test_services_are_stopped_at_the_same_time(layout: Layout) -> None:
    stubborn = [service(layout, "trap '' TERM; while :; do sleep 0.1; done", name=f"part{n}") for n in range(4)]
    for part in stubborn:
        part.start()
    stop_all(stubborn)
    assert not any(part.running() for part in stubborn)


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert wait_until(lambda: read_stat(child.pid) is None, 10)
    assert Path(f"/proc/{child.pid}").exists()
    child.wait()


def test_a_process_name_with_spaces_and_parentheses_is_read_past(tmp_path: Path) -> None:
    program = tmp_path / "odd ) name ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "600"]) as child:
        identity = identify(child.pid)
        assert identity is not None
        assert is_alive(identity)
        child.kill()


def test_a_folder_is_not_named_by_one_that_begins_alike(tmp_path: Path) -> None:
    longer = tmp_path / "64001"
    longer.mkdir()
    with subprocess.Popen(["sleep", "600"], cwd=longer) as child:
        assert child.pid in [pid for pid, _ in processes_naming(longer)]
        assert child.pid not in [pid for pid, _ in processes_naming(tmp_path / "6400")]
        child.kill()


def test_an_identity_is_that_of_one_process_only() -> None:
    mine = identify(os.getpid())
    assert mine is not None
    assert is_alive(mine)
    assert not is_alive(Identity(pid=mine.pid, started_ticks=mine.started_ticks + 1, boot=mine.boot))
