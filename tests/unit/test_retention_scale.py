"""The cleanup plan at scale: 10,000 backups and a million segments of the log, in seconds and little memory."""

from __future__ import annotations

import resource
import time
from collections import Counter

import pytest

from tests.support.at_scale import planned
from tests.support.big_store import BACKUPS, MEGABYTES, SECONDS, SEGMENTS, filled


def test_twice_as_many_backups_take_twice_as_many_requests_at_most() -> None:
    counts = []
    for size in (200, 400):
        store = filled(size, 1000)
        planned(store)
        counts.append((store.listed, store.requests("get"), store.requests("list"), store.requests("head")))
    (listed, gets, lists, heads), (listed_twice, gets_twice, lists_twice, heads_twice) = counts
    assert listed_twice <= 2 * listed + 10
    assert gets_twice <= 2 * gets + 10
    assert lists_twice <= lists + 10
    # Where a backup lies was listed; nobody is asked about it.
    assert heads_twice <= heads + 2 <= 10


def test_no_manifest_or_proof_of_a_tier_is_read_twice() -> None:
    store = filled(200, 1000)
    planned(store)
    read = Counter(call for call in store.calls if call.startswith("get ") and "/pulse_messages_hourly_" in call)
    assert len(read) > 200
    assert set(read.values()) == {1}


@pytest.mark.long
def test_ten_thousand_backups_and_a_million_segments_are_planned_in_seconds() -> None:
    store = filled(BACKUPS, SEGMENTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    found = planned(store)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{seconds:.1f} s, {grown:.0f} MB more, {store.listed} objects listed, {store.requests('get')} read")
    assert len(found.decisions) == BACKUPS + 30
    assert len(found.expiring) > BACKUPS / 20
    assert [expiry.before for expiry in found.wal] != []
    assert seconds < SECONDS
    assert grown < MEGABYTES
