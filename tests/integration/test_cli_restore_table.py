"""restore-table by the command line: what a person sees, what comes back, what is kept of before."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.backup.chain import user_name
from include.backup.errors import StoreUnreachableError
from include.backup.evidence import Ledger
from tests.support.command_line import SOURCE, TARGET, CommandLine, Forger, Server, restore_on_record
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]

COPY = "pulse_copy"
DAMAGE = """
SET session_replication_role = replica;
DELETE FROM public.messages WHERE id IN (SELECT id FROM public.messages ORDER BY id LIMIT 3);
UPDATE public.messages SET body = 'defaced, "quoted"'
 WHERE id IN (SELECT id FROM public.messages ORDER BY id DESC LIMIT 2);
"""


@pytest.fixture
def damaged(cli_server: Server, taken: dict[str, Any]) -> Iterator[Server]:
    """A copy of the source in which messages are gone and changed."""
    with cli_server.session("postgres") as session:
        session.execute(f"CREATE DATABASE {COPY} TEMPLATE {SOURCE}")
    try:
        with cli_server.session(COPY) as session:
            session.execute(DAMAGE.encode())
        yield cli_server
    finally:
        cli_server.drop(COPY)


def arguments(backup_id: str, mode: str, *more: str) -> tuple[str, ...]:
    table = ("--table", "public.messages", "--mode", mode, "--to-database", COPY, *TARGET)
    return ("restore-table", SOURCE, backup_id, *table, *more)


def test_replace_shows_stores_a_copy_and_brings_every_row_back(
    cli: CommandLine,
    taken: dict[str, Any],
    taken_backup: StoredBackup,
    damaged: Server,
    cli_staging: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = tmp_path / "changes.csv"
    shown = cli.run(*arguments(taken["backup_id"], "replace", "--dry-run", "--csv", str(listed)))
    assert shown.code == 0, shown.err
    assert "missing in public.messages" in shown.err
    assert "makes the tables as they were" in shown.out
    check_csv(listed)
    assert damaged.contents(COPY) != damaged.contents(SOURCE)
    answer = cli.run(*arguments(taken["backup_id"], "replace", "--yes", "--json", "--reason", "a test"))
    assert answer.code == 0, answer.err
    told = restore_on_record(taken_backup.store, answer.document)
    assert told["requested_by"] == user_name()
    assert (told["database"], told["production"], told["reason"]) == (COPY, False, "a test")
    assert (told["tables"], told["merged"][0]["inserted"]) == (["public.messages"], 3)
    assert told["safety_copy"] == answer.document["safety_copy"]
    (merged,) = answer.document["report"]["merged"]
    assert (merged["inserted"], merged["updated"], merged["deleted"]) == (3, 2, 0)
    assert rows_and_objects(damaged, COPY) == rows_and_objects(damaged, SOURCE)
    assert "defaced" not in answer.out
    assert list(cli_staging.iterdir()) == []
    monkeypatch.setattr(Ledger, "append", unreachable)
    check_copy(cli, damaged, answer.document["safety_copy"])


def unreachable(*_: object, **__: object) -> None:
    raise StoreUnreachableError("the store does not answer")


def rows_and_objects(server: Server, database: str) -> list[str]:
    """Return a dump but for the sequences: the sample's are behind its rows, and a restore lets none stay there."""
    return [line for line in server.contents(database) if "pg_catalog.setval(" not in line]


def check_csv(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    changed = [row for row in rows if row["change"] == "changed" and row["column"] == "body"]
    assert [row["present"] for row in changed] == ['defaced, "quoted"'] * 2
    assert all(row["archived"] and row["archived"] != row["present"] for row in changed)
    assert len({row["key"] for row in rows if row["change"] == "missing"}) == 3


def check_copy(cli: CommandLine, server: Server, copy: str) -> None:
    """What the tables were before the restore is a backup of its own, which brings the damage back.

    What is done is no failure, and told as done, when the evidence of it is not stored.
    """
    backups = cli.here("list", SOURCE, "--json").document["backups"]
    assert [item["backup_id"] for item in backups if item["tier"] == "safety"] == [copy]
    assert "_safety_tables_" in copy
    back = cli.here(*arguments(copy, "replace", "--yes", "--unproven", "--no-safety-copy", "--touch-children"))
    assert back.code == 0, back.err
    assert "it is restored, and that is NOT on record (the store does not answer)" in back.err
    assert f"{copy} merged into {COPY}" in back.out
    with server.session(COPY) as session:
        row = session.execute("SELECT count(*) FROM public.messages WHERE body = 'defaced, \"quoted\"'").fetchone()
    assert row == (2,)


def test_beside_says_in_plain_lines_what_it_made(cli: CommandLine, taken: dict[str, Any], damaged: Server) -> None:
    answer = cli.here(*arguments(taken["backup_id"], "beside", "--yes", "--schema", "restored_messages"))
    assert answer.code == 0, answer.err
    assert "every row as it was dumped" in answer.out
    with damaged.session(COPY) as session, damaged.session(SOURCE) as original:
        count = "SELECT count(*), sum(hashtextextended(m::text, 0)) FROM {}.messages m"
        assert (
            session.execute(count.format("restored_messages").encode()).fetchone()
            == original.execute(count.format("public").encode()).fetchone()
        )


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--table", "public.messagez"), 2, "near: public.messages"),
        (("--table", "public.messages"), 2, "is named twice"),
        (("--schema", "restored_x"), 2, "a schema goes with the mode beside only"),
        (("--host", "x"), 2, "give one"),
    ],
)
def test_bad_arguments_change_nothing(
    cli: CommandLine, taken: dict[str, Any], damaged: Server, more: tuple[str, ...], code: int, words: str
) -> None:
    before = damaged.contents(COPY)
    answer = cli.here(*arguments(taken["backup_id"], "replace", "--yes", *more))
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert damaged.contents(COPY) == before


def test_without_a_terminal_nobody_is_asked_and_an_unproven_backup_is_refused(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup, forger: Forger, damaged: Server
) -> None:
    before = damaged.contents(COPY)
    asked = cli.run(*arguments(taken["backup_id"], "missing"))
    assert (asked.code, "add --yes" in asked.error) == (2, True)
    unproven = cli.here(*arguments(forger.backup(taken_backup), "missing", "--yes"))
    assert (unproven.code, "nobody has shown that it restores" in unproven.error) == (5, True)
    assert damaged.contents(COPY) == before
