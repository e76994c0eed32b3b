"""Orders and choices: what is written down, what is unclear, and what a changed order is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.records import from_json
from include.backup.restore.choice import Choice
from include.backup.restore.history import by_rows
from include.backup.restore.order import (
    FORMAT_VERSION,
    RestoreOrder,
    Strategy,
    TargetBefore,
    name_beside,
)
from include.backup.restore.sealed import order_key, read_order
from include.backup.restore.survey import RowCount, TableChange, change_lines, table_changes
from include.backup.restore.words import Choosing
from tests.support.builders import make_manifest, make_proof
from tests.support.memory_store import MemoryStore

WHEN = datetime(2025, 1, 19, 2, tzinfo=UTC)
RESTORE_ID = "20250119T020000Z_3fa9c1"


def order(**overrides: Any) -> RestoreOrder:
    values: dict[str, Any] = {
        "restore_id": RESTORE_ID,
        "source": "shop",
        "backup_id": "shop_daily_full_20250119T020000Z_3fa9c1",
        "manifest_sha256": "0" * 64,
        "snapshot_time": WHEN,
        "standing": "proven",
        "connection": "shop_restore",
        "server": "source",
        "address": "db.example:5432",
        "database": "shop",
        "beside": "shop_restored",
        "kept": "shop_old",
        "strategy": Strategy.SWAP,
        "production": True,
        "dry_run": False,
        "unproven": False,
        "with_roles": False,
        "requested_by": "al",
        "reason": "bad deploy",
        "created_at": WHEN,
        "target": TargetBefore(
            oid=1, fingerprint="shop", bytes=1, rows=2, sessions=3, slots=("s",), subscriptions=(), publications=()
        ),
        "backup_rows": 10,
        "backup_tables": 2,
        "archive_bytes": 100,
        "uncompressed_bytes": 200,
        "estimated_seconds": 60.0,
        "estimate_basis": "a test",
        "erased_subjects": (),
        "changes": (TableChange(table="public.orders", now=2, then=10),),
        "warnings": ("careful",),
    }
    return RestoreOrder(**{**values, **overrides})


def test_an_order_reads_back_as_it_was_written() -> None:
    written = order()
    assert from_json(RestoreOrder, written.to_json(), format_version=FORMAT_VERSION, name="order") == written
    question = written.question()
    store = MemoryStore({order_key(RESTORE_ID, question.seal): written.to_json()})
    assert read_order(store, RestoreOrder, RESTORE_ID, question.seal) == written
    for words in ("al", "PRODUCTION", "bad deploy", "public.orders", question.seal, "| warning | careful |"):
        assert words in question.text
    assert "| ends | nobody: one who is connected stops it |" in question.text
    assert "| ends | whoever is connected then |" in order(ends_sessions=True).question().text


def test_an_order_that_was_changed_after_it_was_shown_is_refused() -> None:
    seal = order().question().seal
    store = MemoryStore({order_key(RESTORE_ID, seal): order(database="other").to_json()})
    with pytest.raises(RestoreRefusedError, match="is not what was shown"):
        read_order(store, RestoreOrder, RESTORE_ID, seal)


@pytest.mark.parametrize("seal", ["", "x", "../" * 20, "0" * 63, "0" * 65, "A" * 64])
def test_a_seal_that_is_none_leads_nowhere(seal: str) -> None:
    store = MemoryStore({})
    with pytest.raises(ParameterError, match="is no seal"):
        read_order(store, RestoreOrder, RESTORE_ID, seal)


def test_every_change_of_an_order_changes_its_seal() -> None:
    first = order()
    others = [
        replace(first, database="b"),
        replace(first, backup_id="c"),
        replace(first, strategy=Strategy.IN_PLACE),
        replace(first, kept="d"),
        replace(first, target=None),
        replace(first, ends_sessions=True),
    ]
    assert len({item.question().seal for item in (first, *others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, True),
        ({"strategy": Strategy.IN_PLACE}, True),
        ({"strategy": Strategy.NEW}, False),
        ({"production": False}, False),
        ({"dry_run": True}, False),
    ],
)
def test_approval_is_needed_only_where_something_in_production_is_replaced(
    changes: dict[str, Any], needed: bool
) -> None:
    assert order(**changes).needs_approval is needed


def test_a_name_beside_is_never_longer_than_postgresql_keeps() -> None:
    name = name_beside("ä" * 40, "old", RESTORE_ID)
    assert len(name.encode()) <= 63
    assert name.endswith(f"_old_{RESTORE_ID}")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(how=Choosing.ID), "needs backup_id"),
        (Choice(how=Choosing.BEFORE), "needs before"),
        (Choice(how=Choosing.RELEASE), "needs release"),
        (Choice(how=Choosing.LATEST_PROVEN, backup_id="x"), "says two things"),
        (Choice(how=Choosing.ID, backup_id="x", release="1"), "giving release says two things"),
        (Choice(how=Choosing.BEFORE, before=WHEN, git_sha="0123abc"), "giving git_sha"),
        (Choice(how=Choosing.BEFORE, before=WHEN.replace(tzinfo=None)), "no time zone"),
        (Choice(how=Choosing.RELEASE, release="../x"), "is no release"),
        (Choice(how=Choosing.RELEASE, release="1", git_sha="HEAD"), "is no commit"),
    ],
)
def test_an_unclear_choice_is_refused_with_what_to_do(choice: Choice, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        choice.check()


def test_changes_show_what_is_gone_what_is_new_and_what_is_a_guess() -> None:
    manifest = make_manifest()
    (table,) = {f"{item.schema}.{item.table}" for item in manifest.table_data}
    now = {"public.newer": RowCount(rows=5, exact=True), table: RowCount(rows=7, exact=False)}
    changes = {change.table: change for change in table_changes(now, manifest)}
    assert changes["public.newer"] == TableChange(table="public.newer", now=5, then=None)
    assert (changes[table].now, changes[table].then, changes[table].estimated) == (7, manifest.rows, True)
    text = "\n".join(change_lines(list(changes.values())))
    assert "~7" in text
    assert "not there" in text


def test_the_estimate_grows_with_the_rows_as_measured() -> None:
    proof = make_proof(durations={"fetch": 1.0, "restore": 6.0, "compare": 3.0})
    manifest = make_manifest()
    found = by_rows(manifest, [proof])
    assert found is not None
    assert found.seconds == pytest.approx(10.0 / proof.rows * manifest.rows)
    assert by_rows(manifest, []) is None
