"""The schema's history from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include.local.stack import Stack
from tests.support.command_line import SOURCE, CommandLine, Server
from tests.support.git_servers import git

pytest_plugins = ["tests.support.cli_fixtures"]

DATABASE = "pulse_messages"


@pytest.fixture
def changed(cli_server: Server) -> Iterator[None]:
    with cli_server.session(DATABASE) as session:
        session.execute("CREATE TABLE public.from_the_command_line (id int, password text DEFAULT 'CANARY')")
    yield
    with cli_server.session(DATABASE) as session:
        session.execute("DROP TABLE public.from_the_command_line")


def commits(stack: Stack) -> list[str]:
    return git(stack.layout.schema_remote, "log", "--format=%s", "main").splitlines()


def test_it_commits_shows_the_difference_and_commits_that(
    cli: CommandLine, stack: Stack, cli_server: Server, changed: None
) -> None:
    first = cli.run("schema", SOURCE, "--json")
    assert first.code == 0, first.err
    assert "TABLE public.from_the_command_line" in first.document["added_objects"]
    count = len(commits(stack))
    dry = cli.here("schema", SOURCE, "--dry-run")
    assert (dry.code, dry.out.strip()) == (0, f"the schema of {SOURCE} has not changed; nothing would be committed")
    with cli_server.session(DATABASE) as session:
        session.execute("ALTER TABLE public.from_the_command_line ADD note text")
    dry = cli.here("schema", SOURCE, "--dry-run")
    assert "changed: TABLE public.from_the_command_line" in dry.out
    assert "+    note text" in dry.out
    assert "CANARY" not in dry.out + dry.err + first.out + first.err
    assert len(commits(stack)) == count
    done = cli.here("schema", SOURCE)
    assert done.code == 0, done.err
    assert commits(stack)[0] == f"{SOURCE}: TABLE public.from_the_command_line changed"
    assert "CANARY" not in git(stack.layout.schema_remote, "show", f"main:{SOURCE}/schema.sql")


@pytest.mark.parametrize(
    ("connection", "code", "words"),
    [
        ('{"conn_type": "git", "host": "file:///nowhere/at/all.git"}', 2, "there is no git repository at this address"),
        ('{"conn_type": "git"}', 2, "has no host; set it to the remote's URL"),
        ('{"conn_type": "git", "host": "git@h:r.git", "extra": {"known_hosts": "h x y"}}', 2, "has no private_key"),
        ('{"conn_type": "git", "host": "https://127.0.0.1:1/r.git"}', 3, "the host does not answer"),
    ],
)
def test_what_is_wrong_with_the_remote_is_one_line_and_an_exit_code(
    cli: CommandLine, tmp_path: Path, connection: str, code: int, words: str
) -> None:
    there = cli.with_environment(AIRFLOW_CONN_PULSE_SCHEMA_GIT=connection, BACKUP_STAGING_DIR=str(tmp_path))
    answer = there.here("schema", SOURCE)
    assert answer.code == code
    assert words in answer.error
