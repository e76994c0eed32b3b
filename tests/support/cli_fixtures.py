"""Fixtures of the tests of the command line, for pytest_plugins: one stack, one proven backup, forged ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.policy import SourcePolicy
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.steps.context import open_catalog, open_store
from include.local.credentials import load_credentials
from include.local.source import SUPERUSER
from include.local.stack import Stack
from tests.support.command_line import SOURCE, CommandLine, Forger, Server, command_environment
from tests.support.proofs import StoredBackup


@pytest.fixture(scope="module")
def cli_server(stack: Stack) -> Server:
    """The embedded server as its superuser."""
    password = load_credentials(stack.layout.credentials).source_superuser_password
    superuser = replace(stack.database_connection(), user=SUPERUSER, dbname="postgres", password=Secret(password))
    return Server(superuser)


@pytest.fixture
def new_databases(cli_server: Server) -> Iterator[None]:
    """Drop the databases that a test has made."""
    before = cli_server.databases()
    yield
    for name in cli_server.databases() - before:
        cli_server.drop(name)


@pytest.fixture(scope="module")
def cli(stack: Stack, cli_server: Server, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line on the embedded stack, in a folder that is not the project's."""
    staging = tmp_path_factory.mktemp("cli-staging")
    credentials = load_credentials(stack.layout.credentials)
    environment = {**stack.environment(), "BACKUP_STAGING_DIR": str(staging)}
    return CommandLine(
        environment=command_environment(environment, restore_target=cli_server.superuser),
        secrets=(
            credentials.source_superuser_password,
            credentials.source_backup_password,
            credentials.store_secret_key,
            credentials.slack_token,
        ),
        folder=tmp_path_factory.mktemp("elsewhere"),
    )


@pytest.fixture(scope="module")
def cli_staging(cli: CommandLine) -> Path:
    return Path(cli.environment["BACKUP_STAGING_DIR"])


@pytest.fixture(scope="module")
def taken(cli: CommandLine, cli_staging: Path) -> dict[str, Any]:
    """One proven backup, taken by the command line; the document that told of it."""
    answer = cli.run("run", SOURCE, "--tier", "daily", "--json")
    assert answer.code == 0, answer.err
    assert list(cli_staging.iterdir()) == []
    document: dict[str, Any] = answer.document
    return document


@pytest.fixture(scope="module")
def taken_backup(taken: dict[str, Any], stack: Stack, policy_source: SourcePolicy) -> StoredBackup:
    """That backup as it lies in the store, for forging others after it."""
    store = open_store(policy_source, stack.store_connection())
    manifest = open_catalog(policy_source, store).manifest(taken["backup_id"])
    return StoredBackup(store=store, manifest=manifest, scratch_root=stack.layout.scratch)


@pytest.fixture(scope="module")
def forger(taken_backup: StoredBackup) -> Iterator[Forger]:
    found = Forger(taken_backup.store)
    yield found
    found.remove()


@pytest.fixture(scope="session")
def bare_server(state_dir: Path) -> Iterator[Server]:
    """A new PostgreSQL 17 server that knows none of the source's roles, reached by its unix socket."""
    user = source_user()
    folder = state_dir / "bare"
    folder.mkdir()
    base = runtime_dir(folder, user)
    password = Secret("bare-superuser")
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(17, server=True),
            data=base / "data",
            socket_dir=base / "s",
            superuser="bare_admin",
            password=password,
            user=user,
            settings={"fsync": "off"},
        ),
        runner=Runner(),
    )
    server.start()
    try:
        yield Server(
            DatabaseConnection(
                host=str(base / "s"),
                port=5432,
                dbname="postgres",
                user="bare_admin",
                password=password,
                sslmode="disable",
            )
        )
    finally:
        server.stop()
