"""What is measured at scale, over any store: a look at health, a cleanup's plan, and an audit with its page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from include.backup.audit.build import build_report
from include.backup.audit.gather import gather as gather_audit
from include.backup.audit.report import Report
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.evidence import Ledger
from include.backup.health.facts import HealthFacts
from include.backup.health.gather import GatherContext, gather
from include.backup.health.look import find
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.policy.health import PingPolicy
from include.backup.retention.cleanup import CleanupContext, CleanupPlan, plan_cleanup
from include.backup.store import Encryption, ObjectStore
from include.backup.wal.keys import run_key
from include.backup.wal.record import RunRecord, State
from tests.support.audits import SOURCE, audit_context, shipped
from tests.support.big_store import CLUSTER, NOW, SIZE, BigStore, filled

NOBODY = DatabaseConnection(host="127.0.0.1", port=9, dbname="d", user="u", sslmode="disable")
POLICY = load_policy(SHIPPED_POLICY, strict=True)


def looked_at(store: ObjectStore, *, now: datetime = NOW) -> HealthFacts:
    """Gather what health looks at, of a source that nobody reaches, and apply its rules."""
    source = shipped()
    assert source.health is not None
    source = replace(source, supabase=None, health=replace(source.health, ping=PingPolicy(connection="c")))
    facts = gather(
        GatherContext(
            policy=POLICY,
            source=source,
            store=store,
            store_connection=StoreConnection(region="us-east-1"),
            database=NOBODY,
            open_project=lambda: None,
            now=now,
        )
    )
    found = {finding.rule for finding in find(facts, source)}
    assert {"never_succeeded", "unreachable"} <= found
    return facts


def planned(store: ObjectStore, *, now: datetime = NOW) -> CleanupPlan:
    """Make the plan of a cleanup."""
    encryption = Encryption(algorithm=None)
    ctx = CleanupContext(
        source=shipped(),
        store=store,
        ledger=Ledger(store, source=SOURCE, encryption=encryption, policy=EvidencePolicy()),
        encryption=encryption,
        actor="test",
        log=logging.getLogger("tests.scale"),
        clock=lambda: now,
    )
    return plan_cleanup(ctx)


def audited(store: ObjectStore, *, now: datetime = NOW) -> Report:
    """Gather and build the report of a month."""
    return build_report(gather_audit(audit_context(store, now=now)), shipped())


def with_log(backups: int, segments: int, more: Mapping[str, bytes] | None = None) -> BigStore:
    """Return a big store with the record of the newest run, from which its log is found."""
    end = f"{segments * SIZE >> 32:X}/{segments * SIZE & 0xFFFFFFFF:X}"
    record = RunRecord(
        source=SOURCE,
        run_id="r",
        run_after=NOW,
        finished_at=NOW,
        system_identifier=CLUSTER,
        timeline=1,
        segment_size=SIZE,
        server_version="17.4",
        state=State.OK,
        chain_start="0/1",
        start_lsn="0/1",
        end_lsn=end,
        partial_lsn=None,
        mark_lsn=end,
        mark_time=NOW,
        segments=1,
        content_bytes=1,
        stored_bytes=1,
        slot_lag_bytes=0,
        hold_slot="h",
        run_slot="r",
        connection="c",
        base_wanted=None,
    )
    run = {run_key(SOURCE, NOW, "0123ab"): record.to_json()}
    return BigStore({**filled(backups, segments).objects, **run, **(more or {})}, segments=segments)
