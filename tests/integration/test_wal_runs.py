"""Runs against real servers: nothing leaves the source before it is stored, and whatever breaks is noticed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from include.backup.errors import (
    SourceBusyError,
    WalBrokenError,
    WalDiffersError,
    WalRefusedError,
    WalTimeoutError,
)
from include.backup.policy import SourcePolicy
from include.backup.postgres.lock import source_lock
from include.backup.postgres.session import connect
from include.backup.steps.context import utc_now
from include.backup.verification.log import LogReport, check_log
from include.backup.wal import advancing, plan, receive, reporting, storing
from include.backup.wal import run as whole
from include.backup.wal.lock import bounded
from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.record import RunRecord, State, newest_record
from include.backup.wal.segment_file import check_segment
from include.backup.wal.segments import Segment
from include.backup.wal.slots import read_slot
from include.backup.wal.stored import read_chain
from include.local.stack import Stack
from tests.faults.tcp_proxy import Fault, TcpProxy
from tests.integration.servers import MAJORS, eventually
from tests.support.wal_source import WalSource, Writer, rows_of, wal_source

BOTH = pytest.mark.parametrize("server", MAJORS, indirect=True)


def policy_of(source: SourcePolicy, name: str, **changes: Any) -> SourcePolicy:
    """Return the shipped source under another name, with slots of its own."""
    assert source.incremental is not None
    block = replace(source.incremental, hold_slot=f"{name}_hold", run_slot=f"{name}_run", **changes)
    return replace(source, name=name, incremental=block)


@pytest.fixture(scope="module", params=[17])
def server(
    request: pytest.FixtureRequest, stack: Stack, state_dir: Path, policy_source: SourcePolicy
) -> Iterator[WalSource]:
    """One server of each version for all tests of the module; each test has a source with slots of its own."""
    major = request.param
    with wal_source(
        state_dir / f"wal{major}", major=major, source=policy_source, store=stack.store_connection()
    ) as found:
        yield found


@pytest.fixture
def source(server: WalSource, request: pytest.FixtureRequest, policy_source: SourcePolicy) -> Iterator[WalSource]:
    """The server as a source of this test alone."""
    digits = f"{abs(hash(request.node.nodeid)):x}"[:10]
    found = replace(server, source=policy_of(policy_source, f"w{digits}"))
    yield found
    with found.session() as session:
        for slot in (found.source.incremental.hold_slot, found.source.incremental.run_slot):  # type: ignore[union-attr]
            session.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
            )


def restart_lsn(source: WalSource, slot: str | None = None) -> int:
    policy = source.source.incremental
    assert policy is not None
    with source.session() as session:
        row = session.execute(
            "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", (slot or policy.hold_slot,)
        ).fetchone()
    assert row is not None
    return parse_lsn(row[0])


def end_of_segments(record: RunRecord) -> int:
    return parse_lsn(record.end_lsn)


# --- what a run stores -------------------------------------------------------------------------------


@BOTH
def test_what_was_committed_before_a_run_is_recovered_from_the_store_alone(source: WalSource) -> None:
    whole.run(source.context())
    base = source.base_backup(f"{source.source.name}-base")
    with Writer(source) as writer:
        assert eventually(
            lambda: writer.acknowledged > rows_of(source, source.server)[1] + 50 or writer.acknowledged > 300
        )
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


# --- what is refused ---------------------------------------------------------------------------------


def test_a_role_without_replication_is_told_what_to_do(source: WalSource) -> None:
    source.execute("ALTER ROLE pulse_backup NOREPLICATION")
    try:
        with pytest.raises(WalRefusedError, match="ALTER ROLE pulse_backup REPLICATION"):
            whole.run(source.context())
    finally:
        source.execute("ALTER ROLE pulse_backup REPLICATION")


def hurried(source: WalSource) -> WalSource:
    """Return the source with 3 s for receiving."""
    assert source.source.incremental is not None
    limits = replace(source.source.incremental.timeouts, receive=timedelta(seconds=3))
    return replace(
        source, source=replace(source.source, incremental=replace(source.source.incremental, timeouts=limits))
    )


def test_a_source_that_sends_too_slowly_ends_the_run_in_time_and_loses_nothing(source: WalSource) -> None:
    whole.run(source.context())
    before = restart_lsn(source)
    with TcpProxy("127.0.0.1", source.port) as proxy:
        ctx = hurried(source).context(database=replace(source.database, port=proxy.port))
        plan.run(ctx)
        proxy.fault = Fault(delay_seconds=0.2)
        with pytest.raises(WalTimeoutError, match=r"did not send its log up to .* within 3 s; nothing is lost"):
            receive.run(ctx)
    assert restart_lsn(source) == before
    whole.run(source.context())
    assert restart_lsn(source) > before


def test_a_source_that_answers_no_more_ends_the_run_in_time(source: WalSource) -> None:
    whole.run(source.context())
    with TcpProxy("127.0.0.1", source.port) as proxy:
        ctx = hurried(source).context(database=replace(source.database, port=proxy.port))
        plan.run(ctx)
        started = time.monotonic()
        session = connect(ctx.database)
        proxy.fault = Fault(blackhole=True)
        with pytest.raises(WalTimeoutError, match="did not answer within 2 s"), bounded(session, seconds=2):
            session.execute("SELECT 1")
        session.close()
        assert time.monotonic() - started < 60


def test_other_content_under_a_segments_name_is_never_overwritten(source: WalSource) -> None:
    ctx = source.context()
    plan.run(ctx)
    received = receive.run(ctx)
    segment = Segment.parse(received.segments[-1], size=source.context_segment_size())
    key = source.keys.segment(segment)
    ctx.store.s3.put_object(
        Bucket=ctx.store.bucket, Key=key, Body=b"from another server", Metadata={"sha256": "0" * 64}
    )
    before = restart_lsn(source)
    try:
        with pytest.raises(WalDiffersError, match="Two servers write the same timeline"):
            storing.run(ctx)
        assert restart_lsn(source) == before
    finally:
        ctx.store.s3.delete_object(Bucket=ctx.store.bucket, Key=key)


def test_a_damaged_segment_is_not_stored(source: WalSource) -> None:
    ctx = source.context()
    plan.run(ctx)
    received = receive.run(ctx)
    path = ctx.staging.path / receive.FOLDER / received.segments[-1]
    content = bytearray(path.read_bytes())
    content[-8192] = 1
    path.write_bytes(content)
    segment = Segment.parse(path.name, size=len(content))
    with pytest.raises(WalDiffersError, match="what is no page of it"):
        check_segment(path, segment, system_identifier=source.system_identifier)


def test_the_verification_reads_the_stored_log_back_and_finds_what_was_damaged_or_lost(source: WalSource) -> None:
    for _ in range(3):
        source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
        last = whole.run(source.context())
    store = source.context().store

    def looked() -> LogReport:
        return check_log(source.source, store, source.database, read=10_000, seed="run", now=utc_now())

    sound = looked()
    assert sound.segments == sound.read_back >= 3
    assert not [problem for problem in sound.problems if problem.startswith("segment ")]
    size = source.context_segment_size()
    victim = Segment(timeline=last.timeline, number=parse_lsn(last.end_lsn) // size - 2, size=size)
    key = source.keys.segment(victim)
    honest = store.s3.get_object(Bucket=store.bucket, Key=key)
    content, metadata = honest["Body"].read(), honest["Metadata"]
    flipped = bytearray(zstd.decompress(content))
    flipped[8192] ^= 0xFF  # of the second page's header
    neighbour = store.get(source.keys.segment(replace(victim, number=victim.number + 1)))
    try:
        for damage in (zstd.compress(bytes(flipped)), neighbour, content[: len(content) // 2]):
            store.s3.put_object(Bucket=store.bucket, Key=key, Body=damage, Metadata=metadata)
            (found,) = [problem for problem in looked().problems if problem.startswith("segment ")]
            assert found.startswith(f"segment {victim.name}: ")
        store.s3.delete_object(Bucket=store.bucket, Key=key)
        lost = looked()
        assert (lost.segments, lost.read_back) == (sound.segments - 1, sound.segments - 1)
        assert any(victim.name in problem for problem in lost.problems) or lost.gaps > sound.gaps
    finally:
        as_it_was = {name: honest[name] for name in ("ServerSideEncryption", "SSEKMSKeyId")}
        store.s3.put_object(Bucket=store.bucket, Key=key, Body=content, Metadata=metadata, **as_it_was)
    assert looked() == sound


# --- what breaks -------------------------------------------------------------------------------------


@BOTH
def test_a_dropped_slot_is_noticed_and_a_new_chain_begins(source: WalSource) -> None:
    first = whole.run(source.context())
    source.execute(f"SELECT pg_drop_replication_slot('{first.hold_slot}')")
    source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
    source.execute("SELECT pg_switch_wal()")
    source.execute("CHECKPOINT")
    with pytest.raises(WalBrokenError, match=r"slot .* was gone.*is neither stored nor kept"):
        whole.run(source.context())
    record = newest_record(source.context().store, source.source.name)
    assert record is not None
    assert record.state is State.BROKEN
    assert parse_lsn(record.chain_start) > end_of_segments(first)
    assert record.base_wanted
    after = whole.run(source.context())
    assert after.state is State.NO_BASE
    assert after.chain_start == record.chain_start


def test_the_protocol_broken_on_purpose_turns_everything_red(source: WalSource) -> None:
    """Advance before upload, then lose staging: what the strategy's script does at each run."""
    whole.run(source.context())
    base = source.base_backup(f"{source.source.name}-wrong")
    whole.run(source.context())
    source.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1 FROM events")
    acknowledged = rows_of(source, source.server)
    ctx = source.context()
    plan.run(ctx)
    received = receive.run(ctx)
    with source.session() as session:
        policy = source.source.incremental
        assert policy is not None
        session.execute("SELECT pg_replication_slot_advance(%s, %s)", (policy.hold_slot, received.end_lsn))
    shutil.rmtree(ctx.staging.path)
    source.execute("CHECKPOINT")
    with pytest.raises(WalBrokenError, match="is neither stored nor kept by the source"):
        whole.run(source.context())
    size = source.context_segment_size()
    missing = [gap.first.name for gap in read_chain(ctx.store, source.keys, size=size).gaps()]
    assert received.segments[0] in missing
    source.fetch(base)
    with source.recovered(base) as copy:
        assert rows_of(source, copy) < acknowledged


