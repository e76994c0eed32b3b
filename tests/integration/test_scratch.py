"""Scratch servers on real PostgreSQL: what code inside one can reach, and that nothing of one is left."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.errors import ScratchError
from include.backup.postgres.account import give, scratch_user, usable_tools
from include.backup.postgres.postmaster import processes_in
from include.backup.proof import scratch as scratch_module
from include.backup.proof.sandbox import Isolation, Network, Processes, Uid, probe_isolation
from include.backup.proof.scratch import ScratchServer, fast_settings
from tests.integration.servers import (
    ENTER_AND_HANG,
    MAJORS,
    ask,
    enterable_folder,
    ordinary_user_command,
    psql,
    run_inside,
    tools_of,
)

CANARY = "canary-of-the-parent"
GIB = 1024**3
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
