"""The history of Airflow's runs, kept in the store before Airflow's own database forgets them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.backup.errors import EvidenceError
from include.backup.evidence import EventKind, Ledger
from include.backup.records import from_json, to_json
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """How one task of a run ended; ``map_index`` is -1 where it is not mapped."""

    task_id: str
    map_index: int
    state: str | None
    tries: int
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run as Airflow knew it; ``triggered_by`` is the user, None for the scheduler. Parameters are left out."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    run_after: datetime
    started_at: datetime | None
    ended_at: datetime | None
    triggered_by: str | None
    tasks: tuple[TaskRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """All runs of a source, and of the DAGs for all sources, that began before a time."""

    source: str
    before: datetime
    runs: tuple[RunRecord, ...]


def cutoff(run_after: datetime, keep: timedelta) -> datetime:
    """Return before when runs are removed: a midnight, the same for each try and each task of a run.

    >>> from datetime import UTC
    >>> cutoff(datetime(2026, 6, 7, 6, 30, tzinfo=UTC), timedelta(days=90)).isoformat()
    '2026-03-09T00:00:00+00:00'
    """
    return (run_after - keep).replace(hour=0, minute=0, second=0, microsecond=0)


def keep_history(
    store: ObjectStore, ledger: Ledger, history: RunHistory, *, encryption: Encryption, actor: str
) -> str | None:
    """Write the history once, read it back, and record its hash as evidence; return its key, None without runs.

    Raises EvidenceError when the store does not hold what was written: then nothing may be removed.
    """
    if not history.runs:
        return None
    content = to_json(history, format_version=FORMAT_VERSION)
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"audit/{history.source}/runs/{history.before:%Y/%m/%Y%m%d}_{sha256[:12]}.json"
    store.put_if_absent(key, content, encryption=encryption)
    stored = store.get(key)
    if from_json(RunHistory, stored, format_version=FORMAT_VERSION, name=key) != history:
        raise EvidenceError(f"{store.url(key)} does not hold the runs that were written; nothing may be removed")
    ledger.append(
        EventKind.AUDIT,
        subject=f"runs before {history.before:%Y-%m-%d}",
        actor=actor,
        facts={"runs": len(history.runs), "key": key, "sha256": sha256},
        once=f"runs:{history.before.isoformat()}:{sha256}",
    )
    return key


def as_facts(history: RunHistory) -> dict[str, Any]:
    """Return numbers for a log line: runs by DAG."""
    counts: dict[str, int] = {}
    for run in history.runs:
        counts[run.dag_id] = counts.get(run.dag_id, 0) + 1
    return counts
