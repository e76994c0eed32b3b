"""Which backup is meant by "latest proven" and "latest before", where only some tables are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.backup_id import make_backup_id
from include.backup.catalog import Catalog, archive_key, manifest_key
from include.backup.errors import BackupMissingError, ObjectColdError, ParameterError
from include.backup.manifest import SnapshotFacts, fingerprint
from include.backup.proof.record import Result
from include.backup.restore import choice as choosing
from include.backup.restore.choice import Choice, choose
from include.backup.restore.thaw import Thawing
from include.backup.restore.words import Choosing
from tests.support.builders import make_archive, make_dump, make_manifest, make_member, make_proof, make_table
from tests.support.memory_store import MemoryStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIZE = 20480
USERS, MESSAGES, EVENTS = "public.users", "public.messages", "public.events"


@dataclass
class Stored:
    """A store with backups of some tables each; ``tables_of_contents`` are asked of full ones only."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore({}))
    asked: list[str] = field(default_factory=list)
    partitioned: dict[str, set[str]] = field(default_factory=dict)
    cold: set[str] = field(default_factory=set)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.store, source="shop", prefixes=("daily/", "tables/", "safety/"))

    def add(self, hours: float, *tables: str, kind: str = "full", proven: bool = True, tier: str = "") -> str:
        taken = NOON - timedelta(hours=hours)
        tier = tier or ("daily" if kind == "full" else "hourly")
        prefix = {"daily": "daily", "hourly": "tables", "safety": "safety"}[tier]
        backup_id = make_backup_id(
            source="shop", tier=tier, kind=kind, run_after=taken, dag_id="d", run_id=f"{hours}{kind}"
        )
        members = tuple(
            make_member(
                f"dump/{index}.dat",
                offset=512 * index,
                length=9,
                table_data=make_table(schema=schema, table=table, dump_id=index),
            )
            for index, (schema, table) in enumerate((name.split(".") for name in tables), start=10)
        )
        content = make_manifest(
            backup_id=backup_id,
            source="shop",
            tier=tier,
            kind=kind,
            members=members,
            dump=make_dump(snapshot=SnapshotFacts(time=taken, lsn_before="0/1", lsn_after="0/2")),
            archive=make_archive(key=archive_key(prefix, backup_id), size=SIZE),
        ).to_json()
        self.store.objects |= {archive_key(prefix, backup_id): bytes(SIZE), manifest_key(prefix, backup_id): content}
        if proven:
            proof = make_proof(backup_id=backup_id, manifest_sha256=fingerprint(content), result=Result.PASSED)
            self.store.objects[f"proofs/{backup_id}/{proof.proof_id}.json"] = proof.to_json()
        return backup_id

    def choose(
        self, *tables: str, how: Choosing = Choosing.LATEST_PROVEN, unproven: bool = False, **values: Any
    ) -> str:
        return choose(self.catalog, "shop", Choice(how=how, tables=tables, **values), unproven=unproven)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Tables of contents are replaced: which tables an archive has besides those that the manifest shows.

    So is what the store says of thaws.
    """
    made = Stored()

    class Reader:
        def __init__(self, store: Any, manifest: Any) -> None:
            self.backup_id = manifest.backup_id

        def read(self, name: str) -> str:
            made.asked.append(self.backup_id)
            if self.backup_id in made.cold:
                raise ObjectColdError("it lies in Glacier")
            return self.backup_id

    def tables_in(toc: str, manifest: Any, names: tuple[str, ...]) -> None:
        if not set(names) <= made.partitioned.get(toc, set()):
            raise ParameterError("there is no such table")

    def state(store: Any, manifest: Any) -> tuple[Thawing, str]:
        cold = manifest.backup_id in made.cold
        return (Thawing.FROZEN, "GLACIER") if cold else (Thawing.READABLE, "STANDARD")

    monkeypatch.setattr(choosing, "thaw_state", state)
    monkeypatch.setattr(choosing, "ArchiveReader", Reader)
    monkeypatch.setattr(choosing, "read_toc", lambda content: content)
    monkeypatch.setattr(choosing, "choose_tables", tables_in)
    return made


def test_an_hour_old_archive_of_the_table_is_newer_than_last_nights_full_one(stored: Stored) -> None:
    full, hourly = stored.add(10, USERS, MESSAGES), stored.add(1, USERS, MESSAGES, kind="tables")
    assert stored.choose(MESSAGES) == stored.choose(MESSAGES, USERS) == stored.choose("messages") == hourly
    assert stored.choose() == full
    before = {"how": Choosing.BEFORE, "before": NOON - timedelta(hours=2)}
    assert stored.choose(MESSAGES, **before) == full
    assert stored.asked == []


def test_all_tables_have_to_be_in_it(stored: Stored) -> None:
    full = stored.add(10, USERS, MESSAGES, EVENTS)
    stored.add(1, USERS, MESSAGES, kind="tables")
    assert stored.choose(MESSAGES, EVENTS) == full
    assert stored.asked == []


def test_an_unproven_one_and_what_a_restore_has_replaced_do_not_count(stored: Stored) -> None:
    full = stored.add(10, MESSAGES)
    young = stored.add(1, MESSAGES, kind="tables", proven=False)
    stored.add(0.5, MESSAGES, kind="tables", tier="safety")
    assert stored.choose(MESSAGES) == full
    assert stored.choose(MESSAGES, how=Choosing.BEFORE, before=NOON, unproven=True) == young


def test_a_table_that_is_gone_is_found_in_the_newest_archive_that_had_it(stored: Stored) -> None:
    had = stored.add(34, MESSAGES, EVENTS)
    newer = stored.add(10, MESSAGES)
    assert stored.choose(EVENTS) == had
    assert stored.asked == [newer]


def test_a_partitioned_table_is_asked_for_in_the_table_of_contents_and_no_older_archive_is_taken(
    stored: Stored,
) -> None:
    """Years ago it was a plain table, of which that archive has an entry of its own."""
    stored.add(999, EVENTS)
    newest = stored.add(10, "public.events_2026")
    stored.partitioned[newest] = {EVENTS}
    assert stored.choose(EVENTS) == newest


def test_what_cannot_be_read_at_once_is_passed_over(stored: Stored) -> None:
    readable = stored.add(34, EVENTS)
    stored.cold.add(stored.add(10, "public.events_2026"))
    assert stored.choose(EVENTS) == readable


def test_last_nights_backup_is_read_at_once_while_a_newer_one_lies_in_glacier_and_that_is_said(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the first of each month, from the archive's proof until the next night."""
    night, archive = stored.add(10, MESSAGES), stored.add(8, MESSAGES)
    stored.cold.add(archive)
    assert stored.choose() == night
    assert f"the data of {archive} is 2.0 hours newer, but lies in GLACIER" in caplog.text
    assert stored.choose(how=Choosing.BEFORE, before=NOON) == archive


