"""Fixtures of the tests of WAL runs, for pytest_plugins: one server a file, one source with slots of its own a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.policy import SourcePolicy
from include.local.stack import Stack
from tests.support.wal_slots import policy_of
from tests.support.wal_source import WalSource, wal_source


@pytest.fixture(scope="module", params=[17])
def server(
    request: pytest.FixtureRequest, stack: Stack, state_dir: Path, policy_source: SourcePolicy
) -> Iterator[WalSource]:
    """One server of each version for all tests of the module; each test has a source with slots of its own."""
    major = request.param
    folder = state_dir / f"{request.module.__name__.rpartition('.')[2]}{major}"
    with wal_source(folder, major=major, source=policy_source, store=stack.store_connection()) as found:
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
