"""The dead man's switch: on another machine, without Airflow, it asks whether anybody still looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from include.backup.health.board import Heartbeat


class Pulse(StrEnum):
    """Whether health was looked at lately."""

    ALIVE = "alive"
    SILENT = "silent"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """What the heartbeat says."""

    source: str
    pulse: Pulse
    text: str


def judge(source: str, heartbeat: Heartbeat | None, *, now: datetime, most: timedelta) -> WatchReport:
    """Return whether the last heartbeat is young enough; one from the future is a clock that is wrong, and no pulse."""
    if heartbeat is None:
        return WatchReport(
            source=source,
            pulse=Pulse.NEVER,
            text=f"health of {source} was never looked at: backup_health has not run, or writes to another bucket",
        )
    age = now - heartbeat.at
    minutes = age.total_seconds() / 60
    if not -most <= age <= most:
        return WatchReport(
            source=source,
            pulse=Pulse.SILENT,
            text=f"health of {source} was last looked at {minutes:.0f} minutes ago (run {heartbeat.run_id}); more than "
            f"{most.total_seconds() / 60:.0f} is too long: look whether Airflow's scheduler runs",
        )
    return WatchReport(
        source=source,
        pulse=Pulse.ALIVE,
        text=f"health of {source} was looked at {minutes:.0f} minutes ago, {heartbeat.alerts} alerts were open",
    )
