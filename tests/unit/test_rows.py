"""The COPY that reads restored rows back: the same rows and columns as the dump's."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from include.backup.postgres.toc import parse_copy
from include.backup.postgres.tools import find_tools
from include.backup.process import Command, Runner
from include.backup.proof import rows
from include.backup.proof.digest import StreamDigest
from include.backup.proof.rows import Comparison, RowComparer
from include.backup.proof.scratch import ScratchRole
from tests.support.builders import make_manifest, make_member, make_table

PLAIN = "COPY shop.orders (id, total) FROM stdin;\n"
ODD = 'COPY "Odd ""x""".t ("a)", "b, c") FROM stdin;\n'
NO_COLUMNS = "COPY shop.none  FROM stdin;\n"


@pytest.mark.parametrize(
    ("statement", "condition", "partitioned", "expected"),
    [
        (PLAIN, None, False, "COPY shop.orders (id, total) TO STDOUT"),
        (ODD, None, False, 'COPY "Odd ""x""".t ("a)", "b, c") TO STDOUT'),
        (NO_COLUMNS, None, False, "COPY shop.none TO STDOUT"),
        (PLAIN, "WHERE id > 9", False, "COPY (SELECT id, total FROM ONLY shop.orders WHERE id > 9) TO STDOUT"),
        (PLAIN, None, True, "COPY (SELECT id, total FROM shop.orders) TO STDOUT"),
        (PLAIN, "WHERE x", True, "COPY (SELECT id, total FROM shop.orders WHERE x) TO STDOUT"),
        (ODD, "WHERE x", False, 'COPY (SELECT "a)", "b, c" FROM ONLY "Odd ""x""".t WHERE x) TO STDOUT'),
        (NO_COLUMNS, "WHERE x", False, "COPY (SELECT  FROM ONLY shop.none WHERE x) TO STDOUT"),
    ],
)
def test_the_statement_reads_what_the_dump_read(
    statement: str, condition: str | None, partitioned: bool, expected: str
) -> None:
    comparison = Comparison(target=parse_copy(statement), members=(), condition=condition, partitioned=partitioned)
    assert comparison.statement() == expected


def test_the_rows_of_all_leaves_count_together() -> None:
    members = tuple(make_member(str(rows), table_data=make_table(rows=rows)) for rows in (3, 4))
    comparison = Comparison(target=parse_copy(PLAIN), members=members, condition=None, partitioned=True)
    assert comparison.rows == 7


class Session:
    """A session of a server of some version, which has no partitioned table."""

    def __init__(self, major: int) -> None:
        self.info = SimpleNamespace(server_version=major * 10_000 + 2)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def execute(self, _: str) -> Session:
        return self

    def fetchall(self) -> list[Any]:
        return []


class Listening(Runner):
    """Runs nothing and remembers what was asked; every table holds the same rows."""

    def __init__(self, digest: StreamDigest) -> None:
        super().__init__()
        self.digest: Any = digest
        self.asked: list[Command] = []

    def stream(self, command: Command, consume: Any) -> Any:
        self.asked.append(command)
        return self.digest


@pytest.mark.parametrize("major", [16, 17])
def test_no_timeout_of_the_restored_database_ends_the_reading_of_a_long_table(
    monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    table = make_table()
    runner = Listening(StreamDigest(table.rows, table.content_sha256))

    def connect(_: ScratchRole, *, settings: Mapping[str, str]) -> Session:
        # Otherwise a database whose functions quote every name would have no partitioned table that pg_dump knows.
        assert settings["quote_all_identifiers"] == "off"
        return Session(major)

    monkeypatch.setattr(rows, "connect", connect)
    comparer = RowComparer(
        runner=runner,
        tools=find_tools(17),
        endpoint=ScratchRole(host="/s", port=5432, user="loader", password="x", dbname="d"),
        manifest=make_manifest(members=(make_member("dump/1.dat.zst", table_data=table),)),
        content=lambda _: iter(()),
        jobs=1,
    )
    (proof,), differences = comparer.compare(log=lambda _: None)
    assert (proof.identical, differences) == (True, ())
    (command,) = runner.asked
    assert "statement_timeout=0" in command.environment["PGOPTIONS"]
    # An older server refuses a session that sets what it does not know.
    assert ("transaction_timeout=0" in command.environment["PGOPTIONS"].split(" ")) is (major == 17)
