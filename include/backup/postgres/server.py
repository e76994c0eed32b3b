"""Make, start and stop PostgreSQL servers of our own: the embedded one, and throw-away ones for proofs."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from include.backup.errors import CommandError, CommandKilledError
from include.backup.postgres import cluster, postmaster
from include.backup.postgres.account import (
    ServerError,
    can_enter,
    give,
    runtime_dir,
    scratch_user,
    source_user,
    usable_tools,
)
from include.backup.postgres.cluster import TlsFiles
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command, Runner

__all__ = [
    "PostgresServer",
    "ServerError",
    "ServerSpec",
    "TlsFiles",
    "runtime_dir",
    "scratch_user",
    "source_user",
    "usable_tools",
]
SOCKET_PATH_BYTES = 107
LOG_TAIL_LINES = 15
ENDING_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What a server is: where its files are, who runs it, how it is reached, and how it is set.

    ``user`` is None for this process's own, else another one (as root). ``listen`` empty means the unix
    socket only. ``outlives_parent`` makes a lasting server; any other ends with the thread that started it,
    and its environment is bare. ``namespaces`` are options of unshare(1), for a throw-away server only.
    """

    tools: PostgresTools
    data: Path
    socket_dir: Path
    superuser: str
    password: str = field(repr=False)
    port: int = 5432
    listen: tuple[str, ...] = ()
    user: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    hba: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    log_file: Path | None = None
    outlives_parent: bool = False
    namespaces: tuple[str, ...] = ()
    start_seconds: float = 60.0

    @property
    def log(self) -> Path:
        return self.log_file or self.data.parent / f"{self.data.name}.log"


