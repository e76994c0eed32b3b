"""What breaks a chain of stored WAL is noticed, alarmed, and asks for a base backup: slots, clusters, timelines."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.base import preflight, store_wal, take, upload
from include.backup.base.context import build_base_context
from include.backup.base.plan import Wish
from include.backup.errors import WalBrokenError
from include.backup.policy import SourcePolicy
from include.backup.postgres.session import connect
from include.backup.process import Runner
from include.backup.steps.context import StepContext
from include.backup.wal import advancing, plan, receive, storing
from include.backup.wal import run as whole
from include.backup.wal.lsn import format_lsn, parse_lsn
from include.backup.wal.record import State, newest_record
from include.backup.wal.slots import read_slot
from include.backup.wal.stored import read_chain
from include.local.stack import Stack
from tests.integration.servers import MAJORS, eventually
from tests.support.contexts import make_run
from tests.support.wal_slots import end_of_segments, policy_of
from tests.support.wal_source import WalSource, Writer, rows_of, wal_source

pytest_plugins = ["tests.support.wal_fixtures"]

BOTH = pytest.mark.parametrize("server", MAJORS, indirect=True)


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


def test_a_base_backup_tells_of_the_slot_and_the_gap_that_it_mends(source: WalSource) -> None:
    """The WAL run after it finds both whole."""
    source.execute("GRANT pg_monitor TO pulse_backup")
    first = whole.run(source.context())
    ctx = base_context(source)
    source.execute(f"SELECT pg_drop_replication_slot('{first.hold_slot}')")
    source.execute("SELECT pg_logical_emit_message(true, 'filler', 'x')")
    source.execute("SELECT pg_switch_wal()")
    source.execute("CHECKPOINT")
    found = preflight.run(ctx, wish=Wish.FULL)
    assert f"the slot {first.hold_slot} was gone, and a new one was made" in found.note
    assert preflight.run(ctx, wish=Wish.FULL).note == ""
    for step in (take, upload):
        step.run(ctx)
    assert "is neither stored nor kept by the source" in store_wal.run(ctx).note
    assert whole.run(source.context()).broken == ()


def base_context(source: WalSource) -> StepContext:
    return build_base_context(
        source=source.source,
        run=make_run(dag_id="base_backup"),
        # Without TLS a base backup wants the socket.
        database=replace(source.database, host=str(source.server.spec.socket_dir)),
        store=source.store,
        staging_root=source.staging_root,
        scratch_root=source.staging_root,
        runner=Runner(),
        log=logging.getLogger("tests.wal"),
    )


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
