"""Where physical replication is refused: watch the provider's own point-in-time recovery, and never pretend.

Hosted Supabase keeps physical replication to itself. What its window of recovery is, it says; that its recovery works,
only its own restore shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from include.backup.connections import DatabaseConnection
from include.backup.errors import WalRefusedError
from include.backup.policy import SourcePolicy
from include.backup.postgres.replication import is_hosted_supabase
from include.backup.supabase.records import PitrWindow, ProjectBackups

if TYPE_CHECKING:
    from include.backup.supabase.project import SupabaseProject

OLD_SECONDS = 3600.0


class Mode(StrEnum):
    """How a source can be recovered to a point in time."""

    STREAM = "stream"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderWindow:
    """Between which times the provider says that it can recover; nothing of it is stored or proven here."""

    earliest: datetime
    latest: datetime
    age_seconds: float
    warning: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "earliest": self.earliest.isoformat(),
            "latest": self.latest.isoformat(),
            "age_seconds": round(self.age_seconds, 1),
            "warning": self.warning,
        }

    def line(self) -> str:
        return (
            f"Supabase says that it can recover to any time from {self.earliest:%Y-%m-%d %H:%M:%S} to "
            f"{self.latest:%Y-%m-%d %H:%M:%S} UTC; this project stores no WAL of it, and has not proven it"
        )


def mode_of(database: DatabaseConnection) -> Mode:
    """Return which mode is possible, before the source is asked: hosted Supabase refuses physical replication."""
    return Mode.PROVIDER if is_hosted_supabase(database) else Mode.STREAM


def check_watchable(source: SourcePolicy) -> None:
    """Raise WalRefusedError when nobody can watch the provider's recovery."""
    if source.supabase is None:
        raise WalRefusedError(
            f"{source.name} is hosted by Supabase, which refuses physical replication, so no WAL can be stored; add a "
            "supabase block to the policy, so that its own point-in-time recovery is watched, or remove incremental"
        )


def watch(source: SourcePolicy, project: SupabaseProject, *, now: datetime) -> ProviderWindow:
    """Return the provider's window; raises WalRefusedError when there is none."""
    check_watchable(source)
    return judge(project.backups(), source=source.name, now=now)


def judge(found: ProjectBackups, *, source: str, now: datetime) -> ProviderWindow:
    """Return the window that the provider names, and what is odd about it; raises WalRefusedError without one."""
    if not found.pitr_enabled:
        raise WalRefusedError(
            f"{source} cannot be recovered to a point in time: Supabase refuses physical replication, and its own PITR "
            "is not enabled. Enable the PITR add-on, or accept what the daily backups lose (up to 24 h) and remove the "
            "policy's incremental block"
        )
    if found.window is None:
        raise WalRefusedError(
            f"Supabase has PITR enabled for {source} and names no time that it can recover to; just after it was "
            "enabled that is so until the first backup, else ask their support"
        )
    return _window(found.window, now)


def _window(window: PitrWindow, now: datetime) -> ProviderWindow:
    age = max(0.0, (now - window.latest).total_seconds())
    # Without a commit the latest time stays where it is, and that is as it should be.
    old = f"the latest time is {age / 60:.0f} min old: right if nobody wrote since, else Supabase's archiving is late"
    return ProviderWindow(
        earliest=window.earliest, latest=window.latest, age_seconds=age, warning=old if age > OLD_SECONDS else None
    )
