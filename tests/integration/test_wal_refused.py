"""What runs refuse: roles that may not stream, sources that answer no more, segments that are others' or damaged."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from backports import zstd

from include.backup.errors import WalDiffersError, WalRefusedError, WalTimeoutError
from include.backup.postgres.session import connect
from include.backup.steps.context import utc_now
from include.backup.verification.log import LogReport, check_log
from include.backup.wal import plan, receive, storing
from include.backup.wal import run as whole
from include.backup.wal.lock import bounded
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.segment_file import check_segment
from include.backup.wal.segments import Segment
from tests.faults.tcp_proxy import Fault, TcpProxy
from tests.support.wal_slots import restart_lsn
from tests.support.wal_source import WalSource

pytest_plugins = ["tests.support.wal_fixtures"]


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
        assert ", no gap" not in lost.line()
    finally:
        as_it_was = {name: honest[name] for name in ("ServerSideEncryption", "SSEKMSKeyId")}
        store.s3.put_object(Bucket=store.bucket, Key=key, Body=content, Metadata=metadata, **as_it_was)
    assert looked() == sound