@pytest.mark.parametrize("hours", [33, None], ids=["more than a day older", "none"])
def test_a_newer_one_in_glacier_is_waited_for_where_no_other_is_as_good(stored: Stored, hours: float | None) -> None:
    if hours is not None:
        stored.add(hours, MESSAGES)
    archive = stored.add(8, MESSAGES)
    stored.cold.add(archive)
    assert stored.choose() == archive


def test_a_table_that_none_has_is_named(stored: Stored) -> None:
    stored.add(10, USERS)
    # By the newest full archive, which knows the names that are near.
    with pytest.raises(ParameterError, match="there is no such table"):
        stored.choose(EVENTS)


def test_without_a_full_archive_to_ask_the_tables_are_named(stored: Stored) -> None:
    stored.cold.add(stored.add(10, USERS))
    stored.add(9, USERS, kind="tables")
    stored.add(8, USERS, proven=False)
    with pytest.raises(BackupMissingError, match=r"shop has no proven backup of public\.events"):
        stored.choose(EVENTS)


def test_who_wants_an_older_one_than_there_is_is_told_of_the_oldest_that_will_do(stored: Stored) -> None:
    stored.add(30, USERS, proven=False)
    stored.add(20, USERS)
    stored.add(10, USERS)
    early = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(BackupMissingError) as refused:
        stored.choose(how=Choosing.BEFORE, before=early)
    assert "shop has no proven full backup of 2026-01-01T00:00:00Z or earlier" in str(refused.value)
    assert f"the oldest one's data is of {NOON - timedelta(hours=20):%Y-%m-%dT%H:%M:%SZ}" in str(refused.value)
