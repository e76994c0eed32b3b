"""One run in one process: for the command line, and for chains that need WAL stored before they go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from include.backup.wal import advancing, plan, receive, reporting, storing
from include.backup.wal.context import WalContext
from include.backup.wal.record import RunRecord


class Step(Protocol):
    """What a step tells of its work."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain ids and numbers."""

    def line(self) -> str:
        """Return one line of evidence."""


OnStep = Callable[[str, Step], None]


def run(ctx: WalContext, *, on_step: OnStep = lambda name, step: None) -> RunRecord:
    """Store everything up to a commit of this run, in as many passes as it takes, and write the record.

    Raises WalBrokenError, after it has done all that, when the chain was found broken.
    """
    on_step("preflight", plan.run(ctx))
    catch_up(ctx, on_step=on_step)
    report = reporting.run(ctx)
    on_step("report", report)
    reporting.check_whole(report.record)
    return report.record


def catch_up(ctx: WalContext, *, on_step: OnStep = lambda name, step: None) -> int:
    """Receive, store and advance until the source has nothing more; return how many passes it took."""
    passes = 0
    while True:
        passes += 1
        received = receive.run(ctx)
        on_step("receive", received)
        on_step("upload", storing.run(ctx))
        on_step("advance", advancing.run(ctx))
        if received.caught_up:
            return passes
