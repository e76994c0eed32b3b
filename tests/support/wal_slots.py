"""Slots of a test's own, and where they and the stored log are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from include.backup.policy import SourcePolicy
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.record import RunRecord
from tests.support.wal_source import WalSource


def policy_of(source: SourcePolicy, name: str, **changes: Any) -> SourcePolicy:
    """Return the shipped source under another name, with slots of its own."""
    assert source.incremental is not None
    block = replace(source.incremental, hold_slot=f"{name}_hold", run_slot=f"{name}_run", **changes)
    return replace(source, name=name, incremental=block)


def restart_lsn(source: WalSource, slot: str | None = None) -> int:
    """Return from where the server keeps its log for a slot, the one that holds it if none is named."""
    policy = source.source.incremental
    assert policy is not None
    with source.session() as session:
        row = session.execute(
            "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", (slot or policy.hold_slot,)
        ).fetchone()
    assert row is not None
    return parse_lsn(row[0])


def end_of_segments(record: RunRecord) -> int:
    """Return where the stored log ended after a run."""
    return parse_lsn(record.end_lsn)
