"""The audit at scale: 10,000 backups and a million segments of the log, in seconds and little memory."""

from __future__ import annotations

import resource
import time

import pytest

from include.backup.audit.html import page
from tests.support.at_scale import audited
from tests.support.audits import shipped
from tests.support.big_store import BACKUPS, MEGABYTES, SECONDS, SEGMENTS, filled


def test_twice_as_many_backups_take_twice_as_many_requests_and_no_more_questions_about_single_ones() -> None:
    counts = []
    for size in (200, 400):
        store = filled(size, 1000)
        audited(store)
        counts.append((store.listed, store.requests("get"), store.requests("list"), store.requests("head")))
    (listed, gets, lists, heads), (listed_twice, gets_twice, lists_twice, heads_twice) = counts
    assert listed_twice <= 2 * listed + 10
    assert gets_twice <= 2 * gets + 10
    assert lists_twice <= 2 * lists + 10
    # The newest of each tier and kind, and the policy's sample.
    assert 0 < heads_twice <= heads + 2 <= shipped().audit.sample + 6


@pytest.mark.long
def test_ten_thousand_backups_and_a_million_segments_are_audited_in_seconds() -> None:
    store = filled(BACKUPS, SEGMENTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    report = audited(store)
    html = page(report)
    content = report.to_json()
    seconds = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{seconds:.1f} s, {grown:.0f} MB more, {store.listed} objects listed, {store.requests('get')} read, "
        f"{store.requests('head')} asked about, {len(html)} and {len(content)} bytes written"
    )
    assert len(report.backups) == BACKUPS + 30
    assert sum(row.use.objects for row in report.costs if row.use.tier == "wal") == SEGMENTS
    assert seconds < SECONDS
    assert grown < MEGABYTES