def test_a_killed_run_that_had_noticed_a_gap_does_not_hide_it(source: WalSource) -> None:
    first = whole.run(source.context())
    source.execute(f"SELECT pg_drop_replication_slot('{first.hold_slot}')")
    source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
    source.execute("SELECT pg_switch_wal()")
    source.execute("CHECKPOINT")
    ctx = source.context()
    plan.run(ctx)
    receive.run(ctx)
    storing.run(ctx)
    advancing.run(ctx)
    with pytest.raises(WalBrokenError, match="is neither stored nor kept by the source"):
        whole.run(source.context())


def test_a_run_after_one_that_died_before_its_record_sees_no_gap(source: WalSource) -> None:
    whole.run(source.context())
    ctx = source.context()
    plan.run(ctx)
    receive.run(ctx)
    storing.run(ctx)
    advancing.run(ctx)
    shutil.rmtree(ctx.staging.path)
    assert whole.run(source.context()).broken == ()


def test_a_slot_that_the_server_gave_up_is_noticed(stack: Stack, state_dir: Path, policy_source: SourcePolicy) -> None:
    settings = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    policy = policy_of(policy_source, "lost")
    with wal_source(
        state_dir / "wal-lost", major=17, source=policy, store=stack.store_connection(), settings=settings
    ) as source:
        first = whole.run(source.context())
        assert any("max_slot_wal_keep_size is 1 MiB" in text for text in first.warnings)
        for _ in range(6):
            source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
            source.execute("SELECT pg_switch_wal()")
            source.execute("CHECKPOINT")
        with connect(source.database) as session:
            slot = read_slot(session, "lost_hold")
        assert slot is not None
        assert slot.lost
        # With so small a limit the next slot would be given up as well; the lost one stays lost without any.
        source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '-1'")
        source.execute("SELECT pg_reload_conf()")
        assert eventually(lambda: source.one("SHOW max_slot_wal_keep_size") == "-1")
        with pytest.raises(WalBrokenError, match=r"was lost.*is neither stored nor kept"):
            whole.run(source.context())
        unset = whole.run(source.context())
        assert any("max_slot_wal_keep_size is not set" in text for text in unset.warnings)


