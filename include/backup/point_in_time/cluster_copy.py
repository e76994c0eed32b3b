"""Make a running copy of a cluster from base backups and WAL, wherever it is to stand, and say where it landed."""

from __future__ import annotations

import getpass
import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from include.backup.base.stream import MANIFEST_FILE
from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    ArchiveError,
    CommandError,
    CommandKilledError,
    RestoreError,
    TargetNotReachedError,
    WalSegmentMissingError,
)
from include.backup.point_in_time import configure
from include.backup.point_in_time.choose import Choice
from include.backup.point_in_time.feed import WalFeed
from include.backup.point_in_time.room import free_bytes
from include.backup.point_in_time.target import RecoveryTarget, TargetKind
from include.backup.point_in_time.unpack import Unpacked, Unpacker, write_tablespace_map
from include.backup.postgres import cluster, postmaster
from include.backup.postgres.account import ServerError, usable_tools
from include.backup.postgres.cluster import write_private
from include.backup.postgres.server import PostgresServer, ServerSpec
from include.backup.postgres.session import OUTPUT_SETTINGS, connect
from include.backup.postgres.tools import EVENT_TRIGGERS_SINCE, PostgresTools
from include.backup.process import Command, Runner
from include.backup.restore.target import NO_SPACE
from include.backup.store import ObjectStore
from include.backup.wal.chain import Chain
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.lsn import format_lsn
from include.backup.wal.segments import Segment

