"""Critical tables by the command line: taken in one command, and what the archive is for: one table back, soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import SOURCE, TARGET, CommandLine, Server

pytest_plugins = ["tests.support.cli_fixtures"]

COPY = "critical_copy"
DAMAGE = """
SET session_replication_role = replica;
DELETE FROM public.messages WHERE id IN (SELECT id FROM public.messages ORDER BY id LIMIT 3)
"""


@pytest.fixture
def damaged(cli_server: Server) -> Iterator[Server]:
    """A copy of the source in which messages are gone."""
    with cli_server.session("postgres") as session:
        session.execute(f"CREATE DATABASE {COPY} TEMPLATE {SOURCE}".encode())
    try:
        with cli_server.session(COPY) as session:
            session.execute(DAMAGE.encode())
        yield cli_server
    finally:
        cli_server.drop(COPY)


def messages(server: Server, database: str) -> list[object]:
    with server.session(database) as session:
        return session.execute("SELECT count(*), sum(hashtext(m::text)) FROM public.messages m").fetchall()


def test_rows_come_back_from_the_newest_hour_and_latest_never_means_it(cli: CommandLine, damaged: Server) -> None:
    taken = cli.run("run", SOURCE, "--tier", "hourly", "--json")
    assert taken.code == 0, taken.err
    assert taken.document["proven"] is True
    backup_id = taken.document["backup_id"]
    assert "_hourly_tables_" in backup_id
    everything = cli.here("show", SOURCE, "latest", "--json")
    assert everything.code != 0 or everything.document["backup_id"] != backup_id
    refused = cli.here("restore", SOURCE, backup_id, "--to-database", "nowhere", "--create", "--dry-run")
    assert (refused.code, "only full backups restore here" in refused.error) == (5, True)
    assert messages(damaged, COPY) != messages(damaged, SOURCE)
    table = ("--table", "public.messages", "--mode", "missing", "--to-database", COPY, *TARGET)
    answer = cli.run("restore-table", SOURCE, "latest-proven", *table, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["preview"]["backup_id"] == backup_id
    assert messages(damaged, COPY) == messages(damaged, SOURCE)
