"""The policy's base_backup: when base backups are taken, how, and how long they and their WAL are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from include.backup.cron import cron_problem
from include.backup.duration import optional_duration, parse_duration
from include.backup.retention import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTimeouts:
    """How long one try of each task may take; ``restore_test`` includes replaying the log."""

    preflight: timedelta
    take: timedelta
    upload: timedelta
    verify: timedelta
    restore_test: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseBackupPolicy:
    """Base backups of one source.

    A full one is due when the last is ``full_every_days`` old. Runs between are incremental where ``incremental``
    says so and the server can (PostgreSQL 17 and newer, summarize_wal), and take nothing where it cannot. ``prove`` is
    ``in_chain`` or ``after``; ``deadline`` how much longer than usual a run takes before people are told; None never.
    """

    schedule: str | None
    full_every_days: int
    incremental: bool
    compression_level: int
    compression_workers: int
    keep: Retention
    prove: str
    timeouts: BaseTimeouts
    deadline: timedelta | None = None


def base_backup_policy(data: Mapping[str, Any] | None, *, keep: Callable[[str], Retention]) -> BaseBackupPolicy | None:
    """Return the block as checked data has it."""
    if data is None:
        return None
    schedule = data["schedule"]
    return BaseBackupPolicy(
        schedule=None if schedule is None else schedule["cron"],
        full_every_days=data["full_every_days"],
        incremental=data["incremental"],
        compression_level=data["compression_level"],
        compression_workers=data["compression_workers"],
        keep=keep(data["keep"]),
        prove=data["prove"],
        timeouts=BaseTimeouts(**{task: parse_duration(text) for task, text in data["timeouts"].items()}),
        deadline=optional_duration(data.get("deadline")),
    )


def base_backup_problems(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for what a JSON Schema cannot say."""
    schedule = data["schedule"]
    if schedule is not None and (problem := cron_problem(schedule["cron"])):
        yield "schedule", f"cron {schedule['cron']!r}: {problem}"
    keep = Retention.parse(data["keep"])
    if keep is None:
        yield "keep", f"keep is {data['keep']!r}; allowed: a number and days, weeks, months or years"
    elif keep.is_shorter_than(Retention(amount=data["full_every_days"], unit="day")):
        yield (
            "keep",
            f"keep: {keep} is shorter than full_every_days: {data['full_every_days']}, so that there would be times "
            f"without any base backup; allowed: {data['full_every_days']} days or longer",
        )
