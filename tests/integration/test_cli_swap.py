"""restore --swap and --undo by the command line: what a person sees, what is refused, what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.steps.context import Release
from include.local.stack import Stack
from tests.support.airflow_runs import until
from tests.support.command_line import CommandLine, Server, connection_json, store_json
from tests.support.restores import RestoreLab, make_lab
from tests.support.small_sources import SmallSource

pytest_plugins = ["tests.support.cli_fixtures"]
SOURCE = "cli_swap"
SURE = ("--unproven", "--end-sessions", "--reason", "a test", "--yes-i-have-approval", SOURCE)


@pytest.fixture(scope="module")
def lab(stack: Stack, cli_server: Server, state_dir: Path) -> Iterator[RestoreLab]:
    made = make_lab(
        {SOURCE: SmallSource(name=SOURCE)},
        superuser=cli_server.superuser,
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=state_dir / "cli-swap",
        conninfo=stack.source.superuser_conninfo,
    )
    before = made.databases()
    yield made
    for name in (made.databases() - before) | {SOURCE, "small"}:
        made.drop(name)


@pytest.fixture(scope="module")
def command(cli: CommandLine, lab: RestoreLab) -> CommandLine:
    """The command line with the small source's policy and connections."""
    return cli.with_environment(
        BACKUP_POLICY=str(lab.folder / "policy.yaml"),
        AIRFLOW_CONN_CLI_SWAP_DB=connection_json(lab.connection(f"{SOURCE}_db")),
        AIRFLOW_CONN_CLI_SWAP_S3=store_json(lab.store),
        AIRFLOW_CONN_PULSE_MESSAGES_RESTORE=connection_json(lab.superuser),
    )


@pytest.fixture(scope="module")
def unproven(lab: RestoreLab) -> str:
    """A backup that nobody has proven: the latest."""
    return lab.backup(SOURCE)


def test_a_release_is_rolled_back_and_the_rollback_is_taken_back(command: CommandLine, lab: RestoreLab) -> None:
    good = lab.state(SOURCE)
    backup_id = lab.backup(SOURCE, release=Release(name="2025.3.1", git_sha="0123abc"))
    lab.do(SOURCE, "DELETE FROM orders WHERE id > 100")
    bad = lab.state(SOURCE)

    shown = command.here("restore", SOURCE, "release:2025.3.1", "--swap", "--unproven", "--dry-run")
    assert shown.code == 0, shown.err
    assert backup_id in shown.out
    assert "(PRODUCTION)" in shown.out
    assert "public.orders" in shown.out
    assert lab.state(SOURCE) == bad

    done = command.run("restore", SOURCE, "release:2025.3.1@0123abc", "--swap", *SURE, "--json")
    assert done.code == 0, done.err
    report = done.document["report"]
    assert report["rows"] == 5500
    assert report["safety"]["backup_id"].startswith(f"{SOURCE}_safety_full_")
    found = lab.state(SOURCE)
    assert (found["orders"], found["notes"]) == (good["orders"], good["notes"])

    lab.do(SOURCE, "INSERT INTO orders (customer, note) VALUES (1, 'since'), (2, 'since')")
    undo = ("restore", SOURCE, "--undo", report["restore_id"])
    # As a swap leaves it that is killed after the names have changed, or an undo before.
    lab.do("postgres", f"ALTER DATABASE {SOURCE} WITH ALLOW_CONNECTIONS false")
    refused = command.here("restore", SOURCE, "release:2025.3.1", "--swap", *SURE)
    assert refused.code == 5
    assert f"takes no connections: restore {report['restore_id']} closed it and was killed" in refused.error
    assert f'ALTER DATABASE "{SOURCE}" WITH ALLOW_CONNECTIONS true opens it as it is' in refused.error
    assert "nobody knows" in command.here(*undo, "--dry-run").out
    lab.do("postgres", f'ALTER DATABASE "{SOURCE}" WITH ALLOW_CONNECTIONS true')

    def seen() -> bool:
        """Statistics come a moment after the write."""
        written = command.here(*undo, "--dry-run", "--json").document["preview"]["written"]
        return [(item["table"], item["inserted"]) for item in written] == [("public.orders", 2)]

    until(seen, seconds=30, what="the two new rows in what an undo would lose")
    assert "public.orders" in command.here(*undo, "--dry-run").out
    back = command.here(*undo, "--end-sessions", "--yes-i-have-approval", SOURCE)
    assert back.code == 0, back.err
    assert lab.state(SOURCE) == bad
    again = command.here(*undo, "--end-sessions", "--yes-i-have-approval", SOURCE)
    assert again.code == 5
    assert f"{SOURCE} is what it was before {report['restore_id']}" in again.error
    # As an undo leaves it that is killed after the names have changed, or a swap before.
    lab.do("postgres", f"ALTER DATABASE {SOURCE} WITH ALLOW_CONNECTIONS false")
    refused = command.here("restore", SOURCE, "release:2025.3.1", "--swap", *SURE)
    assert (refused.code, f"`restore {SOURCE} --undo {report['restore_id']}` makes it" in refused.error) == (5, True)
    opened = command.here(*undo, "--yes-i-have-approval", SOURCE)
    assert (opened.code, f"{SOURCE} takes connections again" in opened.out) == (0, True), opened.err
    assert lab.state(SOURCE) == bad
    aside = f"{SOURCE}_undone_{report['restore_id']}"
    assert aside in lab.databases()
    cleanup = command.here("cleanup", SOURCE, "--all")
    assert cleanup.code == 0, cleanup.err
    assert f"database {aside} on source within its time: put aside by an undo" in cleanup.out


