"""What an audit looks at, gathered before: no builder of the report asks anybody anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from include.backup.audit.month import Month
from include.backup.evidence.record import Event
from include.backup.health.alerts import Alert
from include.backup.health.board import Heartbeat
from include.backup.inventory import Standing
from include.backup.retention.plan import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFact:
    """One whole backup in the store, as its listing, its manifest and its proofs have it. Sizes in bytes.

    ``encryption`` and ``kms_key`` are what the manifest says; ``asked`` is what the store itself said when it was asked
    about this one, and None when it was not.
    """

    backup_id: str
    tier: str
    kind: str
    run_after: datetime
    stored_at: datetime
    size: int
    storage_class: str
    standing: Standing
    snapshot_time: datetime | None = None
    rows: int | None = None
    encryption: str | None = None
    kms_key: str | None = None
    recorded_class: str | None = None
    proofs: int = 0
    proven_at: datetime | None = None
    first_proof_at: datetime | None = None
    proof_level: str | None = None
    proof_seconds: float | None = None
    left_out: str = ""
    needs: tuple[str, ...] = ()
    problem: str | None = None
    asked: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the store said of one archive; ``lock`` None is no lock, ``differences`` from its manifest in words."""

    lock: str | None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What lies in the store: of one tier (or wal, proofs, evidence) in one storage class; size in bytes."""

    tier: str
    storage_class: str
    objects: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendPoint:
    """What lay in the store at the end of a month. ``wal_known`` is False where only backups are counted."""

    month: str
    at: datetime
    uses: tuple[Use, ...]
    wal_known: bool
    from_report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WalRun:
    """One run that stored WAL: what could be recovered up to ``mark_time`` from ``finished_at`` on."""

    finished_at: datetime
    mark_time: datetime
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """The events from the month before (or earlier, for the trend) to now, and whether their chain holds."""

    events: tuple[Event, ...] = ()
    records: int = 0
    checked: int = 0
    head: str = ""
    findings: tuple[str, ...] = ()
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesFacts:
    """The 3-2-1 reports of the month: how many there were and met it, what the newest says, and when."""

    reports: int = 0
    met: int = 0
    newest: str | None = None
    newest_at: datetime | None = None
    off_site: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFact:
    """What health last found of one source of the fleet; ``unknown`` says why nothing is known."""

    source: str
    heartbeat: Heartbeat | None = None
    alerts: tuple[Alert, ...] = ()
    unknown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFacts:
    """Everything known of one source at one time. ``key_arn`` is the policy's key, None where nobody could say.

    ``policies`` are those on record from the one in force at the month's begin on.
    """

    source: str
    month: Month
    made_at: datetime
    made_by: str
    backups: tuple[BackupFact, ...] = ()
    incomplete: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    uses: tuple[Use, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    wal_runs: tuple[WalRun, ...] = ()
    ledger: LedgerFacts = field(default_factory=LedgerFacts)
    policies: tuple[Event, ...] = ()
    open_alerts: tuple[Alert, ...] = ()
    copies: CopiesFacts = field(default_factory=CopiesFacts)
    fleet: tuple[SourceFact, ...] = ()
    rejected_sources: Mapping[str, str] = field(default_factory=dict)
    object_lock: bool = False
    store_tls: bool = False
    key_arn: str | None = None
