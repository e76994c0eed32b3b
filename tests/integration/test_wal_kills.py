"""Kills at every step of a run, under write load: the stored chain has no hole, and recovers to the last commit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.backup.wal.lsn import parse_lsn
from include.backup.wal.record import newest_record, records_backwards
from include.local.stack import Stack
from tests.faults.tcp_proxy import Fault, TcpProxy
from tests.support.command_line import command_environment
from tests.support.wal_kills import Killer, Moment, assert_nothing_left_unstored, policy_with, stored_chain
from tests.support.wal_source import WalSource, Writer, rows_of, wal_source

SEED = 20260511
ROUNDS = 7
SLOW_RUNS = 6
# pg_receivewal tells the server every 10 s what it has flushed: only then does the slot that it streams from move.
SLOW_SECONDS = 32.0


@contextmanager
def killer(stack: Stack, folder: Path, *, major: int, name: str) -> Iterator[Killer]:
    """A source whose runs are processes of their own."""
    folder.mkdir()
    policy = policy_with(folder / "policy.json", name)
    with wal_source(folder / "server", major=major, source=policy, store=stack.store_connection()) as source:
        environment = {
            **stack.environment(),
            "BACKUP_POLICY": str(folder / "policy.json"),
            "BACKUP_STAGING_DIR": str(source.staging_root),
        }
        connections = {f"{name}_db": source.database}
        yield Killer(
            source=source,
            environment=command_environment(environment, **connections),
            chance=random.Random(SEED),  # noqa: S311 - the same moments in every run
        )


def begin(runs: Killer) -> tuple[Path, int]:
    """Make the slot, then a base backup, and say where its WAL begins."""
    runs.run()
    base = runs.source.base_backup("base")
    label = (base / "backup_label").read_text()
    return base, parse_lsn(label.split("START WAL LOCATION: ")[1].split()[0])


def finish(runs: Killer, base: Path, start: int, writer: Writer) -> None:
    """One more run, and everything that was acknowledged before it comes back from the store alone."""
    source: WalSource = runs.source
    acknowledged = writer.acknowledged
    runs.run()
    assert_nothing_left_unstored(source, start)
    store = source.context().store
    last = newest_record(store, source.source.name)
    assert last is not None
    assert stored_chain(source).reach(start, timeline=1).end >= parse_lsn(last.end_lsn)
    assert stored_chain(source).gaps() == ()
    assert [record.broken for record in records_backwards(store, source.source.name) if record.broken] == []
    source.fetch(base)
    with source.recovered(base) as copy:
        count, newest = rows_of(source, copy)
    assert count == newest, "a commit in the middle is missing"
    assert newest >= acknowledged


def test_one_kill_at_each_step_loses_nothing(stack: Stack, state_dir: Path) -> None:
    with killer(stack, state_dir / "kills", major=17, name="kills") as runs:
        base, start = begin(runs)
        with Writer(runs.source, pause=0.005) as writer:
            for number, moment in enumerate(Moment):
                # A receiver may have come and gone between two looks.
                assert any(runs.kill_at(moment) for _ in range(3)), f"no run came to {moment.name}"
                assert_nothing_left_unstored(runs.source, start)
                if number % 2:
                    runs.delete_staging()
        finish(runs, base, start, writer)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("major", [17, pytest.param(15, marks=pytest.mark.postgres15)])
def test_fifty_kills_lose_nothing(stack: Stack, state_dir: Path, major: int) -> None:
    """49 kills spread over the steps, and 6 of runs of more than 30 s whose own slot has moved."""
    name = f"kills{major}"
    kills = 0
    with killer(stack, state_dir / name, major=major, name=name) as runs:
        base, start = begin(runs)
        with Writer(runs.source, pause=0.005) as writer:
            for number in range(ROUNDS):
                for moment in Moment:
                    kills += runs.kill_at(moment)
                    assert_nothing_left_unstored(runs.source, start)
                    if runs.chance.random() < 0.5:
                        runs.delete_staging()
                if number < SLOW_RUNS:
                    kills += slow_kill(runs)
                    runs.delete_staging()
                    assert_nothing_left_unstored(runs.source, start)
        assert kills >= 50
        finish(runs, base, start, writer)


def slow_kill(runs: Killer) -> int:
    """Kill a run whose receiver has already told the server that it may let go of a segment."""
    source = runs.source
    for _ in range(2):
        source.execute("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 100))")
        source.execute("SELECT pg_switch_wal()")
    with TcpProxy("127.0.0.1", source.port, Fault(delay_seconds=0.06)) as proxy:
        hold, run = runs.kill_after(SLOW_SECONDS, port=proxy.port)
    assert run > hold, "the slot that was streamed from has not moved: this kill shows nothing"
    return 1
