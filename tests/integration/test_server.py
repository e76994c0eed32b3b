"""Servers of our own, on real PostgreSQL: made, started, reached, stopped, and what they survive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from include.backup.postgres.account import give
from include.backup.postgres.postmaster import processes_in, read_pid_file
from include.backup.postgres.server import (
    PostgresServer,
    ServerError,
    ServerSpec,
    TlsFiles,
    scratch_user,
    source_user,
    usable_tools,
)
from include.backup.process import become
from tests.integration.servers import MAJORS, ROOT, enterable_folder, eventually, ordinary_user_command, psql, tools_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
START_AND_HANG = """
import sys, time
from pathlib import Path
from include.backup.postgres.server import PostgresServer, ServerSpec
from include.backup.postgres.tools import PostgresTools
folder, bin_dir, major, user, lasting = sys.argv[1:]
PostgresServer(ServerSpec(
    tools=PostgresTools(bin_dir=Path(bin_dir), version=major, major=int(major)), data=Path(folder, "data"),
    socket_dir=Path(folder, "s"), superuser="boss", password="pw", user=user or None, outlives_parent=bool(lasting),
)).start()
print("started", flush=True)
time.sleep(600)
"""

Make = Callable[..., PostgresServer]


@pytest.fixture
def folder() -> Iterator[Path]:
    with enterable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresServer]:
    """A server that tests only look at."""
    with enterable_folder() as folder:
        server = PostgresServer(spec_in(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def make(folder: Path) -> Iterator[Make]:
    """Make a server that is stopped after the test."""
    servers = []

    def make(major: int = 17, **changes: Any) -> PostgresServer:
        server = PostgresServer(replace(spec_in(folder, major), **changes))
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


def spec_in(folder: Path, major: int = 17) -> ServerSpec:
    return ServerSpec(
        tools=tools_of(major),
        data=folder / "data",
        socket_dir=folder / "s",
        superuser="boss",
        password="it's \\ secret",
        port=free_port(),
        user=source_user(),
        settings={"fsync": "off"},
    )


def answer(server: PostgresServer, sql: str, *, password: str | None = None, **parameters: str) -> str:
    """Return what the server answers, or its error."""
    spec = server.spec
    over = {"host": str(spec.socket_dir), "port": str(spec.port), "user": spec.superuser, "dbname": "postgres"}
    done = psql(spec.tools, {**over, **parameters}, spec.password if password is None else password, sql)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("major", MAJORS)
def test_lasting_server_starts_again_with_its_data(make: Make, major: int) -> None:
    server = make(major, outlives_parent=True)
    assert not server.is_running()
    server.start()
    answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    assert not server.is_running()
    assert processes_in(server.spec.data) == ()
    server.start()
    assert answer(server, "SELECT number FROM kept") == "42"


def test_every_connection_needs_the_password(running: PostgresServer) -> None:
    assert "password authentication failed" in answer(running, "SELECT 1", password="wrong")
    assert "no password supplied" in answer(running, "SELECT 1", password="")
    assert answer(running, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == "0"
    assert answer(running, "SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'") == "0"


def test_server_is_utf8_and_not_tied_to_the_locale_of_the_machine(running: PostgresServer) -> None:
    sql = "SELECT pg_encoding_to_char(encoding), datcollate, datlocprovider FROM pg_database WHERE datname = 'postgres'"
    assert answer(running, sql) == "UTF8|C.UTF-8|c"


def test_settings_and_rules_are_written_at_each_start(make: Make) -> None:
    server = make(settings={"work_mem": "5MB", "cluster_name": "it's \\ mine"})
    server.start()
    assert answer(server, "SHOW work_mem") == "5MB"
    assert answer(server, "SHOW cluster_name") == "it's \\ mine"
    server.stop()
    server = make(settings={"work_mem": "6MB"}, hba=("local postgres boss scram-sha-256",))
    server.start()
    assert answer(server, "SHOW work_mem") == "6MB"
    assert answer(server, "SHOW cluster_name") == ""
    assert "no pg_hba.conf entry" in answer(server, "SELECT 1", dbname="template1")


def test_server_over_tcp_takes_tls_only_and_is_verified(make: Make, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "key.pem").chmod(0o600)
    tls = TlsFiles(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    server = make(listen=("127.0.0.1",), tls=tls)
    server.start()
    verified = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(tmp_path / "ca.pem")}
    sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert answer(server, sql, **verified) == "TLSv1.3"
    assert "no encryption" in answer(server, sql, host="localhost", sslmode="disable")


def test_server_without_addresses_has_its_socket_only(running: PostgresServer) -> None:
    assert (running.spec.socket_dir / f".s.PGSQL.{running.spec.port}").is_socket()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.spec.port)).close()


def test_start_that_fails_shows_the_end_of_the_log_and_leaves_nothing_running(make: Make) -> None:
    for lasting in (True, False):
        server = make(settings={"shared_preload_libraries": "no_such_library"}, outlives_parent=lasting)
        with pytest.raises(ServerError, match='could not access file "no_such_library"'):
            server.start()
        assert processes_in(server.spec.data) == ()


@pytest.mark.parametrize("lasting", [True, False])
def test_killed_server_starts_again_beside_its_old_pid_file(make: Make, lasting: bool) -> None:
    server = make(outlives_parent=lasting)
    server.start()
    answer(server, "CREATE TABLE kept AS SELECT 42 AS number")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: processes_in(server.spec.data) == ())
    assert not server.is_running()
    assert read_pid_file(server.spec.data) is not None
    server.start()
    assert answer(server, "SELECT number FROM kept") == "42"


def test_pid_file_whose_pid_is_another_program_now_does_not_stop_a_start(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    sleeper = ["sleep", "600"]
    user = server.spec.user
    argv = sleeper if user is None else ["setpriv", *become(user), "--", *sleeper]
    with subprocess.Popen(argv) as stranger:
        try:
            pid_file = server.spec.data / "postmaster.pid"
            pid_file.write_text(f"{stranger.pid}\n{server.spec.data}\n1\n{server.spec.port}\n\n\n\nready\n")
            give(pid_file, user)
            assert not server.is_running()
            server.stop()
            server.start()
            assert answer(server, "SELECT 'up'") == "up"
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("lasting", [True, False])
def test_only_a_lasting_server_survives_a_killed_parent(make: Make, folder: Path, lasting: bool) -> None:
    server = make(password="pw", port=5432)
    tools = server.spec.tools
    argv = [sys.executable, "-c", START_AND_HANG, str(folder), str(tools.bin_dir), str(tools.major)]
    argv += [server.spec.user or "", "lasting" if lasting else ""]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        assert answer(server, "SELECT 'up'") == "up"
        parent.kill()
    if lasting:
        assert answer(server, "SELECT 'up'") == "up"
        assert server.is_running()
    else:
        assert eventually(lambda: processes_in(folder / "data") == ())


def test_ordinary_user_makes_and_starts_a_server_too(folder: Path) -> None:
    tools = usable_tools(tools_of(17), scratch_user(), base=folder)
    with enterable_folder() as own:
        give(own, scratch_user())
        argv = [*ordinary_user_command(folder), "-c", START_AND_HANG, str(own), str(tools.bin_dir), "17", "", ""]
        with subprocess.Popen(argv, cwd="/", stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "started\n"
            over = {"host": str(own / "s"), "user": "boss", "dbname": "postgres"}
            assert psql(tools, over, "pw", "SELECT 'up'").stdout == "up\n"
            parent.kill()
        assert eventually(lambda: processes_in(own / "data") == ())


def test_path_too_long_for_a_socket_is_refused_before_anything_is_made(make: Make, folder: Path) -> None:
    long = folder / ("x" * 100)
    with pytest.raises(ServerError, match=r"more than 107 bytes.*shorter path"):
        make(socket_dir=long)
    assert not long.exists()


def test_longest_path_that_the_system_allows_is_taken(make: Make, folder: Path) -> None:
    port = "/.s.PGSQL.5432"
    server = make(port=5432, socket_dir=folder / ("x" * (107 - len(port) - len(str(folder)) - 1)))
    server.start()
    assert answer(server, "SELECT 'up'") == "up"


@pytest.mark.postgres15
def test_data_of_another_major_version_is_refused(make: Make) -> None:
    server = make(17)
    server.start()
    server.stop()
    with pytest.raises(ServerError, match=r"made by PostgreSQL 17, but the tools are 15\."):
        make(15).start()


def test_data_folder_that_was_half_made_is_made_again(make: Make) -> None:
    server = make(tools=replace(tools_of(17), version="17"), superuser="pg_reserved")
    with pytest.raises(ServerError, match='superuser name "pg_reserved" is disallowed'):
        server.start()
    assert list(server.spec.data.parent.glob("*data*")) == []
    make().start()


@needs_root
def test_folder_that_the_user_cannot_enter_is_a_clear_error(make: Make, folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    with pytest.raises(ServerError, match=r"cannot enter .*/closed; put the data below"):
        make(data=folder / "closed" / "data").start()
