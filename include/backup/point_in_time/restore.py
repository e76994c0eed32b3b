"""Recover a source to a point in time: a new server in a folder of its own, beside everything that there is."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from include.backup.base.preflight import base_tools
from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.in_use import reading_all
from include.backup.point_in_time.choose import Choice, Stored, Wanted, choose
from include.backup.point_in_time.cluster_copy import WAL_FOLDER, ClusterCopy, Landed, Place
from include.backup.point_in_time.configure import left_off
from include.backup.point_in_time.room import free_bytes, full_disk_named, needed_bytes
from include.backup.postgres.account import can_enter, give, source_user
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Runner
from include.backup.proof.checks import run_checks
from include.backup.proof.record import CheckResult
from include.backup.store import ObjectStore
from include.backup.wal.lsn import format_lsn

ADDRESS = "127.0.0.1"
PROGRESS_SECONDS = 10.0
CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PointInTimePlan:
    """What would be done, all of it decided; nothing was changed yet."""

    source: str
    choice: Choice
    stored: Stored
    tools: PostgresTools
    folder: Path
    port: int
    needed_bytes: int

    def lines(self) -> Iterator[str]:
        """Yield the preview as a person reads it."""
        choice = self.choice
        base = choice.base
        yield f"recover      {self.source} (cluster {choice.system_identifier}) to {choice.target}"
        yield f"from         {base.backup_id}, {base.stopped_at:%Y-%m-%d %H:%M:%S} UTC, {base.standing.value}"
        for parent in reversed(choice.bases[:-1]):
            yield f"             built on {parent.backup_id}"
        yield (
            f"WAL          from {base.base.start_lsn}; without a hole to {format_lsn(choice.reach.end)}, timeline "
            f"{choice.reach.timeline}"
        )
        yield (
            f"window       {choice.earliest:%Y-%m-%d %H:%M:%S} to {choice.latest:%Y-%m-%d %H:%M:%S} UTC from this base "
            "backup"
        )
        if choice.ends_at is not None:
            yield (
                f"HOLE         the WAL segment {choice.ends_at} is missing, though later ones are stored: recovery "
                "ends there, without what was committed after; only a base backup behind it goes further"
            )
        yield f"into         {self.folder}, port {self.port} on {ADDRESS}, PostgreSQL {self.tools.version}"
        yield f"needs        {self.needed_bytes} bytes of disk"
        for table in base.base.unlogged:
            yield f"empty after  {table} (unlogged)"
        for text in left_off(base):
            yield f"note         {text}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain ids and numbers."""
        choice = self.choice
        return {
            "source": self.source,
            "system_identifier": choice.system_identifier,
            "target": str(choice.target),
            "bases": [base.backup_id for base in choice.bases],
            "standing": choice.base.standing.value,
            "timeline": choice.reach.timeline,
            "wal_until": format_lsn(choice.reach.end),
            "earliest": choice.earliest.isoformat(),
            "latest": choice.latest.isoformat(),
            "hole": choice.ends_at,
            "folder": str(self.folder),
            "port": self.port,
            "needed_bytes": self.needed_bytes,
            "unlogged": list(choice.base.base.unlogged),
            "notes": list(left_off(choice.base)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PointInTimeReport:
    """Where the copy landed and how it is reached; ``reached`` is False when the log ended before the target.

    ``hole`` is the missing segment at which it ended, though later ones are stored.
    """

    source: str
    target: str
    backup_id: str
    reached: bool
    last_commit: str | None
    lsn: str
    timeline: int
    told: tuple[str, ...]
    segments: int
    folder: str
    port: int
    socket: str
    superuser: str
    database: str
    checks: tuple[CheckResult, ...]
    durations: dict[str, float]
    seconds: float
    hole: str | None = None

    @property
    def failed_checks(self) -> tuple[CheckResult, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def details(self) -> Iterator[str]:
        """Yield what whoever goes on from here needs beside the line of evidence."""
        for text in self.told:
            yield f"the server said: {text}"
        for check in self.failed_checks:
            yield f"CHECK FAILED {check.name}: {check.detail}"
        yield f"enter it with: psql -h {self.socket} -p {self.port} -U {self.superuser} -d {self.database}"

    def line(self) -> str:
        """Return one line of evidence."""
        commit = self.last_commit or "before the base backup ended"
        landed = f"last commit {commit}, LSN {self.lsn}, timeline {self.timeline}"
        how = "recovered to" if self.reached else "THE LOG ENDED BEFORE the target; recovered to the end of it, not to"
        if self.hole is not None:
            how = f"THE LOG HAS A HOLE at {self.hole}; recovered to there, not to"
        failed = f", {len(self.failed_checks)} CHECKS FAILED" if self.failed_checks else ""
        return (
            f"{self.source} {how} {self.target}: {landed}; {len(self.checks)} checks{failed}; {self.folder}, port "
            f"{self.port}, {self.seconds:.1f} s"
        )


def plan_point_in_time(
    stored: Stored, wanted: Wanted, *, source: str, folder: Path, port: int, check_place: bool = True
) -> PointInTimePlan:
    """Decide everything and check the place; changes nothing.

    Raises TargetOutsideWindowError with the window, WalSegmentMissingError, RestoreRefusedError and others, each before
    anything is read.
    """
    choice = choose(stored, wanted)
    tools = base_tools(choice.base.manifest.dump.server.major)
    needed = needed_bytes(choice)
    if check_place:
        _check_place(folder, port, needed)
    return PointInTimePlan(
        source=source, choice=choice, stored=stored, tools=tools, folder=folder, port=port, needed_bytes=needed
    )


def restore_point_in_time(
    plan: PointInTimePlan,
    *,
    store: ObjectStore,
    runner: Runner,
    log: logging.Logger,
    seconds: float = 6 * 3600.0,
    on_bytes: Callable[[int], None] | None = None,
) -> PointInTimeReport:
    """Build the server, recover it, check it, and leave it running.

    When it fails, the server is stopped and the folder removed: nothing of it stays. Raises TargetFullError when the
    folder's disk becomes full.
    """
    started = time.monotonic()
    user = source_user()
    # A kept base backup keeps the log that it needs.
    bases = [base.manifest for base in plan.choice.bases]
    with (
        reading_all(store, bases, what=f"a recovery into {plan.folder}"),
        full_disk_named(plan.folder, needed=plan.needed_bytes),
        _new_folder(plan.folder, user),
    ):
        copy = ClusterCopy(
            store=store,
            choice=plan.choice,
            chain=plan.stored.chain,
            place=Place(
                folder=plan.folder,
                user=user,
                port=plan.port,
                listen=(ADDRESS,),
                lasting=True,
                recovery_seconds=seconds,
            ),
            tools=plan.tools,
            runner=runner,
            log=log,
            on_bytes=on_bytes or _Progress(plan.choice, log).add,
        )
        try:
            copy.build(verify=False)
            landed = copy.recover()
            with copy.session(plan.choice.base.manifest.dump.server.database) as session:
                checks = run_checks(session, plan.source)
        except BaseException:
            copy.stop()
            raise
    return _report(plan, copy, landed, checks, time.monotonic() - started)


def _report(
    plan: PointInTimePlan, copy: ClusterCopy, landed: Landed, checks: tuple[CheckResult, ...], seconds: float
) -> PointInTimeReport:
    return PointInTimeReport(
        source=plan.source,
        target=str(plan.choice.target),
        backup_id=plan.choice.base.backup_id,
        reached=landed.reached,
        last_commit=None if landed.last_commit is None else landed.last_commit.isoformat(),
        lsn=landed.lsn,
        timeline=landed.timeline,
        told=landed.told,
        segments=landed.segments,
        folder=str(plan.folder),
        port=plan.port,
        socket=str(copy.place.socket),
        superuser=plan.choice.base.base.superuser,
        database=plan.choice.base.manifest.dump.server.database,
        checks=checks,
        durations=dict(copy.durations),
        seconds=round(seconds, 3),
        hole=plan.choice.ends_at,
    )


def _check_place(folder: Path, port: int, needed: int) -> None:
    if not folder.is_absolute():
        raise ParameterError(f"the folder {folder} is not absolute; give a whole path")
    if folder.exists() or folder.is_symlink():
        raise RestoreRefusedError(f"{folder} is there already; give a folder that does not exist yet, or remove it")
    there = next(parent for parent in folder.parents if parent.exists())
    if not can_enter(source_user(), there):
        raise RestoreRefusedError(
            f"the user {source_user()}, who runs the server, cannot enter {there}; give a folder below one that all "
            "can enter, e.g. /var/lib/postgresql"
        )
    room = free_bytes(there)
    if room < needed:
        raise RestoreRefusedError(
            f"{there} has {room} bytes free and the copy needs {needed}; free space or give another folder"
        )
    with socket.socket() as trial:
        trial.settimeout(CONNECT_SECONDS)
        if trial.connect_ex((ADDRESS, port)) == 0:
            raise RestoreRefusedError(f"port {port} is in use on {ADDRESS}; give another one")


@contextmanager
def _new_folder(folder: Path, user: str | None) -> Iterator[None]:
    """Make the folder, which is this call's alone, and remove it if the block fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise RestoreRefusedError(f"{folder} was made by somebody else meanwhile; give another folder") from error
    give(folder, user)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(folder)
        raise
    shutil.rmtree(folder / WAL_FOLDER)


class _Progress:
    """Logs how much of the base backups was read, at most one line in some seconds."""

    def __init__(self, choice: Choice, log: logging.Logger) -> None:
        self._total = sum(base.manifest.archive.size for base in choice.bases)
        self._log = log
        self._done = 0
        self._next = time.monotonic() + PROGRESS_SECONDS

    def add(self, count: int) -> None:
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._log.info("%d of %d bytes unpacked (%d %%)", self._done, self._total, 100 * self._done // self._total)
