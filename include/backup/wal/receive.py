"""receive: stream WAL from the ``run`` slot into staging, up to a commit of this run. Nothing leaves the source."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from include.backup.connections import DatabaseConnection
from include.backup.errors import CommandError, CommandTimeoutError, WalBrokenError, WalError, WalTimeoutError
from include.backup.postgres.session import connect, connection_string
from include.backup.postgres.tools import find_tools
from include.backup.process import Command
from include.backup.records import from_json, to_json
from include.backup.staging import full_disk_named
from include.backup.wal.chain import Chain, Reach, spans_of
from include.backup.wal.context import WalContext
from include.backup.wal.history import History, parse_history
from include.backup.wal.lock import bounded, wal_lock
from include.backup.wal.lsn import format_lsn
from include.backup.wal.mark import RunMark, mark_run
from include.backup.wal.plan import WalPlan, read_plan
from include.backup.wal.segment_file import check_segment, cut
from include.backup.wal.segments import Segment
from include.backup.wal.slots import copy_to_run, drop_slot, read_slot

RECEIVE_FILE, MARK_FILE, FOLDER = "receive.json", "mark.json", "wal"
FORMAT_VERSION = 1
# Beside the time that the receiver has, for the queries before and after it.
ANSWER_FACTOR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What lies in staging. ``partial_end`` is how far the beginning of the segment ``partial`` goes."""

    timeline: int
    start_lsn: str
    end_lsn: str
    segments: tuple[str, ...]
    partial: str | None
    partial_end: str | None
    histories: tuple[str, ...]
    mark_lsn: str
    mark_time: datetime
    switched: bool
    caught_up: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        kept = {name: value for name, value in asdict(self).items() if name not in ("segments", "histories")}
        return {**kept, "mark_time": self.mark_time.isoformat(), "segments": len(self.segments)}

    def line(self) -> str:
        rest = "" if self.partial is None else f" and the beginning of {self.partial}"
        behind = "" if self.caught_up else "; there is more, which the next pass receives"
        return (
            f"received {len(self.segments)} segments{rest}, {self.start_lsn} to {self.end_lsn} of timeline "
            f"{self.timeline}, in {self.seconds:.1f} s{behind}"
        )


def run(ctx: WalContext) -> Received:
    """Receive what the source has written since the last run, at most one batch of it.

    Raises WalTimeoutError, WalBrokenError for WAL that the source no longer has, and WalDiffersError.
    """
    started = time.monotonic()
    limit = ANSWER_FACTOR * ctx.policy.timeouts.receive.total_seconds()
    with (
        ctx.staging.locked(),
        connect(ctx.database) as connection,
        bounded(connection, seconds=limit),
        wal_lock(connection, ctx.source.name),
    ):
        plan = read_plan(ctx)
        folder = _new_folder(ctx)
        hold = read_slot(connection, ctx.policy.hold_slot)
        if hold is None or hold.restart_lsn is None:
            raise WalBrokenError(
                f"the slot {ctx.policy.hold_slot} is gone or lost; the next run makes a new one and asks for a base "
                "backup"
            )
        copy_to_run(connection, hold=ctx.policy.hold_slot, run=ctx.policy.run_slot)
        mark = _mark(ctx, connection, plan, hold.restart_lsn)
        target = _target(mark, hold.restart_lsn, batch=ctx.policy.batch_bytes, size=plan.segment_size)
        _stream(ctx, connection, plan, folder, target)
        received = _look(plan, folder, start=hold.restart_lsn, target=target, mark=mark, started=started)
        drop_slot(connection, ctx.policy.run_slot)
        _publish(ctx, folder, received)
    return received


def read_received(ctx: WalContext) -> Received:
    """Return what receive left; raises StagingMissingError."""
    content = ctx.staging.need(RECEIVE_FILE, "receive")
    return from_json(Received, content, format_version=FORMAT_VERSION, name=RECEIVE_FILE)


def receive_command(*, program: str, database: DatabaseConnection, slot: str, folder: Path, end: int) -> Command:
    """Return the command that streams until ``end`` is there: endpos is the byte before it, not it itself."""
    argv = (
        program,
        f"--directory={folder}",
        f"--slot={slot}",
        f"--endpos={format_lsn(end - 1)}",
        "--no-loop",
        "--no-password",
        "--verbose",
        f"--dbname={connection_string(database)}",
    )
    return Command(argv=argv, environment=database.environment())


def _new_folder(ctx: WalContext) -> Path:
    """Return an empty folder; what an earlier pass or try received is stored, or still on the source."""
    (ctx.staging.path / RECEIVE_FILE).unlink(missing_ok=True)
    shutil.rmtree(ctx.staging.path / FOLDER, ignore_errors=True)
    folder = ctx.staging.new_try() / FOLDER
    folder.mkdir()
    return folder


