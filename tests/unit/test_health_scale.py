"""Health at scale: 10,000 backups and a million segments of the log, in seconds and little memory."""

from __future__ import annotations

import resource
import time

import pytest

from include.backup.health.board import FORMAT_VERSION, Heartbeat
from include.backup.records import to_json
from tests.support.at_scale import looked_at, with_log
from tests.support.big_store import BACKUPS, MEGABYTES, NOW, SECONDS, SEGMENTS


def test_twice_as_many_backups_are_listed_in_twice_as_many_pages_and_no_more_of_them_are_read() -> None:
    counts = []
    for size in (200, 400):
        store = with_log(size, 1000)
        looked_at(store)
        counts.append((store.listed, store.requests("get"), store.requests("head")))
    (listed, gets, heads), (listed_twice, gets_twice, heads_twice) = counts
    assert listed_twice <= 2 * listed + 10
    assert gets_twice <= gets + 10
    assert heads_twice <= heads + 2


def test_the_last_request_that_did_not_arrive_is_a_fact_of_the_next_look() -> None:
    assert looked_at(with_log(10, 100)).ping_failure is None
    beat = Heartbeat(source="pulse_messages", at=NOW, alerts=0, run_id="r", ping_failure="it answers 404")
    more = {"health/pulse_messages/heartbeat.json": to_json(beat, format_version=FORMAT_VERSION)}
    assert looked_at(with_log(10, 100, more)).ping_failure == "it answers 404"


@pytest.mark.long
def test_ten_thousand_backups_and_a_million_segments_are_looked_at_in_seconds() -> None:
    store = with_log(BACKUPS, SEGMENTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    facts = looked_at(store)
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{seconds:.1f} s, {grown:.0f} MB more, {store.listed} objects listed, {store.requests('get')} read")
    assert facts.wal is not None
    assert facts.wal.gaps == {}
    assert len(facts.backups) == BACKUPS + 30
    assert store.requests("head") < 200
    assert seconds < SECONDS
    assert grown < MEGABYTES
