"""Holds: who, why, until when; recorded, released, and counting when in doubt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import HoldError, ParameterError, StoreDeniedError
from include.backup.evidence.check import check_ledger
from include.backup.holds import Hold, add_hold, held_backups, list_holds, parse_until, release_hold
from include.backup.in_use import backups_in_use, reading, stale_marks
from include.backup.store import Encryption
from tests.support.builders import BACKUP_ID, make_manifest
from tests.support.memory_store import MemoryStore
from tests.unit.test_evidence import make_ledger

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SOURCE = "pulse_messages"
PLAIN = Encryption(algorithm=None)


def hold(store: MemoryStore, **changes: Any) -> Hold:
    values = {"backup_id": BACKUP_ID, "reason": "court order 7/26", "set_by": "ann", "now": NOW, **changes}
    return add_hold(store, make_ledger(store, SOURCE), encryption=PLAIN, **values)


def release(store: MemoryStore, hold_id: str, reason: str = "case is closed") -> None:
    ledger = make_ledger(store, SOURCE)
    release_hold(
        store, ledger, encryption=PLAIN, hold_id=hold_id, reason=reason, released_by="bob", now=NOW + timedelta(days=1)
    )


def held(store: MemoryStore, now: datetime = NOW) -> dict[str, str]:
    return dict(held_backups(list_holds(store, SOURCE), now))


def test_a_held_backup_is_held_until_it_is_released_and_both_are_evidence() -> None:
    store = MemoryStore({})
    made = hold(store)
    assert held(store, NOW + timedelta(days=9999)) == {BACKUP_ID: "held by ann until released: court order 7/26"}
    release(store, made.hold_id)
    release(store, made.hold_id, "said twice")
    assert held(store) == {}
    (state,) = list_holds(store, SOURCE)
    assert state.release is not None
    assert (state.release.released_by, state.release.reason) == ("bob", "case is closed")
    assert check_ledger(store, SOURCE).once == {f"hold:{made.hold_id}", f"release:{made.hold_id}"}


def test_a_hold_ends_by_itself_at_its_time() -> None:
    store = MemoryStore({})
    hold(store, until=NOW + timedelta(days=3))
    assert held(store, NOW + timedelta(days=3) - timedelta(seconds=1))
    assert not held(store, NOW + timedelta(days=3))


def test_two_holds_of_a_backup_count_each() -> None:
    store = MemoryStore({})
    first = hold(store)
    hold(store, reason="an audit", set_by="eve")
    release(store, first.hold_id)
    assert held(store) == {BACKUP_ID: "held by eve until released: an audit"}


def test_a_retry_sets_no_second_hold() -> None:
    store = MemoryStore({})
    assert hold(store, hold_id="run-1") == hold(store, hold_id="run-1", now=NOW + timedelta(hours=1))
    assert len(list_holds(store, SOURCE)) == 1


def test_a_hold_is_never_taken_for_that_of_another_backup() -> None:
    store = MemoryStore({})
    other = BACKUP_ID.replace("_full_", "_attachments_")
    hold(store, hold_id="run-1")
    before = dict(store.objects)
    for content in (None, b"cannot be read"):
        if content:
            before[next(name for name in before if name.startswith("holds/"))] = content
        store.objects = dict(before)
        with pytest.raises(HoldError, match=f"hold run-1 is about {BACKUP_ID}"):
            hold(store, hold_id="run-1", backup_id=other)
        assert store.objects == before


def test_a_hold_that_cannot_be_read_counts_and_a_release_that_cannot_be_read_does_not() -> None:
    store = MemoryStore({})
    made = hold(store, until=NOW + timedelta(days=1))
    key = next(name for name in store.objects if name.startswith("holds/"))
    store.objects[key] = b"{}"
    assert "cannot be read" in held(store, NOW + timedelta(days=999))[BACKUP_ID]
    store.objects[key.replace(".hold.", ".released.")] = b"nonsense"
    assert BACKUP_ID in held(store)
    assert made.hold_id in key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reason": "  x "}, "says nothing"),
        ({"until": NOW}, "would have ended already"),
        ({"until": datetime(2027, 1, 1)}, "with its zone"),  # noqa: DTZ001 - what is refused
        ({"backup_id": BACKUP_ID.replace("pulse_messages", "other")}, "is no backup of pulse_messages"),
    ],
)
def test_a_hold_that_says_too_little_is_refused(changes: dict[str, Any], message: str) -> None:
    store = MemoryStore({})
    with pytest.raises(HoldError, match=message):
        hold(store, **changes)
    assert store.objects == {}


def test_what_is_no_hold_cannot_be_released() -> None:
    store = MemoryStore({})
    with pytest.raises(HoldError, match="has no hold nothing"):
        release(store, "nothing")
    made = hold(store)
    with pytest.raises(HoldError, match="says nothing"):
        release(store, made.hold_id, " ")


def test_times_are_read_with_their_zone_only() -> None:
    assert parse_until(None) is None
    assert parse_until("2027-01-31T00:00:00Z") == datetime(2027, 1, 31, tzinfo=UTC)
    for text in ("tomorrow", "2027-01-31"):
        with pytest.raises(ParameterError, match=r"write e\.g\."):
            parse_until(text)


def test_a_backup_that_is_read_is_in_use_and_let_go_afterwards() -> None:
    store, manifest = MemoryStore({}), make_manifest(backup_id=BACKUP_ID)
    with reading(store, manifest, what="a restore into x", clock=lambda: NOW):
        assert backups_in_use(store, SOURCE, NOW) == {BACKUP_ID: "being read by a restore into x"}
        # Its reader died without letting go: the time ends it.
        assert backups_in_use(store, SOURCE, NOW + timedelta(days=3)) == {}
        assert len(stale_marks(store, SOURCE, NOW + timedelta(days=3))) == 1
        assert stale_marks(store, SOURCE, NOW) == ()
    assert store.objects == {}


def test_a_mark_that_cannot_be_read_counts() -> None:
    store = MemoryStore({f"in_use/{SOURCE}/{BACKUP_ID}/x.json": b""})
    assert backups_in_use(store, SOURCE, NOW) == {BACKUP_ID: "being read by somebody"}


def test_whoever_may_only_read_can_read_all_the_same() -> None:
    class ReadOnly(MemoryStore):
        def put_if_absent(self, key: str, body: bytes, **arguments: Any) -> bool:
            raise StoreDeniedError("no")

    store = ReadOnly({})
    with reading(store, make_manifest(), what="x"):
        pass
    assert store.objects == {}
