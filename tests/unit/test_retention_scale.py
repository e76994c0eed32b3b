"""The cleanup plan at scale: 10,000 backups and a million segments of the log, in seconds and little memory."""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from typing import Any

import pytest

from include.backup.evidence import Ledger
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.retention.cleanup import CleanupContext, plan_cleanup
from include.backup.store import Encryption
from tests.support.big_store import BACKUPS, MEGABYTES, NOW, SECONDS, SEGMENTS, BigStore, filled


def plan(store: BigStore) -> Any:
    encryption = Encryption(algorithm=None)
    source = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    ctx = CleanupContext(
        source=source,
        store=store,
        ledger=Ledger(store, source=source.name, encryption=encryption, policy=EvidencePolicy()),
        encryption=encryption,
        actor="test",
        log=logging.getLogger("tests.scale"),
        clock=lambda: NOW,
    )
    return plan_cleanup(ctx)


def test_twice_as_many_backups_take_twice_as_many_requests_at_most() -> None:
    counts = []
    for size in (200, 400):
        store = filled(size, 1000)
        plan(store)
        counts.append((store.listed, store.requests("get"), store.requests("list")))
    (listed, gets, lists), (listed_twice, gets_twice, lists_twice) = counts
    assert listed_twice <= 2 * listed + 10
    assert gets_twice <= 2 * gets + 10
    assert lists_twice <= 2 * lists + 10


def test_no_manifest_or_proof_of_a_tier_is_read_twice() -> None:
    store = filled(200, 1000)
    plan(store)
    read = Counter(call for call in store.calls if call.startswith("get ") and "/pulse_messages_hourly_" in call)
    assert len(read) > 200
    assert set(read.values()) == {1}


@pytest.mark.long
def test_ten_thousand_backups_and_a_million_segments_are_planned_in_seconds() -> None:
    store = filled(BACKUPS, SEGMENTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = plan(store)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{seconds:.1f} s, {grown:.0f} MB more, {store.listed} objects listed, {store.requests('get')} read")
    assert len(found.decisions) == BACKUPS + 30
    assert len(found.expiring) > BACKUPS / 20
    assert [expiry.before for expiry in found.wal] != []
    assert seconds < SECONDS
    assert grown < MEGABYTES
