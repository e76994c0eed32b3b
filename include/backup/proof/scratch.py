"""Throw-away PostgreSQL servers, in which backups are restored and compared."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from include.backup.errors import CommandError, CommandKilledError, ScratchError
from include.backup.postgres.account import PASSABLE, ServerError, runtime_dir, scratch_user
from include.backup.postgres.server import PostgresServer, ServerSpec
from include.backup.postgres.tools import EVENT_TRIGGERS_SINCE, PostgresTools
from include.backup.process import Command, Runner
from include.backup.proof.sandbox import Isolation, probe_isolation
from include.backup.proof.scratch_lease import DATA_FOLDER, Lease, reap_scratch, release_stand_in, remove_scratch

__all__ = ["Isolation", "ScratchRole", "ScratchServer", "fast_settings", "reap_scratch"]
ADMIN = "pulse_scratch_admin"
LOADER = "pulse_restore_loader"
PORT = 5432
MIB = 1024 * 1024
PASSWORD_BYTES = 24
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRole:
    """A role of a scratch server, and how libpq connects as it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    dbname: str

    def libpq_parameters(self) -> dict[str, str]:
        """Return libpq's keywords, without the password."""
        return {"host": self.host, "port": str(self.port), "user": self.user, "dbname": self.dbname}

    def environment(self) -> dict[str, str]:
        """Return what the PostgreSQL tools need in their environment."""
        return {"PGPASSWORD": self.password}

    def on(self, dbname: str) -> Self:
        """Return the same role on another database."""
        return replace(self, dbname=dbname)


