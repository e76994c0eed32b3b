"""What runs store of real servers' logs: nothing leaves the source before it is stored."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.errors import SourceBusyError
from include.backup.postgres.lock import source_lock
from include.backup.postgres.session import connect
from include.backup.wal import advancing, plan, receive, reporting, storing
from include.backup.wal import run as whole
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.record import RunRecord
from include.backup.wal.segments import Segment
from include.backup.wal.stored import read_chain
from tests.integration.servers import MAJORS, eventually
from tests.support.wal_slots import end_of_segments, restart_lsn
from tests.support.wal_source import WalSource, Writer, rows_of

pytest_plugins = ["tests.support.wal_fixtures"]

BOTH = pytest.mark.parametrize("server", MAJORS, indirect=True)


@BOTH
def test_what_was_committed_before_a_run_is_recovered_from_the_store_alone(source: WalSource) -> None:
    whole.run(source.context())
    base = source.base_backup(f"{source.source.name}-base")
    with Writer(source) as writer:
        assert eventually(lambda: writer.acknowledged > 300, seconds=60)
        first = whole.run(source.context())
    acknowledged = writer.acknowledged
    second = whole.run(source.context())
    assert first.segments >= 1
    assert end_of_segments(second) > end_of_segments(first)
    source.fetch(base)
    with source.recovered(base) as copy:
        count, last = rows_of(source, copy)
    assert count == last == acknowledged


@BOTH
def test_idle_runs_end_and_each_stores_a_later_commit(source: WalSource) -> None:
    records = [whole.run(source.context()) for _ in range(3)]
    assert [record.segments for record in records[1:]] == [1, 1]
    assert sorted(record.mark_time for record in records) == [record.mark_time for record in records]
    assert len({record.mark_lsn for record in records}) == 3
    assert all(parse_lsn(record.mark_lsn) <= end_of_segments(record) for record in records)


def test_the_source_lets_go_of_exactly_what_is_stored(source: WalSource) -> None:
    record = whole.run(source.context())
    assert restart_lsn(source) == end_of_segments(record)
    store, keys = source.context().store, source.keys
    chain = read_chain(store, keys, size=record.segment_size)
    assert chain.has(Segment.before(end_of_segments(record), timeline=1, size=record.segment_size))
    with pytest.raises(AssertionError):
        restart_lsn(source, source.source.incremental.run_slot)  # type: ignore[union-attr]


@BOTH
def test_a_role_that_may_not_switch_stores_the_beginning_of_a_segment(source: WalSource) -> None:
    source.execute("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM pulse_backup")
    try:
        first = whole.run(source.context())
        base = source.base_backup(f"{source.source.name}-partial")
        source.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1 FROM events")
        acknowledged = rows_of(source, source.server)
        second = whole.run(source.context())
        ctx = source.context()
        plan.run(ctx)
        for _ in range(2):  # a pass that is done again, while the source writes on
            receive.run(ctx)
            storing.run(ctx)
            source.execute("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 20000))")
        third = whole.run(source.context())
    finally:
        source.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO pulse_backup")
    assert all(record.partial_lsn == record.mark_lsn for record in (first, second, third))
    assert restart_lsn(source) == end_of_segments(third)
    source.fetch(base)
    with source.recovered(base) as copy:
        assert rows_of(source, copy) == acknowledged


def test_a_long_backlog_takes_several_passes_in_little_room(source: WalSource) -> None:
    assert source.source.incremental is not None
    size = source.context_segment_size()
    small = replace(
        source, source=replace(source.source, incremental=replace(source.source.incremental, batch_bytes=size))
    )
    whole.run(small.context())
    for _ in range(3):
        source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
        source.execute("SELECT pg_switch_wal()")
    seen: list[str] = []
    record = whole.run(small.context(), on_step=lambda name, step: seen.append(name))
    assert seen.count("receive") == 4
    assert record.segments == 4
    assert restart_lsn(source) == end_of_segments(record)


def test_a_run_that_is_gone_on_with_stores_everything_once(source: WalSource) -> None:
    ctx = source.context()
    plan.run(ctx)
    receive.run(ctx)
    storing.run(ctx)
    receive.run(ctx)
    stored = storing.run(ctx)
    advanced = advancing.run(ctx)
    assert stored.already >= 1
    assert advancing.run(ctx).before_lsn == advanced.hold_lsn
    report = reporting.run(ctx)
    assert reporting.run(ctx).record == report.record


def test_two_runs_at_a_time_do_not_take_each_others_slot(source: WalSource) -> None:
    assert source.source.incremental is not None
    records: list[RunRecord] = []
    threads = [threading.Thread(target=lambda: records.append(whole.run(source.context()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(records) == 3
    assert all(record.broken == () for record in records)
    assert restart_lsn(source) == max(end_of_segments(record) for record in records)


def test_a_run_waits_for_another_one_and_says_who_it_is(source: WalSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.wal.lock.WAIT_SECONDS", 0.2)
    held = source_lock(
        (session := connect(source.database)), f"{source.source.name}/wal", wait_seconds=0, on_wait=lambda text: None
    )
    with session, held, pytest.raises(SourceBusyError, match="another backup"):
        whole.run(source.context())


def test_what_a_dead_run_left_is_removed_after_its_time_and_a_living_ones_is_not(source: WalSource) -> None:
    dead, living = source.context(), source.context()
    for ctx in (dead, living):
        plan.run(ctx)
        receive.run(ctx)
    later = datetime.now(tz=UTC) + timedelta(hours=3)
    os.utime(living.staging.path, (later.timestamp(), later.timestamp()))
    plan.run(source.context(clock=lambda: later))
    assert not dead.staging.exists()
    assert living.staging.exists()


def test_a_source_that_crashes_after_a_run_has_lost_nothing_that_it_needs(source: WalSource) -> None:
    """Where the slot was before the crash may be forgotten: it goes back, and what is stored is stored again."""
    whole.run(source.context())
    base = source.base_backup(f"{source.source.name}-crash")
    source.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1 FROM events")
    whole.run(source.context())
    pid = source.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)
    assert eventually(lambda: not source.server.is_running(), 60)
    source.server.start()
    source.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1 FROM events")
    acknowledged = rows_of(source, source.server)
    assert whole.run(source.context()).broken == ()
    source.fetch(base)
    with source.recovered(base) as copy:
        assert rows_of(source, copy) == acknowledged
