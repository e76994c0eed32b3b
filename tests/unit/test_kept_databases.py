"""Which of the databases that restores have left beside others may be dropped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import RestoreRefusedError, SourceUnreachableError
from include.backup.restore.kept import BESIDE, KEPT, KeptDatabase, kept_databases
from include.backup.restore.order import record_key
from include.backup.restore.survey import DatabaseFacts, obstacles
from include.backup.retention import databases
from include.backup.retention.databases import Fate, judge, plan_databases
from tests.support.memory_store import MemoryStore

RESTORED = datetime(2026, 5, 20, 10, tzinfo=UTC)
ONE = KeptDatabase(
    restore_id="20260520T100000Z_3fa9c1",
    source="shop",
    server="source",
    database="shop_old_20260520T100000Z_3fa9c1",
    oid=7,
    replaced_by="shop",
    what="replaced by a restore",
    drop_after=RESTORED + timedelta(days=7),
)
FACTS = DatabaseFacts(
    oid=7,
    name=ONE.database,
    owner="postgres",
    connection_limit=-1,
    allows_connections=False,
    is_template=False,
    comment=None,
    bytes=4096,
    system_identifier="1",
    grants=(),
    sessions=(),
    slots=(),
    subscriptions=(),
    prepared=(),
)
LATER = RESTORED + timedelta(hours=16)


@pytest.mark.parametrize(
    ("name", "facts", "held", "proven", "fate"),
    [
        (KEPT, FACTS, {}, LATER, Fate.DROPPED),
        (KEPT, None, {}, LATER, Fate.GONE),
        (KEPT, replace(FACTS, oid=8), {}, LATER, Fate.GONE),
        (KEPT, FACTS, {}, None, Fate.KEPT),
        (KEPT, FACTS, {}, RESTORED, Fate.KEPT),
        (BESIDE, FACTS, {}, None, Fate.DROPPED),
        (KEPT, replace(FACTS, sessions=("12 ann psql",)), {}, LATER, Fate.KEPT),
        (KEPT, FACTS, {"shop_safety_full_20260520T100000Z_3fa9c1": "held by ann"}, LATER, Fate.KEPT),
        (KEPT, FACTS, {"shop_daily_full_20260520T100000Z_3fa9c1": "held by ann"}, LATER, Fate.DROPPED),
    ],
)
def test_a_database_goes_only_when_nothing_speaks_for_it(
    name: str, facts: DatabaseFacts | None, held: dict[str, str], proven: datetime | None, fate: Fate
) -> None:
    assert judge(name, ONE, facts, held=held, newest_proven=proven).fate is fate


def test_a_record_that_is_no_restores_keeps_its_database() -> None:
    odd = replace(ONE, restore_id="yesterday")
    assert judge(KEPT, odd, FACTS, held={}, newest_proven=LATER).fate is Fate.KEPT


@pytest.mark.parametrize(
    ("error", "fate"), [(RestoreRefusedError("x"), Fate.KEPT), (SourceUnreachableError("x"), Fate.UNKNOWN)]
)
def test_only_servers_of_what_is_due_are_asked_and_what_they_refuse_stays(
    monkeypatch: pytest.MonkeyPatch, error: Exception, fate: Fate
) -> None:
    asked: list[str] = []

    def look(ctx: Any, kept: KeptDatabase) -> DatabaseFacts | None:
        asked.append(kept.restore_id)
        raise error

    monkeypatch.setattr(databases, "look_at", look)
    young = replace(ONE, restore_id="20260530T100000Z_000001", drop_after=RESTORED + timedelta(days=17))
    store = store_of(ONE, young)
    context: Any = object()
    found = plan_databases(
        lambda: context, store, "shop", held={}, newest_proven=lambda: LATER, now=RESTORED + timedelta(days=8)
    )
    assert [one.fate for one in found] == [fate, Fate.WITHIN]
    assert asked == [ONE.restore_id]


def test_records_of_other_sources_and_records_in_a_wrong_place_are_left_alone() -> None:
    moved = {record_key("20200101T000000Z_aaaaaa", KEPT): ONE.to_json(), record_key("x", BESIDE): b"{}"}
    store = store_of(replace(ONE, source="shop_two"), extra=moved)
    assert list(kept_databases(store, "shop")) == []
    store = store_of(ONE, extra=moved)
    assert list(kept_databases(store, "shop")) == [(KEPT, ONE)]
    dropped = {record_key(ONE.restore_id, f"dropped-{KEPT}"): ONE.to_json()}
    assert list(kept_databases(store_of(ONE, extra=dropped), "shop")) == []


def store_of(*records: KeptDatabase, extra: dict[str, bytes] | None = None) -> MemoryStore:
    return MemoryStore({**{record_key(one.restore_id, KEPT): one.to_json() for one in records}, **(extra or {})})


def test_what_happens_to_slots_and_subscriptions_is_said_as_it_is() -> None:
    busy = replace(FACTS, slots=("cdc",), subscriptions=("from_crm",))
    beside, in_place = " ".join(obstacles(busy)), " ".join(obstacles(busy, in_place=True))
    assert beside.count("stay with the old database") == 2
    assert "old database" not in in_place
    assert "cdc pass the whole restore on to their readers" in in_place
    assert list(obstacles(FACTS)) == []