def test_another_cluster_under_the_same_name_is_noticed(source: WalSource, stack: Stack, state_dir: Path) -> None:
    whole.run(source.context())
    with wal_source(
        state_dir / f"wal-other-{source.source.name}", major=17, source=source.source, store=stack.store_connection()
    ) as other:
        with pytest.raises(WalBrokenError, match="the source is another cluster now"):
            whole.run(other.context())
        record = newest_record(other.context().store, source.source.name)
        assert record is not None
        assert record.system_identifier == other.system_identifier
        assert whole.run(other.context()).broken == ()


def test_a_promoted_standby_is_noticed_and_its_timeline_followed(source: WalSource) -> None:
    first = whole.run(source.context())
    base = source.base_backup(f"{source.source.name}-before")
    copy = source.base_backup(f"{source.source.name}-standby")
    source.execute("INSERT INTO events SELECT coalesce(max(id), 0) + 1 FROM events")
    second = whole.run(source.context())
    source.fetch(copy)
    with source.recovered(copy) as promoted:
        failed_over = replace(source, server=promoted, port=promoted.spec.port)
        database = replace(source.database, host=str(promoted.spec.socket_dir), port=promoted.spec.port)
        with failed_over.session() as session:
            session.execute("INSERT INTO events SELECT max(id) + 1 FROM events")
        acknowledged = rows_of(source, promoted)
        with pytest.raises(WalBrokenError, match="on timeline 2 instead of 1: a standby was promoted"):
            whole.run(failed_over.context(database=database))
        record = newest_record(source.context().store, source.source.name)
        assert record is not None
        assert (record.timeline, record.state) == (2, State.BROKEN)
        assert 2 in read_chain(source.context().store, source.keys, size=first.segment_size).histories
        again = whole.run(failed_over.context(database=database))
        assert again.broken == ()
    if any("is neither stored nor kept" in text for text in record.broken):
        pytest.fail(f"WAL between the failover and {format_lsn(parse_lsn(second.end_lsn))} is missing: {record.broken}")
    source.fetch(base)
    with source.recovered(base) as recovered:
        assert rows_of(source, recovered) == acknowledged


