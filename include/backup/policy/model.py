"""What a policy says, typed. A part of it that has a module of its own is read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from include.backup.errors import PolicyError, UnknownSourceError, UnknownTierError
from include.backup.policy.attachments import AttachmentsPolicy
from include.backup.policy.audit import AuditPolicy
from include.backup.policy.base_backup import BaseBackupPolicy
from include.backup.policy.cleanup import CleanupPolicy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.policy.health import HealthPolicy
from include.backup.policy.incremental import IncrementalPolicy
from include.backup.policy.metadata import MetadataPolicy
from include.backup.policy.restore import RestorePolicy
from include.backup.policy.schedule import Schedule
from include.backup.policy.scheduling import DEFAULT_POOLS, SchedulingPolicy
from include.backup.policy.schema_backup import SchemaBackupPolicy
from include.backup.policy.supabase import SupabasePolicy
from include.backup.policy.verification import VerificationPolicy
from include.backup.retention import Retention, Thinning


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionPolicy:
    """Server-side encryption; ``sse`` is ``aws:kms``, ``AES256`` or None."""

    sse: str | None
    kms_key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePolicy:
    """Where backups go; endpoint, region and keys are in the connection."""

    connection: str
    bucket: str
    encryption: EncryptionPolicy
    part_size_mib: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPolicy:
    """Where messages go."""

    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofPolicy:
    """What a proof may leave unproven."""

    allowed_gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long one try of each task may take."""

    preflight: timedelta
    dump: timedelta
    compress: timedelta
    upload: timedelta
    verify: timedelta
    restore_test: timedelta
    close_staging: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """One tier of one source. ``prove`` is ``in_chain`` or ``after``, ``proof_level`` complete or data.

    ``deadline`` is how much longer than usual a run takes before people are told; None is never.
    """

    name: str
    kind: str
    schedule: Schedule | None
    keep: Retention
    below_strategy: str | None
    storage_class: str
    prefix: str
    proof_level: str
    prove: str
    timeouts: Timeouts
    thinning: Thinning | None = None
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """One database to protect. ``shares_staging``: the workers of a chain see the same staging folder.

    ``settings`` is what the policy's file says of it, the defaults filled in, with what else there concerns it; and
    ``written_in`` is the file. Nothing is decided by them: they are for the evidence.
    """

    name: str
    connection: str
    postgres_major: int | None
    excluded_schemas: tuple[str, ...]
    excluded_tables: tuple[str, ...]
    lock_wait_seconds: int
    lock_timeout_seconds: int
    dump_budget_minutes: int
    jobs: int
    compression_level: int
    retries: int
    retry_delay_seconds: int
    keep_failed_hours: int
    store: StorePolicy
    slack: SlackPolicy | None
    proof: ProofPolicy
    tiers: Mapping[str, TierPolicy]
    restore: RestorePolicy | None = None
    evidence: EvidencePolicy | None = None
    cleanup: CleanupPolicy | None = None
    critical_tables: tuple[str, ...] = ()
    attachments: AttachmentsPolicy | None = None
    schema_backup: SchemaBackupPolicy | None = None
    base_backup: BaseBackupPolicy | None = None
    supabase: SupabasePolicy | None = None
    incremental: IncrementalPolicy | None = None
    health: HealthPolicy | None = None
    verification: VerificationPolicy | None = None
    shares_staging: bool = True
    scheduling: SchedulingPolicy = field(default_factory=SchedulingPolicy)
    audit: AuditPolicy = field(default_factory=AuditPolicy)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    written_in: Path | None = field(default=None, repr=False, compare=False)

    def tier(self, name: str) -> TierPolicy:
        """Return a tier; raises UnknownTierError naming those that there are."""
        try:
            return self.tiers[name]
        except KeyError:
            raise UnknownTierError(
                f"the policy has no tier {name!r} for {self.name}; it has {', '.join(self.tiers)}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All sources that are acceptable, and why others were left out; ``pools`` are Airflow's, with their slots."""

    path: Path
    sources: Mapping[str, SourcePolicy]
    rejected: Mapping[str, PolicyError] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=lambda: DEFAULT_POOLS)
    metadata: MetadataPolicy | None = None

    def source(self, name: str) -> SourcePolicy:
        """Return a source; raises UnknownSourceError naming those that there are, or why it was left out."""
        if name in self.sources:
            return self.sources[name]
        if name in self.rejected:
            raise UnknownSourceError(f"source {name} is left out of the policy: {self.rejected[name]}")
        known = ", ".join(self.sources) or "none"
        raise UnknownSourceError(f"the policy {self.path.name} has no source {name!r}; it has {known}")