def test_what_cannot_be_renamed_is_restored_in_place(command: CommandLine, lab: RestoreLab, unproven: str) -> None:
    good = lab.state(SOURCE)
    lab.do(SOURCE, "DELETE FROM orders")
    bad = lab.state(SOURCE)
    # As at Supabase: the only way to the server leads to the very database that is to be replaced.
    hosted = replace(lab.superuser, dbname=SOURCE)
    there = command.with_environment(AIRFLOW_CONN_PULSE_MESSAGES_RESTORE=connection_json(hosted))
    refused = there.here("restore", SOURCE, unproven, "--swap", *SURE)
    assert (refused.code, "choose in place (`restore --in-place`)" in refused.error) == (5, True), refused.err
    shown = there.here("restore", SOURCE, unproven, "--in-place", *SURE, "--dry-run")
    assert "in place, in one transaction: the schemas public are dropped and made anew" in shown.out
    assert lab.state(SOURCE) == bad
    done = there.here("restore", SOURCE, unproven, "--in-place", *SURE, "--json")
    assert done.code == 0, done.err
    report = done.document["report"]
    assert report["in_place"]["schemas"] == ["public"]
    assert report["safety"]["backup_id"].startswith(f"{SOURCE}_safety_full_")
    assert lab.state(SOURCE) == good


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("latest", "--swap", "--unproven", "--end-sessions"), 2, "nobody can be asked here"),
        (("latest", "--swap", "--unproven", "--end-sessions", "--yes-i-have-approval", "other"), 2, "is not the name"),
        (("latest", "--swap", "--end-sessions", "--yes-i-have-approval", SOURCE), 5, "nobody has shown"),
        (("release:9", "--swap", *SURE), 2, "taken before release 9"),
        (("release:../x", "--swap", *SURE), 2, "is no release"),
        (("before:yesterday", "--swap", *SURE), 2, "is no time"),
        (("before:2025-01-19T02:00:00", "--swap", *SURE), 2, "has no time zone"),
        (("--swap", *SURE), 2, "which backup?"),
        (("latest", "--swap", "--to-database", "x"), 2, "not allowed with"),
        (("latest", "--in-place", "--unproven", "--end-sessions"), 2, "nobody can be asked here"),
        (("latest",), 2, "one of the arguments"),
        (("--undo", "x"), 2, "is no restore's id"),
        (("--undo", "20200101T000000Z_000000"), 5, "has replaced nothing"),
    ],
)
def test_what_is_unclear_or_unapproved_changes_nothing(
    command: CommandLine, lab: RestoreLab, unproven: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert unproven
    before, databases = lab.state(SOURCE), lab.databases()
    answer = command.here("restore", SOURCE, *arguments)
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert (lab.state(SOURCE), lab.databases()) == (before, databases)