def test_a_failover_to_a_streaming_standby_is_alarmed_and_recovery_crosses_it_to_the_last_commit(
    stack: Stack, state_dir: Path, policy_source: SourcePolicy
) -> None:
    source = policy_of(policy_source, "failover")
    with (
        wal_source(state_dir / "wal-failover", major=17, source=source, store=stack.store_connection()) as primary,
        primary.standby("standby") as standby,
    ):
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        whole.run(primary.context())
        base = primary.base_backup("before")
        with Writer(primary) as writer:
            assert eventually(lambda: writer.acknowledged > 50)
            whole.run(primary.context())
            # What is only with the standby when its primary dies.
            assert eventually(lambda: writer.acknowledged > 150 and primary.one(streaming) == 1, 30)
            pid = primary.server.pid
            assert pid is not None
            os.kill(pid, signal.SIGQUIT)
            assert eventually(lambda: not primary.server.is_running(), 60)
        assert primary.one("SELECT pg_promote()", standby) is True
        survived = rows_of(primary, standby)
        assert survived[0] == survived[1] > 50
        failed_over = replace(primary, server=standby, port=standby.spec.port)
        failed_over.execute("INSERT INTO events SELECT max(id) + 1 FROM events")
        acknowledged = rows_of(primary, standby)

        with pytest.raises(WalBrokenError, match="on timeline 2 instead of 1: a standby was promoted"):
            whole.run(failed_over.context())
        record = newest_record(failed_over.context().store, source.name)
        assert record is not None
        assert (record.timeline, record.state) == (2, State.BROKEN)
        assert record.base_wanted is not None
        assert "timeline 2 instead of 1" in record.base_wanted
        assert not any("is neither stored nor kept" in text for text in record.broken)
        again = whole.run(failed_over.context())
        assert (again.broken, again.timeline) == ((), 2)

        failed_over.fetch(base)
        with failed_over.recovered(base) as copy:
            assert rows_of(primary, copy) == acknowledged
            assert primary.one("SELECT timeline_id FROM pg_control_checkpoint()", copy) > 2
