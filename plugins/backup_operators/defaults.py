"""What all DAGs share: owner, tags, start, pools, retries and timeouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from airflow.sdk import get_parsing_context

from include.backup.policy import SourcePolicy, TierPolicy

OWNER = "backup"
START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
SOURCE_POOL = "pg_source"
SCRATCH_POOL = "scratch"
SCRATCH_TIMEOUT = timedelta(minutes=10)
NOTIFY_TIMEOUT = timedelta(minutes=5)
QUEUE_MARGIN = timedelta(hours=6)


class Tag(StrEnum):
    """Tags of DAGs; the first of a DAG is its area."""

    BACKUP = "backup"
    SCHEDULED = "scheduled"
    TRIGGERED = "triggered"


def default_args(source: SourcePolicy) -> dict[str, Any]:
    """Return the arguments that all tasks of a source's DAGs share."""
    return {
        "owner": OWNER,
        "depends_on_past": False,
        "retries": source.retries,
        "retry_delay": timedelta(seconds=source.retry_delay_seconds),
    }


def dagrun_timeout(source: SourcePolicy, tier: TierPolicy) -> timedelta:
    """Return the last resort: longer than all tries of all tasks and the waits between them.

    A run that this ends skips its teardowns, and nobody gets ``notify``'s message.
    """
    timeouts = [*astuple(tier.timeouts), SCRATCH_TIMEOUT, SCRATCH_TIMEOUT, NOTIFY_TIMEOUT]
    waits = timedelta(seconds=source.retry_delay_seconds) * source.retries * len(timeouts)
    return sum(timeouts, timedelta()) * (source.retries + 1) + waits + QUEUE_MARGIN


def sources_with(tier: str, dag_name: str, sources: Iterable[SourcePolicy]) -> Iterator[SourcePolicy]:
    """Yield the sources that have a tier; a process that needs one DAG gets only that one's source."""
    wanted = get_parsing_context().dag_id
    for source in sources:
        if tier in source.tiers and wanted in (None, dag_id(source.name, dag_name)):
            yield source


def dag_id(source: str, dag_name: str) -> str:
    """Return the id of a source's DAG."""
    return f"{source}.{dag_name}"
