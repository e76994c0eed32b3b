"""Audits of a test: the context over a store in memory, facts and reports with what a test wants to be different."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from include.backup.audit.build import build_report
from include.backup.audit.facts import (
    AuditFacts,
    BackupFact,
    CopiesFacts,
    LedgerFacts,
    SourceFact,
    TrendPoint,
    Use,
    WalRun,
)
from include.backup.audit.gather import AuditContext
from include.backup.audit.month import Month
from include.backup.audit.report import Report
from include.backup.backup_id import parse_backup_id
from include.backup.connections import StoreConnection
from include.backup.evidence.record import Event, EventKind
from include.backup.health.board import Heartbeat
from include.backup.inventory import Standing
from include.backup.policy import SHIPPED_POLICY, SourcePolicy, load_policy
from include.backup.retention.plan import Candidate, Decision, Reason
from include.backup.store import ObjectStore

MONTH = Month.parse("2026-05")
MADE_AT = datetime(2026, 6, 1, 8, tzinfo=UTC)
SOURCE = "pulse_messages"


def shipped() -> SourcePolicy:
    return load_policy(SHIPPED_POLICY, strict=True).source(SOURCE)


def audit_context(store: ObjectStore, *, now: datetime = MADE_AT, month: Month = MONTH) -> AuditContext:
    return AuditContext(
        policy=load_policy(SHIPPED_POLICY, strict=True),
        source=shipped(),
        store=store,
        store_connection=StoreConnection(
            endpoint_url=None, region="eu-central-1", access_key="", secret_key=None, ca_bundle=None
        ),
        open_source=lambda _: store,
        month=month,
        made_by="test",
        now=now,
    )


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 5, day, hour, minute, tzinfo=UTC)


def backup_id(day: int, *, tier: str = "daily", kind: str = "full", hour: int = 2) -> str:
    return f"{SOURCE}_{tier}_{kind}_{at(day, hour):%Y%m%dT%H%M%SZ}_0123ab"


def backup(day: int, *, tier: str = "daily", kind: str = "full", hour: int = 2, **overrides: Any) -> BackupFact:
    name = backup_id(day, tier=tier, kind=kind, hour=hour)
    values: dict[str, Any] = {
        "backup_id": name,
        "tier": tier,
        "kind": kind,
        "run_after": parse_backup_id(name).run_after,
        "stored_at": at(day, hour, 10),
        "size": 1 << 30,
        "storage_class": "STANDARD",
        "standing": Standing.PROVEN,
        "snapshot_time": at(day, hour, 1),
        "rows": 1234,
        "encryption": "aws:kms",
        "kms_key": "arn:aws:kms:eu-central-1:1:key/one",
        "recorded_class": "STANDARD",
        "proofs": 1,
        "proven_at": at(day, hour, 20),
        "first_proof_at": at(day, hour, 20),
        "proof_level": "complete",
        "proof_seconds": 60.0,
    }
    return BackupFact(**{**values, **overrides})


def event(
    kind: EventKind, when: datetime, *, subject: str = "x", actor: str = "d r", facts: Mapping[str, Any] | None = None
) -> Event:
    return Event(
        source=SOURCE,
        sequence=1,
        kind=kind,
        subject=subject,
        actor=actor,
        recorded_at=when,
        previous_sha256="0" * 64,
        nonce="n",
        facts=facts or {},
    )


def audit_facts(**overrides: Any) -> AuditFacts:
    events = overrides.pop("events", ())
    values: dict[str, Any] = {
        "source": SOURCE,
        "month": MONTH,
        "made_at": MADE_AT,
        "made_by": "test",
        "store_tls": True,
        "ledger": LedgerFacts(
            events=tuple(events), records=len(events), checked=len(events), head="1:" + "a" * 64, began_at=at(1)
        ),
    }
    return AuditFacts(**{**values, **overrides})


def audit_report(**overrides: Any) -> Report:
    tested_by = overrides.pop("tested_by", None)
    source = overrides.pop("policy", None) or shipped()
    return build_report(audit_facts(**overrides), source, tested_by=tested_by)


HOSTILE = "<script>alert('x')</script>\" onload=\"x\u202e\x00& <b>"


def busy_month(**overrides: Any) -> AuditFacts:
    """A month in which something of everything happened, some of it by people with hostile names."""
    backups = [
        *(backup(day, proof_seconds=40.0 + day) for day in range(24, 32)),
        backup(17, tier="weekly", hour=1),
        backup(24, tier="weekly", hour=1, standing=Standing.FAILED),
        backup(1, tier="monthly", hour=4, storage_class="GLACIER", size=3 << 30),
        backup(31, tier="hourly", kind="tables", hour=12, encryption="none", kms_key=None),
        backup(30, tier="hourly", kind="tables", hour=12, standing=Standing.UNPROVEN, proven_at=None, proofs=0),
        backup(29, tier="daily", hour=3, problem=f"its manifest cannot be read: {HOSTILE}"),
    ]
    events = []
    for day in range(1, 32):
        if day in (9, 10):
            continue
        name = backup_id(day)
        stored = {"storage_class": "STANDARD", "bytes": 1 << 30, "snapshot_time": at(day, 2, 1).isoformat()}
        events.append(event(EventKind.BACKUP, at(day, 2, 10), subject=name, facts=stored))
        tested = {"proof_id": "p", "result": "passed", "seconds": 40.0 + day, "rows": 1234}
        events.append(event(EventKind.PROOF, at(day, 2, 20), subject=name, facts=tested))
        if day > 8:
            gone = {"reason": "expired", "detail": "7 days", "bytes": 1 << 30}
            actor = "backup_cleanup scheduled__1"
            events.append(event(EventKind.DELETION, at(day, 5), subject=backup_id(day - 8), actor=actor, facts=gone))
    restored = {
        "backup_id": backup_id(11),
        "database": HOSTILE,
        "production": True,
        "requested_by": f"ann {HOSTILE}",
        "reason": HOSTILE,
        "strategy": "swap",
        "seconds": 0.2,
    }
    approved = {**restored, "approved_by": "bob", "approved_at": at(12).isoformat(), "seal": "s"}
    late = {"since": at(9, 3).isoformat(), "severity": "critical", "evidence": f"it is late {HOSTILE}"}
    events += [
        event(EventKind.RESTORE, at(12, 9), subject="r1", actor=f"restore manual by ann {HOSTILE}", facts=approved),
        event(EventKind.RESTORE, at(13, 9), subject="r2", actor="restore manual by carl", facts=restored),
        event(EventKind.ALERT, at(9, 3), subject="late:daily", facts={**late, "what": "raised"}),
        event(EventKind.ALERT, at(9, 4), subject="late:daily", actor="ann", facts={**late, "what": "acknowledged"}),
        event(EventKind.ALERT, at(11, 3), subject="late:daily", facts={**late, "what": "resolved"}),
        event(EventKind.HOLD, at(14), subject=backup_id(25), actor="ann", facts={"action": "set", "reason": HOSTILE}),
    ]
    first = {"policy_sha256": "a" * 64, "changes": [], "changes_in_all": 0, "settings": {"jobs": 2}}
    changed = {
        **first,
        "policy_sha256": "b" * 64,
        "changes": [
            {"path": "tiers.daily.keep", "old": "7 days", "new": HOSTILE},
            {"path": "restore.approval.two_people", "old": "true", "new": "false"},
        ],
        "changes_in_all": 2,
        "revision": "4f2c91e0" * 5,
        "author": f"ann {HOSTILE}",
        "uncommitted": False,
    }
    policies = (
        event(EventKind.POLICY_CHANGE, MONTH.begin - timedelta(days=9), subject="policy:aaaaaaaaaaaa", facts=first),
        event(EventKind.POLICY_CHANGE, at(15, 3), subject="policy:bbbbbbbbbbbb", facts=changed),
    )
    events.append(policies[1])
    wal = [
        WalRun(finished_at=at(day, hour, 16), mark_time=at(day, hour, 15), state="ok")
        for day in range(1, 32)
        for hour in range(24)
        if day != 20
    ]
    trend = [
        TrendPoint(
            month=str(MONTH.plus(-back)),
            at=MONTH.plus(-back).end,
            uses=(
                Use(tier="daily", storage_class="STANDARD", objects=8, size=(12 - back) << 30),
                Use(tier="monthly", storage_class="GLACIER", objects=12 - back, size=(12 - back) * (3 << 30)),
                Use(tier="wal", storage_class="STANDARD", objects=100, size=5 << 30),
            ),
            wal_known=True,
        )
        for back in range(11, -1, -1)
    ]
    decisions = [
        Decision(
            backup=Candidate(backup_id=one.backup_id, tier=one.tier, kind=one.kind, snapshot_time=one.run_after),
            reason=Reason.WITHIN,
            detail="7 days, until 2026-06-07 02:01 UTC",
        )
        for one in backups
    ]
    values: dict[str, Any] = {
        "backups": tuple(backups),
        "events": sorted(events, key=lambda one: one.recorded_at),
        "decisions": tuple(decisions),
        "uses": trend[-1].uses,
        "trend": tuple(trend),
        "wal_runs": tuple(wal),
        "copies": CopiesFacts(
            reports=29, met=29, newest="3-2-1 met: 3 of 3 copies", newest_at=at(31, 2, 30), off_site=1
        ),
        "fleet": (
            SourceFact(source=SOURCE, heartbeat=Heartbeat(source=SOURCE, at=MADE_AT, alerts=0, run_id="r")),
            SourceFact(source="shop", unknown=f"the store did not answer {HOSTILE}"),
        ),
        "rejected_sources": {"broken": HOSTILE},
        "object_lock": True,
        "policies": policies,
    }
    return audit_facts(**{**values, **overrides})
