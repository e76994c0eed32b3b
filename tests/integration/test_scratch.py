"""Scratch servers on real PostgreSQL: what code inside one can reach, and that nothing of one is left."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
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
from include.backup.proof import scratch as scratch_module
from include.backup.proof.sandbox import Isolation, Network, Processes, Uid, probe_isolation
from include.backup.proof.scratch import ScratchRole, ScratchServer, fast_settings, reap_scratch
from include.backup.proof.scratch_lease import Lease
from tests.integration.servers import MAJORS, ROOT, enterable_folder, eventually, ordinary_user_command, psql, tools_of

HOUR = 3600.0
CANARY = "canary-of-the-parent"
GIB = 1024**3
ENTER_AND_HANG = """
import json, os, sys
from pathlib import Path
from include.backup.postgres.tools import PostgresTools
from include.backup.proof.scratch import ScratchServer
root, bin_dir = sys.argv[1:]
tools = PostgresTools(bin_dir=Path(bin_dir), version="17", major=17)
with ScratchServer(root=Path(root), tools=tools) as scratch:
    said = {"folder": str(scratch.folder), "euid": os.geteuid(), "password": scratch.admin.password}
    print(json.dumps(said | {"admin": scratch.conninfo(scratch.admin)} | scratch.isolation.to_dict()), flush=True)
    sys.stdin.readline()
