"""What a restore's preview says, and what keeps a restore from beginning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import ParameterError
from include.backup.inventory import Standing
from include.backup.restore.load import index_memory_mb
from include.backup.restore.plan import RestoreRequest, estimate, warnings_of
from include.backup.restore.statements import RoleStatements
from include.backup.restore.target import Target, TargetFacts, check_database_name
from tests.support.memory_store import MemoryStore
from tests.support.records import make_manifest, make_proof


def test_the_newest_restore_test_tells_how_long_it_takes() -> None:
    old = make_proof(age=timedelta(days=30), durations={"fetch": 1.0, "restore": 2.0, "compare": 3.0})
    new = make_proof(durations={"fetch": 10.0, "restore": 20.0, "compare": 30.0})
    assert estimate(make_manifest(), (new, old), compare=True).seconds == 60.0
    assert estimate(make_manifest(), (new, old), compare=False).seconds == 30.0
    assert "its restore test of 2025-01-19" in estimate(make_manifest(), (new, old), compare=True).basis


def test_without_a_restore_test_the_dump_tells() -> None:
    manifest = make_manifest(durations={"dump": 10.0, "upload": 4.0})
    assert estimate(manifest, (), compare=False).seconds == 24.0
    assert estimate(manifest, (), compare=True).seconds == 34.0
    assert "never restored" in estimate(manifest, (), compare=True).basis


def test_a_restore_test_that_broke_off_tells_nothing() -> None:
    broken = make_proof(durations={"fetch": 1.0})
    assert "never restored" in estimate(make_manifest(), (broken,), compare=True).basis


@pytest.mark.parametrize("name", ["", "a" * 64, "ü" * 32, "a\0b", "a\nb", "template0", "template1"])
def test_what_cannot_be_a_new_database_is_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        check_database_name(name)


@pytest.mark.parametrize("name", ["restored", "a" * 63, "x'; DROP DATABASE pulse; --", "$(id)", 'Odd "name"', "ü"])
def test_any_other_name_is_quoted_where_it_goes(name: str) -> None:
    check_database_name(name)


def test_indexes_share_the_memory_and_none_gets_less_than_postgresql_gives() -> None:
    assert [index_memory_mb(jobs) for jobs in (1, 2, 8, 64)] == [512, 256, 64, 64]


@pytest.mark.parametrize(
    ("changes", "major", "words"),
    [
        ({}, 17, ()),
        ({}, 18, ("the backup is of PostgreSQL 17 and the target is 18",)),
        ({"standing": Standing.UNPROVEN}, 17, ("this backup is unproven",)),
        ({"quarantine": False}, 17, ("no quarantine",)),
        ({"create": False}, 17, ("keeps its owner, grants and settings",)),
    ],
)
def test_a_preview_warns_of_exactly_what_is_unusual(
    changes: dict[str, Any], major: int, words: tuple[str, ...]
) -> None:
    found = list(warnings_of(request(**changes), facts(major), RoleStatements(statements=(), roles=(), superusers=())))
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def request(**changes: Any) -> RestoreRequest:
    connection = DatabaseConnection(host="db", port=5432, dbname="postgres", user="restorer", sslmode="disable")
    values: dict[str, Any] = {
        "store": MemoryStore({}),
        "manifest": make_manifest(),
        "standing": Standing.PROVEN,
        "proofs": (),
        "target": Target(connection, database="shop"),
        "sources": (),
        "create": True,
        "with_roles": False,
        "unproven": False,
        "compare": True,
        "jobs": 2,
        "quarantine": True,
    }
    return RestoreRequest(**{**values, **changes})


def facts(major: int) -> TargetFacts:
    return TargetFacts(
        version=f"{major}.1",
        major=major,
        role="restorer",
        is_superuser=False,
        may_create_database=True,
        may_create_role=True,
        in_recovery=False,
        system_identifier=None,
        roles=frozenset(),
        extensions=frozenset(),
        encoding=None,
        objects=(),
    )
