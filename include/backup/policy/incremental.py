"""The policy's ``incremental`` block: how often WAL is stored, and how much of it the source may have to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from include.backup.cron import cron_problem
from include.backup.duration import optional_duration, parse_duration

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WalTimeouts:
    """How long one try of each task may take."""

    preflight: timedelta
    receive: timedelta
    upload: timedelta
    advance: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalPolicy:
    """WAL of one source. ``hold_slot`` keeps WAL on the source until it is stored; each run streams from ``run_slot``.

    ``max_slot_bytes`` is what max_slot_wal_keep_size should be: beyond it the source gives up the slot rather than
    fill its disk. ``batch_bytes`` bounds what one pass receives, and so the staging folder. ``deadline`` is how
    much longer than usual a run takes before people are told; None is never.
    """

    cron: str | None
    hold_slot: str
    run_slot: str
    max_slot_bytes: int
    batch_bytes: int
    storage_class: str
    compression_level: int
    timeouts: WalTimeouts
    deadline: timedelta | None = None


def incremental_policy(source: str, data: Mapping[str, Any] | None) -> IncrementalPolicy | None:
    """Return the block as checked data has it; the slots have the source's name unless they are given others."""
    if data is None:
        return None
    slots = data.get("slots", {})
    schedule = data["schedule"]
    return IncrementalPolicy(
        cron=None if schedule is None else schedule["cron"],
        hold_slot=slots.get("hold", f"{source}_hold"),
        run_slot=slots.get("run", f"{source}_run"),
        max_slot_bytes=data["max_slot_mib"] * MEBIBYTE,
        batch_bytes=data["batch_mib"] * MEBIBYTE,
        storage_class=data["storage_class"],
        compression_level=data["compression_level"],
        timeouts=WalTimeouts(**{task: parse_duration(text) for task, text in data["timeouts"].items()}),
        deadline=optional_duration(data.get("deadline")),
    )


def incremental_problems(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for what a JSON Schema cannot say."""
    schedule = data["schedule"]
    if schedule is not None and (problem := cron_problem(schedule["cron"])):
        yield "schedule", f"cron {schedule['cron']!r}: {problem}"
    slots = data.get("slots", {})
    if slots and slots["hold"] == slots["run"]:
        yield "slots", f"hold and run are both {slots['hold']!r}; each run removes the second, so give it another name"