class PostgresServer:
    """One server of our own. ``start`` may be called on a new, a stopped or a running one."""

    def __init__(self, spec: ServerSpec, *, runner: Runner | None = None, log: logging.Logger | None = None) -> None:
        path = spec.socket_dir.absolute() / f".s.PGSQL.{spec.port}"
        if len(str(path).encode()) > SOCKET_PATH_BYTES:
            raise ServerError(
                f"the path of the server's socket, {path}, has more than {SOCKET_PATH_BYTES} bytes, "
                "which the system does not allow; use a folder with a shorter path"
            )
        self.spec = spec
        self._runner = runner or Runner(log=log)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the data folder if there is none, start, and wait until the server takes connections.

        Raises ServerError with the last lines of the server's log.
        """
        self.spec = replace(self.spec, tools=usable_tools(self.spec.tools, self.spec.user))
        if self.is_running():
            self._wait_until_ready(previous=None)
            return
        self._prepare()
        previous = postmaster.read_pid_file(self.spec.data)
        if self.spec.outlives_parent:
            self._start_lasting()
        else:
            self._start_child()
        try:
            self._wait_until_ready(previous=previous)
        except BaseException:
            self.stop()
            raise

    def stop(self, *, seconds: float = 60.0) -> None:
        """Stop fast (sessions are ended, data is written), then immediately; a throw-away one just ends."""
        if self._child is not None:
            own_processes = "--pid" in self.spec.namespaces
            postmaster.end_child(self._child, self.spec.data, own_processes=own_processes)
            self._child = None
        elif not postmaster.end_lasting(self.spec.data, seconds=seconds):
            raise ServerError(
                f"the server on {self.spec.data} does not stop; look at pid {self.pid} and {self.spec.log}"
            )

    def is_running(self) -> bool:
        """Tell whether the server of this very data folder runs, whoever started it."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """The server's pid as this process sees it, or None."""
        return postmaster.postmaster_of(self.spec.data)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of the server's log."""
        try:
            text = self.spec.log.read_text(errors="replace")
        except FileNotFoundError:
            return "it logged nothing"
        return "\n".join(text.splitlines()[-lines:]) or "it logged nothing"

    def _prepare(self) -> None:
        spec = self.spec
        spec.data.parent.mkdir(parents=True, exist_ok=True)
        if not can_enter(spec.user, spec.data.parent):
            raise ServerError(
                f"user {spec.user}, which runs the server, cannot enter {spec.data.parent}; "
                "put the data below a folder from runtime_dir()"
            )
        for folder in (spec.socket_dir, spec.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        spec.socket_dir.chmod(0o700)
        give(spec.socket_dir, spec.user)
        if not (spec.data / "PG_VERSION").exists():
            self._initialize()
        made_by = (spec.data / "PG_VERSION").read_text().strip()
        if made_by != str(spec.tools.major):
            raise ServerError(
                f"{spec.data} was made by PostgreSQL {made_by}, but the tools are {spec.tools.version}; "
                "use tools of that version, or another folder"
            )
        self._clear_stale_files()
        cluster.configure(
            spec.data,
            user=spec.user,
            settings=cluster.connection_settings(spec.port, spec.listen, spec.socket_dir, tls=spec.tls)
            | dict(spec.settings),
            hba=spec.hba or cluster.default_hba(listen=bool(spec.listen), tls=spec.tls is not None),
            tls=spec.tls,
        )

    def _initialize(self) -> None:
        spec = self.spec
        with cluster.new_data_folder(spec.data, spec.password, user=spec.user) as (folder, password_file):
            argv = cluster.initdb_argv(spec.tools, folder, spec.superuser, password_file, lasting=spec.outlives_parent)
            try:
                self._runner.run(Command(argv=argv, user=spec.user, folder=folder))
            except CommandKilledError:
                raise
            except CommandError as error:
                raise ServerError(f"the data folder {spec.data} cannot be made: {error}") from error

    def _clear_stale_files(self) -> None:
        """Remove pid and lock files whose pid is a zombie's or another program's now: the server would wait for it.

        A pid file with a dead pid is left to the server, which then looks for backends that survived.
        """
        data = self.spec.data
        if not postmaster.wait_for(lambda: not postmaster.left_of_server(data), ENDING_SECONDS):
            raise ServerError(f"a server on {data} is ending; wait until its processes are gone and retry")
        stale = postmaster.read_pid_file(data)
        if stale is not None and postmaster.is_alive(stale.pid):
            (data / "postmaster.pid").unlink()
        lock = postmaster.read_pid_file(self.spec.socket_dir, name=f".s.PGSQL.{self.spec.port}.lock")
        if lock is not None and lock.data == str(data):
            (self.spec.socket_dir / f".s.PGSQL.{self.spec.port}.lock").unlink()

    def _start_lasting(self) -> None:
        spec = self.spec
        spec.log.touch(mode=0o600)
        give(spec.log, spec.user)
        wait = ("--wait", f"--timeout={int(spec.start_seconds)}")
        argv = (spec.tools.path("pg_ctl"), "start", "--silent", *wait, "-D", str(spec.data))
        try:
            self._runner.run(
                Command(argv=(*argv, "--log", str(spec.log)), user=spec.user, folder=spec.data),
            )
        except CommandError as error:
            raise ServerError(
                f"the server on {spec.data} does not start; its log {spec.log} ends: {self.log_tail()}"
            ) from error

    def _start_child(self) -> None:
        spec = self.spec
        argv = postmaster.child_argv(
            (spec.tools.path("postgres"), "-D", str(spec.data)),
            user=spec.user,
            namespaces=spec.namespaces,
            keep_user=bool(spec.namespaces) and spec.user is None,
        )
        with open(spec.log, "ab", opener=cluster.private) as output:
            self._child = subprocess.Popen(
                argv,
                env={**postmaster.BARE_ENVIRONMENT, "HOME": str(spec.data)},
                cwd=spec.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _has_ended(self) -> bool:
        """Tell whether the server is gone; one that recovers may end long after it was started."""
        if self._child is not None:
            return self._child.poll() is not None
        found = postmaster.read_pid_file(self.spec.data)
        return found is None or not postmaster.is_alive(found.pid)

    def _wait_until_ready(self, *, previous: postmaster.PidFile | None) -> None:
        old = None if previous is None else previous.identity

        def ready() -> bool:
            found = postmaster.read_pid_file(self.spec.data)
            return found is not None and found.identity != old and found.status == "ready"

        def settled() -> bool:
            return ready() or self._has_ended()

        postmaster.wait_for(settled, self.spec.start_seconds)
        if not ready():
            raise ServerError(
                f"the server on {self.spec.data} is not ready after {self.spec.start_seconds:g} s, or ended; "
                f"its log {self.spec.log} ends: {self.log_tail()}"
            )