def _mark(ctx: WalContext, connection: psycopg.Connection[dict[str, Any]], plan: WalPlan, start: int) -> RunMark:
    """Return the run's mark. It is made once: a new one at each pass would be one that the passes never reach."""
    content = ctx.staging.read(MARK_FILE)
    if content is not None:
        kept = from_json(RunMark, content, format_version=FORMAT_VERSION, name=MARK_FILE)
        if kept.end > start:
            return kept
    mark = mark_run(connection, ctx.run.run_id, segment_size=plan.segment_size, switch=plan.may_switch)
    ctx.staging.write(MARK_FILE, to_json(mark, format_version=FORMAT_VERSION))
    return mark


def _target(mark: RunMark, start: int, *, batch: int, size: int) -> int:
    """Return where to stop: at the mark, or at the end of the last whole segment of a batch."""
    whole = (start // size + max(1, batch // size)) * size
    return min(mark.end, whole)


def _stream(
    ctx: WalContext, connection: psycopg.Connection[dict[str, Any]], plan: WalPlan, folder: Path, target: int
) -> None:
    tools = find_tools(ctx.source.postgres_major or plan.server_major, at_least=plan.server_major)
    command = receive_command(
        program=tools.path("pg_receivewal"),
        database=ctx.database,
        slot=ctx.policy.run_slot,
        folder=folder,
        end=target,
    )
    seconds = ctx.policy.timeouts.receive.total_seconds()
    try:
        ctx.runner.run(command, on_line=lambda line: ctx.log.debug("%s", line), timeout_seconds=seconds)
    except CommandTimeoutError as error:
        # Where the network is gone, giving the lock back would wait for minutes; the server does it by itself.
        connection.close()
        raise WalTimeoutError(
            f"the source did not send its log up to {format_lsn(target)} within {seconds:.0f} s; nothing is lost, the "
            f"slot {ctx.policy.hold_slot} keeps it: look at the source's load and network, or raise timeouts.receive"
        ) from error
    except CommandError as error:
        if "has already been removed" in str(error):
            raise WalBrokenError(
                f"the source has removed WAL that was not stored ({error}); the next run asks for a base backup"
            ) from error
        raise


def _look(plan: WalPlan, folder: Path, *, start: int, target: int, mark: RunMark, started: float) -> Received:
    """Check what came: from where the slot begins, without a hole, to where it was to end.

    pg_receivewal begins at the server's present position, with exit code 0, when its slot has nothing to give.
    """
    chain = _chain_of(folder, plan)
    first = min((segment for segment in _segments(folder, plan.segment_size)), default=None)
    reach = Reach(end=start, timeline=0, missing=Segment.at(start, timeline=plan.timeline, size=plan.segment_size))
    if first is not None and first.number == start // plan.segment_size:
        history = chain.histories.get(plan.timeline, History(timeline=plan.timeline))
        reach = chain.reach(start, timeline=first.timeline, target=history)
    complete = target // plan.segment_size * plan.segment_size
    partial = None if complete == target else Segment.at(target, timeline=plan.timeline, size=plan.segment_size)
    if complete > start and reach.end < complete:
        raise WalBrokenError(
            f"the source sent no {reach.missing.name}, though its slot begins at {format_lsn(start)}; what follows was "
            "not stored. Run again; if it stays so, the next base backup begins the chain anew"
        )
    segments = [one for one in _segments(folder, plan.segment_size) if one.end <= complete]
    for segment in segments:
        check_segment(folder / segment.name, segment, system_identifier=plan.system_identifier)
    if partial is not None:
        path = folder / f"{partial.name}.partial"
        if not path.is_file():
            raise WalError(f"the source sent no beginning of {partial.name}; nothing is lost, run again")
        check_segment(path, partial, system_identifier=plan.system_identifier, end=target)
        cut(path, target - partial.start)
    return Received(
        timeline=plan.timeline,
        start_lsn=format_lsn(start),
        end_lsn=format_lsn(target),
        segments=tuple(segment.name for segment in segments),
        partial=None if partial is None else partial.name,
        partial_end=None if partial is None else format_lsn(target),
        histories=tuple(sorted(path.name for path in folder.glob("*.history"))),
        mark_lsn=format_lsn(mark.lsn),
        mark_time=mark.time,
        switched=mark.switched,
        caught_up=target >= mark.end,
        seconds=round(time.monotonic() - started, 3),
    )


def _segments(folder: Path, size: int) -> list[Segment]:
    names = sorted(path.name for path in folder.iterdir())
    return [Segment.parse(name, size=size) for name in names if "." not in name]


def _chain_of(folder: Path, plan: WalPlan) -> Chain:
    histories: Mapping[int, History] = {
        found.timeline: found
        for found in (parse_history(path.name, path.read_bytes()) for path in folder.glob("*.history"))
    }
    return Chain(size=plan.segment_size, spans=spans_of(_segments(folder, plan.segment_size)), histories=histories)


def _publish(ctx: WalContext, folder: Path, received: Received) -> None:
    """Give the folder its final name; one of an earlier pass is gone by then."""
    with full_disk_named(ctx.staging.path):
        folder.rename(ctx.staging.path / FOLDER)
    ctx.staging.write(RECEIVE_FILE, to_json(received, format_version=FORMAT_VERSION))