DATA_FOLDER = "data"
SOCKET_FOLDER = "s"
WAL_FOLDER = "wal"
LOG_FILE = "server.log"
NOT_REACHED = "recovery ended before configured recovery target was reached"
_TOLD = re.compile(r"(recovery stopping .*|last completed transaction was at log time .*|redo done at .*)$")
_LANDED = """
SELECT pg_catalog.pg_last_xact_replay_timestamp() AS last_commit,
       pg_catalog.pg_last_wal_replay_lsn()::text AS lsn,
       ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline
"""
Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a copy stands. ``folder`` is there, empty, and can be entered by ``user``, who runs the server."""

    folder: Path
    user: str | None
    port: int
    listen: tuple[str, ...] = ()
    lasting: bool = False
    namespaces: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    recovery_seconds: float = 3600.0

    @property
    def data(self) -> Path:
        return self.folder / DATA_FOLDER

    @property
    def socket(self) -> Path:
        return self.folder / SOCKET_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """Where recovery ended: the last replayed commit's time (None when no commit was replayed), LSN and timeline.

    ``reached`` is False when the log ended before the target, or has a hole before its end, so that the copy is as of
    there. ``told`` are the server's own words, ``segments`` what was fetched.
    """

    last_commit: datetime | None
    lsn: str
    timeline: int
    reached: bool
    told: tuple[str, ...]
    segments: int


class ClusterCopy:
    """One copy. ``build`` makes the data folder, ``recover`` starts the server and replays the log."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        choice: Choice,
        chain: Chain,
        place: Place,
        tools: PostgresTools,
        runner: Runner,
        log: logging.Logger,
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._store = store
        self._choice = choice
        self._chain = chain
        self.place = place
        self._tools = usable_tools(tools, place.user)
        self._runner = runner
        self._log = log
        self._on_bytes = on_bytes
        self._controlled: dict[str, str] = {}
        self.durations: dict[str, float] = {}
        self.server: PostgresServer | None = None
        point = choice.base.point()
        self._first = Segment.at(point.start, timeline=point.timeline, size=chain.size)
        self.feed = WalFeed(
            store,
            ClusterKeys(system_identifier=choice.system_identifier),
            chain,
            choice.history,
            folder=place.folder / WAL_FOLDER,
            user=place.user,
            log=log,
            last=self._last_needed(),
        )

    def build(self, *, verify: bool) -> int:
        """Make the data folder; return how many files PostgreSQL's own manifests were compared with.

        Raises MemberHashError or RestoreError naming what is damaged.
        """
        unpacker = Unpacker(self._store, user=self.place.user, runner=self._runner, progress=self._on_bytes)
        bases = self._choice.bases
        names = [DATA_FOLDER] if len(bases) == 1 else [f"part-{number}" for number in range(len(bases))]
        parts = []
        for base, name in zip(bases, names, strict=True):
            self._log.info("unpacking %s, %d bytes", base.backup_id, base.base.bytes)
            parts.append(self._timed("unpack", partial(unpacker.unpack, base, self.place.folder, name=name)))
        if verify:
            self._verify(parts)
        unpacked = parts[0] if len(parts) == 1 else self._timed("combine", lambda: self._combine(parts))
        if verify and len(parts) > 1:
            self._verify([unpacked])
        (unpacked.data / MANIFEST_FILE).unlink()
        write_tablespace_map(unpacked, user=self.place.user)
        configure.prepare_data(unpacked.data, user=self.place.user)
        self._controlled = configure.controlled_settings(
            self._tools, unpacked.data, user=self.place.user, runner=self._runner
        )
        return sum(base.base.files for base in bases) if verify else 0

    def recover(self) -> Landed:
        """Start the server, bring it WAL until it has recovered, and promote it.

        A time or position after the last commit is none that PostgreSQL can stop at: then it goes on to the end of
        the log. Raises TargetNotReachedError for a transaction or a name that is not in the log,
        WalSegmentMissingError for a hole in it; to the end of the log, it ends there.
        """
        command = self.feed.prepare()
        target = self._choice.target
        with self.feed.running(first=self._first):
            reached = self._timed("recover", lambda: self._start(target, command))
            if not reached:
                self._explain(target)
                self._log.warning("the log ends before %s; recovering to its end instead", target)
                latest = RecoveryTarget(kind=TargetKind.LATEST)
                if not self._timed("recover", lambda: self._start(latest, command)):
                    raise RestoreError(f"recovery to the end of the log failed: {self._server().log_tail()}")
        if self._choice.ends_at is not None:
            self._log.warning(
                "the WAL segment %s is missing, though later ones are stored; recovered to there", self._choice.ends_at
            )
        landed = self._landed(reached=reached and self._choice.ends_at is None)
        self._settle()
        return landed

    def connection(self, dbname: str) -> DatabaseConnection:
        """Return how this process reaches the copy, as its superuser, through its socket."""
        return DatabaseConnection(
            host=str(self.place.socket),
            port=self.place.port,
            dbname=dbname,
            user=self._choice.base.base.superuser,
            sslmode="disable",
        )

    def session(self, dbname: str) -> psycopg.Connection[dict[str, Any]]:
        """Open a session in which none of the source's event triggers runs."""
        return connect(self.connection(dbname), settings={**OUTPUT_SETTINGS, **self.quiet_session()})

    def quiet_session(self) -> dict[str, str]:
        """Return the settings with which a superuser's session runs no event trigger of the source."""
        return {"event_triggers": "off"} if self._tools.major >= EVENT_TRIGGERS_SINCE else {}

    def shut_down(self, *, seconds: float = 300.0) -> None:
        """Let the server write what it has and end, which killing it does not; raises RestoreError."""
        if not postmaster.end_lasting(self.place.data, seconds=seconds):
            raise RestoreError(f"the copy in {self.place.data} does not shut down: {self._server().log_tail()}")
        self.stop()

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self.server is not None:
            self.server.stop()

    def _verify(self, parts: list[Unpacked]) -> None:
        """Let PostgreSQL compare every file with its own manifest."""
        for part in parts:
            argv = (self._tools.path("pg_verifybackup"), "--no-parse-wal", "--quiet", str(part.data))
            command = Command(argv=argv, user=self.place.user, folder=part.data)
            try:
                self._timed("verify", partial(self._runner.run, command))
            except CommandKilledError:
                raise
            except CommandError as error:
                raise ArchiveError(f"pg_verifybackup finds the base backup damaged: {error}") from error

    def _combine(self, parts: list[Unpacked]) -> Unpacked:
        """Make one data folder of a full backup and the incremental ones on it."""
        last = parts[-1]
        data = self.place.folder / DATA_FOLDER
        places = {oid: self.place.folder / f"{DATA_FOLDER}-tablespace-{oid}" for oid in last.tablespaces}
        for path in (data, *places.values()):
            configure.give_folder(path, self.place.user)
        mapping = (f"--tablespace-mapping={last.tablespaces[oid]}={places[oid]}" for oid in places)
        argv = (
            self._tools.path("pg_combinebackup"),
            "--no-sync",
            f"--output={data}",
            *mapping,
            *(str(part.data) for part in parts),
        )
        folder = self.place.folder if self.place.user is None else Path("/")
        try:
            self._runner.run(Command(argv=argv, user=self.place.user, folder=folder))
        except CommandKilledError:
            raise
        except CommandError as error:
            raise RestoreError(f"the incremental base backups cannot be combined: {error}") from error
        for part in parts:
            for path in (part.data, *part.tablespaces.values()):
                shutil.rmtree(path)
        return Unpacked(data=data, tablespaces=places)

    def _start(self, target: RecoveryTarget, command: str) -> bool:
        """Start and recover; return False when the log ended before the target."""
        settings = configure.recovery_settings(
            target,
            controlled=self._controlled,
            restore_command=command,
            timeline=self._choice.history.timeline,
        )
        self.server = self._new_server(settings)
        try:
            self.server.start()
        except ServerError as error:
            self.feed.check()
            if NOT_REACHED in self._log_text():
                self._forget_log()
                return False
            full = f"; {NO_SPACE}" if self._no_room() else ""  # where the server's log cannot be written either
            raise RestoreError(f"the copy does not recover: {error}{full}") from error
        return True

    def _no_room(self) -> bool:
        """Tell whether not even one more segment has room, of which every recovery writes some."""
        return free_bytes(self.place.folder) < self._choice.reach.missing.size

    def _new_server(self, settings: Mapping[str, str]) -> PostgresServer:
        place = self.place
        users = tuple(dict.fromkeys((getpass.getuser(), *(() if place.user is None else (place.user,)))))
        hba, identities = configure.peer_access(self._choice.base.base.superuser, users)
        write_private(place.data / "pg_ident.conf", identities, user=place.user)
        return PostgresServer(
            ServerSpec(
                tools=self._tools,
                data=place.data,
                socket_dir=place.socket,
                superuser=self._choice.base.base.superuser,
                password="",
                port=place.port,
                listen=place.listen,
                user=place.user,
                settings={**settings, **place.settings},
                hba=hba,
                log_file=place.folder / LOG_FILE,
                outlives_parent=place.lasting,
                namespaces=place.namespaces,
                start_seconds=place.recovery_seconds,
            ),
            runner=self._runner,
        )

    def _explain(self, target: RecoveryTarget) -> None:
        """Raise what it means that the log ended too early, unless the end will do."""
        for name in self.feed.facts.missing:
            segment = Segment.parse(name, size=self._chain.size)
            if self._chain.goes_on_after(segment, self._choice.history):
                raise WalSegmentMissingError(
                    f"the WAL segment {name} is missing, though later ones are stored: {target} cannot be reached from "
                    f"{self._choice.base.backup_id}; recover to a time before, to latest, which ends there, or from a "
                    "later base backup"
                )
        if target.kind in (TargetKind.XID, TargetKind.NAME):
            raise TargetNotReachedError(
                f"{target} is not in the WAL from {self._choice.base.base.start_lsn} to "
                f"{format_lsn(self._choice.reach.end)} after {self._choice.base.backup_id}; look whether it is right, "
                "or choose an earlier base backup"
            )

    def _landed(self, *, reached: bool) -> Landed:
        with self.session(self._maintenance) as session:
            row = session.execute(_LANDED).fetchall()[0]
        told = [match[1] for line in self._log_text().splitlines() if (match := _TOLD.search(line))]
        return Landed(
            last_commit=row["last_commit"],
            lsn=row["lsn"],
            timeline=row["timeline"],
            reached=reached,
            told=tuple(told),
            segments=self.feed.facts.segments,
        )

    def _settle(self) -> None:
        """Leave a configuration that speaks of no recovery, for the next start."""
        settings = configure.settled_settings(self._controlled)
        spec = self._new_server(settings).spec
        cluster.configure(
            spec.data,
            user=spec.user,
            settings=cluster.connection_settings(spec.port, spec.listen, spec.socket_dir, tls=None)
            | dict(spec.settings),
            hba=spec.hba,
            tls=None,
        )
        with self.session(self._maintenance) as session:
            session.execute("SELECT pg_catalog.pg_reload_conf()")

    @property
    def _maintenance(self) -> str:
        databases = self._choice.base.base.databases
        return "postgres" if "postgres" in databases else databases[0]

    def _server(self) -> PostgresServer:
        if self.server is None:
            raise RestoreError("the copy was not started")
        return self.server

    def _log_text(self) -> str:
        try:
            return (self.place.folder / LOG_FILE).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _forget_log(self) -> None:
        path = self.place.folder / LOG_FILE
        path.replace(path.with_name(f"{LOG_FILE}.1"))

    def _last_needed(self) -> Segment | None:
        """Return the last segment that recovery reads, where that is known before."""
        target = self._choice.target
        end = self._choice.base.point().end if target.kind is TargetKind.CONSISTENT else target.lsn
        if end is None:
            return None
        return Segment.before(end, timeline=self._choice.history.timeline, size=self._chain.size)

    def _timed(self, name: str, action: Callable[[], Returned]) -> Returned:
        started = time.monotonic()
        try:
            return action()
        finally:
            self.durations[name] = round(self.durations.get(name, 0.0) + time.monotonic() - started, 3)
