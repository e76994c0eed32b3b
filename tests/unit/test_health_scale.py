"""Health at scale: 10,000 backups and a million segments of the log, in seconds and little memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.health.board import FORMAT_VERSION, Heartbeat
from include.backup.health.facts import HealthFacts
from include.backup.health.gather import GatherContext, gather
from include.backup.health.look import find
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.health import PingPolicy
from include.backup.records import to_json
from include.backup.wal.keys import run_key
from include.backup.wal.record import RunRecord, State
from tests.support.big_store import BACKUPS, CLUSTER, MEGABYTES, NOW, SECONDS, SEGMENTS, SIZE, BigStore, filled

NOBODY = DatabaseConnection(host="127.0.0.1", port=9, dbname="d", user="u", sslmode="disable")
POLICY = load_policy(SHIPPED_POLICY, strict=True)


def looked_at(store: BigStore) -> HealthFacts:
    source = POLICY.source("pulse_messages")
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
            now=NOW,
        )
    )
    found = {finding.rule for finding in find(facts, source)}
    assert {"never_succeeded", "unreachable"} <= found
    return facts


def with_log(backups: int, segments: int, more: Mapping[str, bytes] | None = None) -> BigStore:
    """Return a big store with the record of the newest run, from which its log is found."""
    end = f"{segments * SIZE >> 32:X}/{segments * SIZE & 0xFFFFFFFF:X}"
    record = RunRecord(
        source="pulse_messages",
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
    run = {run_key("pulse_messages", NOW, "0123ab"): record.to_json()}
    return BigStore({**filled(backups, segments).objects, **run, **(more or {})}, segments=segments)


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
    assert facts.wal.gaps == ()
    assert len(facts.backups) == BACKUPS + 30
    assert store.requests("head") < 200
    assert seconds < SECONDS
    assert grown < MEGABYTES