"""
full_isolation = pytest.mark.skipif(
    probe_isolation(scratch_user()).processes is not Processes.OWN,
    reason="this machine allows no namespaces (a container without CAP_SYS_ADMIN?)",
)


@pytest.fixture
def root() -> Iterator[Path]:
    with enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="module", params=MAJORS)
def scratch(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    with pytest.MonkeyPatch.context() as patch, enterable_folder() as folder:
        patch.setenv("AIRFLOW_CONN_CANARY", CANARY)
        with ScratchServer(root=folder, tools=tools_of(request.param)) as server:
            yield server


def ask(server: ScratchServer, role: ScratchRole, sql: str) -> str:
    """Return what the server answers, or its error."""
    done = psql(tools_of(17), server.conninfo(role), server.environment(role)["PGPASSWORD"], sql)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def run_inside(server: ScratchServer, command: str) -> str:
    """Run a shell command as the restored code of a superuser could."""
    quoted = command.replace("'", "''")
    copy = f"COPY seen FROM PROGRAM '({quoted}) 2>&1; true' (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')"
    return ask(server, server.admin, f"CREATE TEMP TABLE seen (line text); {copy}; TABLE seen")


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


@full_isolation
def test_code_inside_sees_no_network(scratch: ScratchServer) -> None:
    assert scratch.isolation.network is Network.NONE
    interfaces = run_inside(scratch, "tail -n +3 /proc/net/dev | cut -d: -f1").split()
    assert interfaces == ["lo"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = f"bash -c 'echo > /dev/tcp/127.0.0.1/{port}' && echo connected"
        assert subprocess.run(connect, shell=True, capture_output=True, check=True).stdout == b"connected\n"  # noqa: S602
        assert "Network is unreachable" in run_inside(scratch, connect)
    assert ask(scratch, scratch.admin, "SHOW listen_addresses") == ""


def test_code_inside_sees_nothing_of_the_environment(scratch: ScratchServer) -> None:
    names = {line.partition("=")[0] for line in run_inside(scratch, "env").splitlines()}
    assert "PATH" in names
    assert names <= {"PATH", "LC_ALL", "HOME", "PWD", "SHLVL", "_", "OLDPWD"} | {
        name for name in names if name.startswith(("PG", "LC_"))
    }
    assert run_inside(scratch, "cd ~; pwd; pwd -P").splitlines() == [str(scratch.folder / "data")] * 2
    assert CANARY not in run_inside(scratch, "cat /proc/[0-9]*/environ | tr '\\0' '\\n'")


@full_isolation
def test_code_inside_sees_no_process_but_the_server(scratch: ScratchServer) -> None:
    assert scratch.isolation.processes is Processes.OWN
    commands = run_inside(scratch, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "postgres" in commands
    assert "pytest" not in commands


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the server another uid")
def test_code_inside_reads_no_file_of_ours(scratch: ScratchServer, root: Path) -> None:
    assert scratch.isolation.uid is Uid.OWN
    for name, mode in (("open", 0o644), ("secret", 0o600)):
        (root / name).write_text(f"content of {name}")
        (root / name).chmod(mode)
    assert run_inside(scratch, f"cat {root}/open") == "content of open"
    assert "Permission denied" in run_inside(scratch, f"cat {root}/secret")
    assert "Permission denied" in run_inside(scratch, f"cat {scratch.folder}/lease.json")
    assert "Permission denied" in run_inside(scratch, f"touch {scratch.folder}/mine")
    assert run_inside(scratch, "id -un; id -Gn") == "nobody\nnogroup"
    assert "NoNewPrivs:\t1" in run_inside(scratch, "cat /proc/self/status")
    assert "CapEff:\t0000000000000000" in run_inside(scratch, "cat /proc/self/status")


def test_loader_can_fill_and_read_tables_but_run_no_program(scratch: ScratchServer) -> None:
    ask(scratch, scratch.admin, "CREATE TABLE private (n int); ALTER TABLE private FORCE ROW LEVEL SECURITY")
    assert ask(scratch, scratch.loader, "INSERT INTO private VALUES (7); TABLE private") == "7"
    for statement in ("COPY private TO PROGRAM 'id'", "COPY private FROM PROGRAM 'id'", "COPY private TO '/tmp/x'"):
        assert "COPY" in (refused := ask(scratch, scratch.loader, statement))
        assert "permission denied" in refused or "must be superuser" in refused
    assert "permission denied" in ask(scratch, scratch.loader, "CREATE DATABASE other")
    sql = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = "
    assert ask(scratch, scratch.loader, f"{sql} current_user") == "f|f|f|f|t"


def test_every_role_has_a_random_password_of_its_own(scratch: ScratchServer) -> None:
    assert len({scratch.admin.password, scratch.loader.password}) == 2
    assert min(len(role.password) for role in (scratch.admin, scratch.loader)) >= 32
    swapped = replace(scratch.admin, password=scratch.loader.password)
    assert "password authentication failed" in ask(scratch, swapped, "SELECT 1")
    assert scratch.admin.password not in repr(scratch.admin)
    assert "password" not in scratch.conninfo(scratch.admin)


def test_settings_are_those_of_a_server_that_is_filled_once(scratch: ScratchServer) -> None:
    names = ("fsync", "autovacuum", "wal_level", "max_wal_senders", "lo_compat_privileges", "jit", "TimeZone")
    values = ask(scratch, scratch.admin, "; ".join(f"SHOW {name}" for name in names))
    assert values.splitlines() == ["off", "off", "minimal", "0", "on", "off", "UTC"]
    assert ask(scratch, scratch.admin, "SHOW dynamic_shared_memory_type") != "posix"


def test_indexes_are_built_by_several_workers(scratch: ScratchServer) -> None:
    parallel = "SET min_parallel_table_scan_size = 0; SET max_parallel_maintenance_workers = 2"
    table = "CREATE TABLE wide AS SELECT md5(n::text) AS hash FROM generate_series(1, 200000) n"
    check = "CREATE INDEX ON wide (hash); SELECT count(*) FROM wide; DROP TABLE wide"
    assert ask(scratch, scratch.admin, f"{table}; {parallel}; {check}") == "200000"


def test_rows_do_not_get_into_the_log(scratch: ScratchServer) -> None:
    ask(
        scratch,
        scratch.admin,
        "CREATE TEMP TABLE once (v text PRIMARY KEY); INSERT INTO once VALUES ('a-row'), ('a-row')",
    )
    assert "once_pkey" in scratch.log_tail()
    assert "a-row" not in scratch.log_tail()


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


@pytest.mark.skipif(
    Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0", reason="no user namespaces on this machine"
)
def test_ordinary_user_has_the_same_isolation_but_for_its_uid(root: Path) -> None:
    tools = usable_tools(tools_of(17), scratch_user(), base=root)
    with enterable_folder() as own:
        give(own, scratch_user())
        argv = [*ordinary_user_command(root), "-c", ENTER_AND_HANG, str(own), str(tools.bin_dir)]
        with subprocess.Popen(argv, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            said = json.loads(parent.stdout.readline())
            assert said["euid"] != 0
            assert said["euid"] == (Path(said["folder"]) / "data").stat().st_uid
            assert said["uid"] == "same"
            assert said["network"] == "none"
            assert psql(tools, said["admin"], said["password"], "SELECT 'up'").stdout == "up\n"
            parent.communicate("\n", timeout=30)
        assert parent.returncode == 0
        assert list(own.iterdir()) == []


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


def test_without_namespaces_the_server_still_listens_nowhere_and_the_gap_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uid = Uid.SAME if scratch_user() is None else Uid.OWN
    bare = Isolation(network=Network.HOST, uid=uid, processes=Processes.HOST)
    monkeypatch.setattr(scratch_module, "probe_isolation", lambda _: bare)
    with caplog.at_level(logging.WARNING), ScratchServer(root=root, tools=tools_of(17)) as scratch:
        folder = scratch.folder
        assert ask(scratch, scratch.admin, "SHOW listen_addresses") == ""
        assert ask(scratch, scratch.admin, "SHOW dynamic_shared_memory_type") == "mmap"
        assert scratch.isolation.to_dict()["network"] == "host"
    assert "could reach the network" in caplog.text
    assert processes_in(folder / "data") == ()
    assert list(root.iterdir()) == []


def test_root_whose_path_is_too_long_for_a_socket_is_a_clear_error(root: Path) -> None:
    long = root / ("x" * 90)
    with (
        pytest.raises(ScratchError, match=r"more than 107 bytes.*shorter path"),
        ScratchServer(root=long, tools=tools_of(17)),
    ):
        pytest.fail("the server started")
    assert list(long.iterdir()) == []


def test_memory_and_disk_bound_the_settings() -> None:
    small = fast_settings(memory_bytes=256 * 1024**2, free_bytes=GIB, own_ipc=False)
    assert (small["shared_buffers"], small["maintenance_work_mem"], small["max_wal_size"]) == ("32MB", "32MB", "1024MB")
    large = fast_settings(memory_bytes=256 * GIB, free_bytes=4096 * GIB, own_ipc=True)
    assert (large["shared_buffers"], large["maintenance_work_mem"], large["max_wal_size"]) == (
        "1024MB",
        "512MB",
        "16384MB",
    )
    assert (small["dynamic_shared_memory_type"], large["dynamic_shared_memory_type"]) == ("mmap", "sysv")
