"""Whether a base backup is due, and whether it can be an incremental one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from include.backup.backup_id import parse_backup_id
from include.backup.base.stored import StoredBase, sound_bases
from include.backup.policy.base_backup import BaseBackupPolicy

INCREMENTAL_SINCE = 17
# A run that begins some minutes earlier than the one a week ago is a week later all the same.
TOLERANCE = timedelta(hours=6)


class Wish(StrEnum):
    """What a run was asked for."""

    DUE = "due"
    FULL = "full"
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the server is and can, and what the store holds of this cluster, oldest first."""

    system_identifier: str
    timeline: int
    major: int
    summarizes: bool
    bases: Sequence[StoredBase]


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePlan:
    """What to take: nothing, a full backup, or one that builds on ``parent``; and why."""

    take: bool
    parent: str | None
    why: str


def plan_base(policy: BaseBackupPolicy, situation: Situation, *, wish: Wish, now: datetime) -> BasePlan:
    """Decide. Raises nothing: where an incremental one is wanted and impossible, a full one is taken."""
    usable = [
        base
        for base in sound_bases(situation.bases)
        if base.base.timeline == situation.timeline and base.base.system_identifier == situation.system_identifier
    ]
    fulls = [base for base in usable if not base.base.incremental]
    if wish is Wish.FULL:
        return BasePlan(take=True, parent=None, why="a full one was asked for")
    if not fulls:
        why = f"there is no sound one of cluster {situation.system_identifier} on timeline {situation.timeline}"
        return BasePlan(take=True, parent=None, why=why)
    last = max(fulls, key=_due)
    # From when its run was due, as health counts: a copy of many hours would shift the next full one by a day.
    age = now - _due(last)
    if wish is Wish.DUE and age > timedelta(days=policy.full_every_days) - TOLERANCE:
        return BasePlan(take=True, parent=None, why=f"the last full one, {last.backup_id}, is {_days(age)} old")
    obstacle = _obstacle(policy, situation)
    if obstacle is None:
        return BasePlan(take=True, parent=usable[-1].backup_id, why=f"the last full one is {_days(age)} old")
    if wish is Wish.INCREMENTAL:
        return BasePlan(take=True, parent=None, why=f"{obstacle}, so that it is a full one")
    why = f"the full one {last.backup_id} is {_days(age)} old, the next is due after {policy.full_every_days} days"
    return BasePlan(take=False, parent=None, why=f"{why}; {obstacle}")


def _due(base: StoredBase) -> datetime:
    return parse_backup_id(base.backup_id).run_after


def _obstacle(policy: BaseBackupPolicy, situation: Situation) -> str | None:
    if not policy.incremental:
        return "the policy takes no incremental ones"
    if situation.major < INCREMENTAL_SINCE:
        return f"PostgreSQL {situation.major} has no incremental base backups"
    if not situation.summarizes:
        return "the source has summarize_wal=off"
    return None


def _days(age: timedelta) -> str:
    return f"{age.total_seconds() / 86400:.1f} days"