class ScratchServer:
    """A throw-away server: ``with ScratchServer(root=…, tools=…) as scratch``.

    It has its own uid (as root), a bare environment, no network, and a socket that only this user can reach;
    ``isolation`` says what of this the machine allows. It ends with the thread that entered the block, even
    by SIGKILL; what is then left on disk is for ``reap_scratch``. ``admin`` is a superuser; ``loader`` is not,
    and loads the data: constraints and triggers of the source run as whoever loads.
    """

    admin: ScratchRole
    loader: ScratchRole

    def __init__(
        self,
        *,
        root: Path,
        tools: PostgresTools,
        runner: Runner | None = None,
        log: logging.Logger | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.id = f"scratch-{secrets.token_hex(4)}"
        self.isolation = probe_isolation(scratch_user())
        self._root = root
        self._tools = tools
        self._settings = dict(settings or {})
        self._log = log or logging.getLogger(__name__)
        self._runner = runner or Runner(log=self._log)
        self._folder: Path | None = None
        self._server: PostgresServer | None = None

    def __enter__(self) -> Self:
        started = time.monotonic()
        try:
            self._start()
        except (ServerError, CommandError, OSError) as error:
            self._close()
            if isinstance(error, CommandKilledError):
                raise
            raise ScratchError(f"the scratch server below {self._root} cannot be used: {error}") from error
        except BaseException:
            self._close()
            raise
        gaps = self.isolation.gaps()
        if gaps:
            self._log.warning("code inside a restored database could reach %s", ", ".join(gaps))
        seconds = time.monotonic() - started
        self._log.info("scratch server in %s: PostgreSQL %s, %.2f s", self.folder, self._tools.version, seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def folder(self) -> Path:
        """The server's own folder, below ``root`` or what stands in for it."""
        if self._folder is None:
            raise ScratchError("the scratch server is not started; use it in a with block")
        return self._folder

    @property
    def pid(self) -> int | None:
        """The server's pid, or None when it does not run."""
        return None if self._server is None else self._server.pid

    def conninfo(self, role: ScratchRole) -> dict[str, str]:
        """Return libpq's keywords for a role, without the password."""
        return role.libpq_parameters()

    def environment(self, role: ScratchRole) -> dict[str, str]:
        """Return the environment with which the PostgreSQL tools connect as a role."""
        return role.environment()

    def log_tail(self) -> str:
        """Return the last lines of the server's log, which names objects but no rows."""
        return "" if self._server is None else self._server.log_tail()

    def _start(self) -> None:
        user = scratch_user()
        try:
            self._make_folder(runtime_dir(self._root, user))
        except FileNotFoundError:  # the last server in a stand-in folder has just removed it
            self._make_folder(runtime_dir(self._root, user))
        self.admin = self._role(ADMIN)
        self.loader = self._role(LOADER)
        ipc = "--ipc" in self.isolation.namespaces
        free_bytes = shutil.disk_usage(self.folder).free
        settings = fast_settings(memory_bytes=usable_memory(), free_bytes=free_bytes, own_ipc=ipc)
        self._server = PostgresServer(
            ServerSpec(
                tools=self._tools,
                data=self.folder / DATA_FOLDER,
                socket_dir=Path(self.admin.host),
                superuser=self.admin.user,
                password=self.admin.password,
                port=PORT,
                user=user,
                settings={**settings, **self._settings},
                hba=("local all all scram-sha-256",),
                namespaces=self.isolation.namespaces,
            ),
            runner=self._runner,
        )
        self._server.start()
        self._make_loader()

    def _make_folder(self, base: Path) -> None:
        """Make the folder under a name that already has its lease when the reaper can see it."""
        self._folder = work = base / f".{self.id}"
        work.mkdir(mode=PASSABLE)
        work.chmod(PASSABLE)
        Lease.of_this_process(now=datetime.now(UTC)).write(work)
        self._folder = work.rename(base / self.id)

    def _role(self, name: str) -> ScratchRole:
        return ScratchRole(
            host=str(self.folder.absolute() / "s"),
            port=PORT,
            user=name,
            password=secrets.token_urlsafe(PASSWORD_BYTES),
            dbname="postgres",
        )

    def _make_loader(self) -> None:
        connection = self.admin.libpq_parameters()
        argv = (
            self._tools.path("psql"),
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--host={connection['host']}",
            f"--port={connection['port']}",
            f"--username={connection['user']}",
            f"--dbname={connection['dbname']}",
        )
        statements = (
            f"CREATE ROLE {LOADER} LOGIN BYPASSRLS PASSWORD '{self.loader.password}';\n"
            f"GRANT pg_read_all_data, pg_write_all_data TO {LOADER};\n"
        )
        # Since then there are event triggers on login too. A role's setting wins over what the restored database says;
        # without it, code of the source would run in each session of the superuser.
        if self._tools.major >= EVENT_TRIGGERS_SINCE:
            statements += (
                f"ALTER ROLE {ADMIN} SET event_triggers = off; ALTER ROLE {LOADER} SET event_triggers = off;\n"
            )
        with tempfile.TemporaryFile() as script:
            script.write(statements.encode())
            script.seek(0)
            self._runner.run(Command(argv=argv, environment=self.admin.environment()), stdin=script)

    def _close(self) -> None:
        try:
            if self._server is not None:
                self._server.stop()
            if self._folder is not None:
                remove_scratch(self._folder)
                release_stand_in(self._root)
        except (ServerError, ScratchError, OSError) as error:
            self._log.warning("the scratch server %s is left for the reaper: %s", self.id, error)


def fast_settings(*, memory_bytes: int, free_bytes: int, own_ipc: bool) -> dict[str, str]:
    """Return settings for a server that is filled once, read once, and never survives a crash.

    Dynamic shared memory is never ``posix``: a server that is killed leaves that in /dev/shm, which is small
    in containers besides. In its own IPC namespace ``sysv`` goes when the server goes.
    """
    return {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "wal_init_zero": "off",
        "wal_recycle": "off",
        "max_wal_senders": "0",
        "max_wal_size": f"{_bounded(free_bytes // 8, 1024, 16 * 1024)}MB",
        "checkpoint_timeout": "1h",
        "archive_mode": "off",
        "autovacuum": "off",
        "shared_buffers": f"{_bounded(memory_bytes // 8, 32, 1024)}MB",
        "maintenance_work_mem": f"{_bounded(memory_bytes // 16, 32, 512)}MB",
        "dynamic_shared_memory_type": "sysv" if own_ipc else "mmap",
        "max_connections": "40",
        "max_locks_per_transaction": "1024",
        "max_prepared_transactions": "0",
        "lo_compat_privileges": "on",
        "jit": "off",
        "lock_timeout": "0",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "logging_collector": "off",
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
    }


def usable_memory() -> int:
    """Return the bytes of memory that are free for use, within the container's limit if there is one."""
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limits = [_limit(path) for path in CGROUP_LIMITS]
    return min([available, *(limit for limit in limits if limit is not None)])


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _bounded(size_bytes: int, least_mib: int, most_mib: int) -> int:
    return max(least_mib, min(most_mib, size_bytes // MIB))
