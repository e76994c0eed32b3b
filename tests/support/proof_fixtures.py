"""Fixtures of the tests of proofs, for pytest_plugins: one stored backup and one restore of it for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.policy import SourcePolicy
from include.local.stack import Stack
from tests.support.contexts import ContextMaker
from tests.support.proof_source import SQL, Site
from tests.support.proofs import Arena, BackUp, KeptRestore, StoredBackup
from tests.support.source15 import PASSWORD, SUPERUSER

DATABASE = "proof_source"


@pytest.fixture(scope="module")
def site(stack: Stack) -> Site:
    """PostgreSQL 17."""
    return Site.of_stack(stack)


@pytest.fixture(scope="session")
def site15(source15: DatabaseConnection) -> Site:
    """PostgreSQL 15."""
    return Site.of(source15, SUPERUSER, PASSWORD)


@pytest.fixture(scope="module")
def back_up(stack: Stack, policy_source: SourcePolicy, state_dir: Path) -> BackUp:
    """Return a function that backs a database up with the real steps."""
    maker = ContextMaker(
        source=replace(policy_source, compression_level=1),
        database=stack.database_connection(),
        store=stack.store_connection(),
        staging_root=state_dir / "proof-staging",
        scratch_root=stack.layout.scratch,
    )
    return lambda database: StoredBackup.take(maker.on(database)())


@pytest.fixture(scope="module")
def proof_database(site: Site) -> Iterator[DatabaseConnection]:
    """A small database with one of each kind of object."""
    with site.database(DATABASE, SQL / "proof_source.sql") as database:
        yield database


@pytest.fixture(scope="module")
def backup(proof_database: DatabaseConnection, back_up: BackUp) -> StoredBackup:
    """One backup of it."""
    return back_up(proof_database)


@pytest.fixture(scope="module")
def arena(stack: Stack) -> Iterator[Arena]:
    """A scratch server of PostgreSQL 17 that is empty before each proof."""
    with Arena.of(stack.layout.scratch) as shared:
        yield shared


@pytest.fixture(scope="module")
def kept(backup: StoredBackup) -> Iterator[KeptRestore]:
    """One restore of that backup."""
    with KeptRestore.of(backup) as restore:
        yield restore


@pytest.fixture(scope="module")
def kept15(site15: Site, back_up: BackUp) -> Iterator[KeptRestore]:
    """The same with PostgreSQL 15 throughout."""
    with (
        site15.database(DATABASE, SQL / "proof_source.sql") as database,
        KeptRestore.of(back_up(database)) as restore,
    ):
        yield restore
