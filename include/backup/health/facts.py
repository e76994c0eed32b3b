"""What the rules look at, gathered before: no rule asks anybody anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from include.backup.health.finding import RowsBefore
from include.backup.inventory import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFact:
    """One whole backup; ``standing`` is None where nobody looked: it is not among the newest, and no listed proof calls
    it failed. Size in bytes.

    ``builds_on_another`` is known of the newest ones too: an incremental base backup does.
    """

    backup_id: str
    tier: str
    run_after: datetime
    stored_at: datetime
    size: int
    proofs: int
    standing: Standing | None = None
    rows: Mapping[str, int] | None = None
    proven_at: datetime | None = None
    storage_class: str = "STANDARD"
    builds_on_another: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFact:
    """A task that waits or runs: since when it is in that state."""

    dag_id: str
    run_id: str
    task_id: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFact:
    """A DAG of the source or of the fleet as Airflow knows it."""

    dag_id: str
    paused: bool
    stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowFacts:
    """What Airflow says of itself; ``unreachable`` says why nothing is known."""

    dags: tuple[DagFact, ...] = ()
    tasks: tuple[TaskFact, ...] = ()
    import_errors: Mapping[str, str] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    pools: frozenset[str] = frozenset()
    unreachable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalFacts:
    """How the log stands: ``gaps`` by their first missing segment, ``problems`` as its own assessment words them."""

    rpo_seconds: float | None
    gaps: Mapping[str, str]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFact:
    """A disk or a budget; sizes in bytes, ``grows_per_day`` None where nothing is known of earlier days."""

    name: str
    used: int
    size: int
    grows_per_day: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFacts:
    """Everything known of one source at one time; ``rows_before`` is that of lost rows nobody has acknowledged yet, by
    tier and table."""

    source: str
    now: datetime
    backups: tuple[BackupFact, ...] = ()
    rows_before: Mapping[str, RowsBefore] = field(default_factory=dict)
    airflow: AirflowFacts = field(default_factory=AirflowFacts)
    wal: WalFacts | None = None
    disks: tuple[DiskFact, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)
    copies_missing: Mapping[str, str] = field(default_factory=dict)
    object_problems: Mapping[str, str] = field(default_factory=dict)
    rejected_sources: Mapping[str, str] = field(default_factory=dict)
    left_slots: Mapping[str, str] = field(default_factory=dict)
    ping_failure: str | None = None
