"""Whether Supabase's own daily backup is there: a decision on what its API said, at a given time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum

from include.backup.errors import SupabaseRefusedError
from include.backup.supabase.project import SupabaseProject
from include.backup.supabase.records import BackupStatus, ProjectBackups, SupabaseBackup

DAY = timedelta(days=1)
# A backup that was begun by hand shortly before its hour counts for that day.
EARLY = timedelta(minutes=30)


class DailyState(StrEnum):
    """What is known of Supabase's daily backup."""

    COMPLETED = "completed"
    NOT_DUE = "not due yet"
    PITR = "replaced by point-in-time recovery"
    MISSING = "missing"
    FAILED = "failed"
    NOT_HOSTED = "not on Supabase"
    NOT_ASKED = "could not be asked"


GOOD_STATES = frozenset({DailyState.COMPLETED, DailyState.NOT_DUE, DailyState.PITR})


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyCheck:
    """One answer; ``newest`` is the time of the newest state that Supabase could restore."""

    state: DailyState
    text: str
    newest: datetime | None = None
    region: str | None = None
    earliest: datetime | None = None

    @property
    def good(self) -> bool:
        return self.state in GOOD_STATES

    @property
    def needs_a_person(self) -> bool:
        return not self.good and self.state is not DailyState.NOT_HOSTED


def check_daily(project: SupabaseProject, *, now: datetime, grace: timedelta) -> DailyCheck:
    """Ask for backups and schedule, and judge; raises SupabaseError when it cannot be asked."""
    found = project.backups()
    try:
        schedule = project.backup_schedule()
    except SupabaseRefusedError:
        schedule = None  # not every plan tells it
    return judge_daily(found, schedule=schedule, now=now, grace=grace)


def judge_daily(found: ProjectBackups, *, schedule: time | None, now: datetime, grace: timedelta) -> DailyCheck:
    """Return whether the backup that is due is there and completed.

    Without a schedule any of the last day counts. A project with point-in-time recovery has no daily backups, and is
    recoverable up to some time of the last day.
    """
    if found.pitr_enabled:
        return _judge_pitr(found, due=now - DAY - grace)
    due = _due(schedule, now, grace)
    newest = found.newest_completed
    since = [backup for backup in found.backups if backup.inserted_at >= due - EARLY]
    if newest is not None and newest.inserted_at >= due - EARLY:
        return _check(found, DailyState.COMPLETED, f"completed at {_shown(newest)}", newest)
    failed = next((backup for backup in since if backup.status is BackupStatus.FAILED), None)
    if failed is not None:
        return _check(found, DailyState.FAILED, f"the one of {_shown(failed)} failed; ask Supabase's support", newest)
    last = "there is none at all" if newest is None else f"the newest completed one is of {_shown(newest)}"
    if now < due + grace and newest is not None and newest.inserted_at >= due - DAY - EARLY:
        text = f"today's was due at {due:%H:%M} UTC and has until {due + grace:%H:%M}; {last}"
        return _check(found, DailyState.NOT_DUE, text, newest)
    text = f"none has completed since {due:%Y-%m-%d %H:%M} UTC, {last}; look at the project's Database > Backups"
    return _check(found, DailyState.MISSING, text, newest)


def _judge_pitr(found: ProjectBackups, *, due: datetime) -> DailyCheck:
    """Return whether the window reaches to ``due``. Where nothing is written no WAL is archived and it stands still;
    but the snapshot that Supabase takes every day ends a segment, so that it moves every day all the same.
    """
    if found.window is None:
        text = "point-in-time recovery is enabled and names no window yet; look at the project's Database > Backups"
        return _check(found, DailyState.MISSING, text, None)
    window = found.window
    text = f"recoverable from {window.earliest:%Y-%m-%d %H:%M} to {window.latest:%Y-%m-%d %H:%M} UTC"
    if window.latest < due:
        text = f"{text}, and not since; look at the project's Database > Backups, and ask Supabase's support"
    return DailyCheck(
        state=DailyState.MISSING if window.latest < due else DailyState.PITR,
        text=text,
        newest=window.latest,
        earliest=window.earliest,
        region=found.region,
    )


def _due(schedule: time | None, now: datetime, grace: timedelta) -> datetime:
    if schedule is None:
        return now - DAY - grace
    today = datetime.combine(now.date(), schedule)
    return today if today <= now else today - DAY


def _check(found: ProjectBackups, state: DailyState, text: str, newest: SupabaseBackup | None) -> DailyCheck:
    oldest = [backup.inserted_at for backup in found.backups if backup.status is BackupStatus.COMPLETED]
    return DailyCheck(
        state=state,
        text=text,
        newest=None if newest is None else newest.inserted_at,
        earliest=min(oldest, default=None),
        region=found.region,
    )


def _shown(backup: SupabaseBackup) -> str:
    return f"{backup.inserted_at:%Y-%m-%d %H:%M} UTC"
