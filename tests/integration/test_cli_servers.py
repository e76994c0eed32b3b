"""Restore by the command line into other servers than the source's: a new one, and PostgreSQL 15."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.local.source import SUPERUSER
from tests.support import source15 as fifteen
from tests.support.command_line import SOURCE, TARGET, CommandLine, Server, command_environment

pytest_plugins = ["tests.support.cli_fixtures"]
pytestmark = pytest.mark.usefixtures("new_databases")


def test_a_new_server_gets_the_roles_that_it_lacks(
    cli: CommandLine, taken: dict[str, Any], bare_server: Server, cli_server: Server
) -> None:
    place = ("--host", bare_server.superuser.host, "--user", "bare_admin", "--sslmode", "disable")
    arguments = ("restore", SOURCE, taken["backup_id"], "--to-database", SOURCE, "--create", *place, "--yes")
    known = cli.with_environment(PGPASSWORD=str(bare_server.superuser.password))
    known = replace(known, secrets=(*cli.secrets, str(bare_server.superuser.password)))
    refused = known.here(*arguments)
    assert refused.code == 5
    assert "lacks the roles " in refused.error
    assert "anon, authenticated" in refused.error
    assert "--with-roles" in refused.error

    answer = known.run(*arguments, "--with-roles", "--json")
    assert answer.code == 0, answer.err
    assert "anon" in answer.document["preview"]["creates_roles"]
    assert answer.document["report"]["compared"]["differences"] == []
    assert bare_server.contents(SOURCE) == cli_server.contents(SOURCE)
    with bare_server.session("postgres") as session:
        superusers = session.execute("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1").fetchall()
    assert superusers == [("bare_admin",), (SUPERUSER,)]
    assert f"the role {SUPERUSER} is a superuser at the source and becomes one here" in answer.err


@pytest.mark.postgres15
def test_a_postgresql_15_source_comes_back_into_15_and_into_17(
    cli: CommandLine, cli_server: Server, source15: DatabaseConnection
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    fields = command_environment({}, pulse_messages_db=source15, restore_target=superuser)
    old = replace(cli.with_environment(**fields), secrets=(*cli.secrets, fifteen.PASSWORD, fifteen.BACKUP_PASSWORD))
    taken = old.here("run", SOURCE, "--tier", "daily", "--no-proof", "--json")
    assert taken.code == 0, taken.err
    backup_id = taken.document["backup_id"]
    arguments = ("restore", SOURCE, backup_id, "--to-database", "restored", "--create", *TARGET, "--yes", "--unproven")
    answer = old.run(*arguments, "--json")
    assert answer.code == 0, answer.err
    server = Server(superuser)
    found, wanted = server.contents("restored"), server.contents(SOURCE)
    server.drop("restored")
    assert found == wanted
    assert answer.document["preview"]["pg_restore"].startswith("15.")
    assert answer.document["report"]["compared"]["large_objects"] == 5

    new = old.with_environment(**command_environment({}, restore_target=cli_server.superuser))
    into_17 = new.here(*arguments, "--json")
    assert into_17.code == 0, into_17.err
    assert into_17.document["report"]["compared"]["differences"] == []
    assert into_17.document["preview"]["warnings"][-1].startswith("the backup is of PostgreSQL 15 and the target is 17")
    rows = "--data-only"
    assert cli_server.contents("restored", rows) == server.contents(SOURCE, rows, client=17)


@pytest.mark.postgres15
def test_a_17_backup_is_refused_by_a_15_server(
    cli: CommandLine, taken: dict[str, Any], source15: DatabaseConnection
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    old = cli.with_environment(**command_environment({}, restore_target=superuser))
    answer = old.here("restore", SOURCE, taken["backup_id"], "--to-database", "new", "--create", *TARGET, "--yes")
    assert answer.code == 5
    assert "use a server of 17 or newer" in answer.error
