"""The report as it is kept: everything that its pages show, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.backup.audit.facts import TrendPoint, Use
from include.backup.records import to_json

FORMAT_VERSION = 1


class Shown(StrEnum):
    """Whether something is shown by evidence; contradicted means that the evidence shows the opposite."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRow:
    """One tier in the month. ``due`` None is a tier that no clock asks for; ``missed`` names what was due in vain."""

    tier: str
    schedule: str
    keep: str
    due: int | None
    made: int
    proven: int
    missed: tuple[str, ...]
    held: int
    held_proven: int
    size: int
    newest: str | None
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRow:
    """One backup that is in the store, and what becomes of it. Sizes in bytes."""

    backup_id: str
    tier: str
    kind: str
    data_of: datetime
    size: int
    rows: int | None
    standing: str
    proof_level: str | None
    proven_at: datetime | None
    proof_seconds: float | None
    encryption: str
    encryption_fits: bool
    lock: str
    storage_class: str
    decision: str
    detail: str
    left_out: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRow:
    """Something that was deleted in the month, with its reason."""

    at: datetime
    subject: str
    reason: str
    size: int | None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What lies in one class, and what it costs in a month; ``cost`` None where the policy has no price."""

    use: Use
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRow:
    """One restore, recovery, or what undid one."""

    at: datetime
    subject: str
    what: str
    backup_id: str | None
    production: bool | None
    requested_by: str | None
    approved_by: str | None
    reason: str
    seconds: float | None
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveRow:
    """An objective, and what was measured in the month; seconds. ``state`` contradicted means missed."""

    name: str
    objective: float
    worst: float | None
    median: float | None
    count: int
    state: Shown
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayExposure:
    """How much would have been lost at worst on one day, in seconds; None where nothing could have been recovered."""

    day: str
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert that was open in the month; seconds until it was resolved, and until somebody acknowledged it."""

    key: str
    severity: str
    since: datetime
    resolved_at: datetime | None
    seconds: float
    acknowledged_by: str | None
    acknowledged_after: float | None
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRow:
    """What one person, or the schedule, did to backups, by kind of event."""

    who: str
    did: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key by which backups in the store are encrypted, and from when to when their data is."""

    key: str
    backups: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """A change of access, key, policy or hold that the evidence shows.

    ``about`` is what a changed setting of the policy decides, ``author`` who made the change where that is known.
    """

    at: datetime
    what: str
    subject: str
    actor: str
    detail: str
    about: str = ""
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """The policy in force at the month's end: its SHA-256, since when, and from when on policies were on record."""

    sha256: str
    since: datetime
    on_record_from: datetime
    seen_by: str
    revision: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesRow:
    """How many 3-2-1 reports the month has, in how many the rule was met, and of when the newest is."""

    reports: int
    met: int
    newest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTest:
    """The restore test that was made for this report; ``passed`` None when none was."""

    passed: bool | None
    backup_id: str | None
    proof_id: str | None
    at: datetime | None
    rows: int | None
    seconds: float | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """How far the chain of evidence was checked for this report, and what was found."""

    records: int
    checked: int
    head: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """A control of a framework, and the evidence of this report for it."""

    framework: str
    control: str
    asks: str
    state: Shown
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One source of the policy: protected as it says, or why not."""

    source: str
    protected: bool
    critical: int
    warnings: int
    looked_at: datetime | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """What the costs were counted with."""

    currency: str
    region: str
    as_of: str
    per_gib_month: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One source in one month. ``until`` is the month's end, or when the report was made if that was before.

    ``overdue`` are backups whose retention ended so long ago that a cleanup should have removed them.
    """

    source: str
    month: str
    begin: datetime
    until: datetime
    made_at: datetime
    made_by: str
    problems: tuple[str, ...]
    tiers: tuple[TierRow, ...]
    backups: tuple[BackupRow, ...]
    incomplete: tuple[str, ...]
    kept: Mapping[str, int]
    deletions: tuple[DeletionRow, ...]
    costs: tuple[CostRow, ...]
    prices: PriceList
    trend: tuple[TrendPoint, ...]
    objectives: tuple[ObjectiveRow, ...]
    exposure: tuple[DayExposure, ...]
    restore_seconds: tuple[float, ...]
    restores: tuple[RestoreRow, ...]
    alerts: tuple[AlertRow, ...]
    actors: tuple[ActorRow, ...]
    keys: tuple[KeyRow, ...]
    changes: tuple[ChangeRow, ...]
    live_test: LiveTest
    ledger: LedgerRow
    copies: str
    store_tls: bool
    controls: tuple[ControlRow, ...]
    fleet: tuple[FleetRow, ...]
    policy: PolicyRow | None = None
    copies_met: CopiesRow | None = None
    overdue: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(row.use.size for row in self.costs)

    @property
    def cost(self) -> float:
        """The monthly cost of what the price list has a price for."""
        return sum(row.cost or 0.0 for row in self.costs)

    @property
    def proven(self) -> int:
        return sum(row.standing == "proven" for row in self.backups)

    @property
    def not_protected(self) -> tuple[str, ...]:
        return tuple(row.source for row in self.fleet if not row.protected)

    def to_json(self) -> bytes:
        """Return the report as it is stored."""
        return to_json(self, format_version=FORMAT_VERSION)

    def line(self) -> str:
        """Return one line of evidence."""
        many = "" if len(self.problems) == 1 else "s"
        state = f"{len(self.problems)} finding{many}" if self.problems else "nothing to object to"
        return (
            f"{self.source} {self.month}: {state}; {len(self.backups)} backups in the store, {self.proven} proven, "
            f"{self.cost:.2f} {self.prices.currency} a month"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and texts: small enough to be handed on."""
        return {
            "source": self.source,
            "month": self.month,
            "findings": list(self.problems[:10]),
            "backups": len(self.backups),
            "proven": self.proven,
            "bytes": self.size,
            "cost": round(self.cost, 2),
            "controls_not_shown": sum(row.state is not Shown.SHOWN for row in self.controls),
            "not_protected": list(self.not_protected),
            "line": self.line(),
        }
