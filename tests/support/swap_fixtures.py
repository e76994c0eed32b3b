"""Fixtures of the tests of restores into production, for pytest_plugins: databases by a module's NAMES, and backups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.local.stack import Stack
from tests.support.command_line import Server
from tests.support.restores import RestoreLab, make_lab
from tests.support.small_sources import TEMPLATE, SmallSource


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, stack: Stack, cli_server: Server, state_dir: Path) -> Iterator[RestoreLab]:
    names = request.module.NAMES
    made = make_lab(
        {name: SmallSource(name=name) for name in names},
        superuser=cli_server.superuser,
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=state_dir / request.module.__name__.rpartition(".")[2],
        conninfo=stack.source.superuser_conninfo,
    )
    before = made.databases()
    yield made
    for name in (made.databases() - before) | {*names, TEMPLATE}:
        made.drop(name)


@pytest.fixture(scope="module")
def failing(lab: RestoreLab) -> str:
    """A backup of the source whose restores fail; production has changed since."""
    backup_id = lab.backup("prod_fail")
    lab.value("prod_fail", "UPDATE orders SET note = 'later' WHERE id = 1 RETURNING id")
    return backup_id
