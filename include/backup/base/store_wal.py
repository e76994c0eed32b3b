"""store_wal of a base backup: its files are worth nothing without the log up to where they are consistent."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from include.backup.errors import ParameterError, WalBrokenError, WalSegmentMissingError
from include.backup.point_in_time.choose import Wanted, choose
from include.backup.point_in_time.stored import read_stored
from include.backup.point_in_time.target import RecoveryTarget, TargetKind
from include.backup.steps.context import StepContext
from include.backup.wal.context import WalContext
from include.backup.wal.lsn import format_lsn
from include.backup.wal.run import run as store_all


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWalReport:
    """Up to where WAL is stored without a hole, from the base backup on; ``note`` says what was broken before it."""

    backup_id: str
    stored_to: str
    timeline: int
    seconds: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"WAL of {self.backup_id} is stored without a hole to {self.stored_to}, timeline {self.timeline}, "
            f"{self.seconds:.1f} s"
        )


def run(ctx: StepContext) -> StoreWalReport:
    """Store the source's log now, unless what the backup needs is stored already.

    Raises WalSegmentMissingError when it is not stored even then.
    """
    started = time.monotonic()
    try:
        return _report(ctx, started)
    except WalSegmentMissingError:
        ctx.log.info("not all of the WAL that %s needs is stored yet; storing it now", ctx.backup_id)
    if ctx.source.incremental is None:
        raise ParameterError(
            f"the policy has no incremental block for {ctx.source.name}, so that nobody stores its WAL and no base "
            "backup can be recovered; add the block"
        )
    note = ""
    try:
        store_all(WalContext.of_step(ctx), on_step=lambda name, step: ctx.log.info("%s: %s", name, step.line()))
    except WalBrokenError as error:
        # That is why a base backup is taken: from it on the chain is whole again, or the look below says so.
        note = str(error)
        ctx.log.warning("%s", note)
    return _report(ctx, started, note)


def _report(ctx: StepContext, started: float, note: str = "") -> StoreWalReport:
    stored = read_stored(ctx.source, ctx.store, system_identifier=ctx.tier.prefix.split("/")[1])
    target = RecoveryTarget(kind=TargetKind.CONSISTENT)
    choice = choose(stored, Wanted(target=target, base=ctx.backup_id, unproven=True))
    return StoreWalReport(
        backup_id=ctx.backup_id,
        stored_to=format_lsn(choice.reach.end),
        timeline=choice.reach.timeline,
        seconds=round(time.monotonic() - started, 3),
        note=note,
    )
