"""The ledger: exactly once, in one chain, and whatever is done to it shows."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.catalog import manifest_key
from include.backup.errors import EvidenceError
from include.backup.evidence import EventKind, Head, Ledger
from include.backup.evidence.check import check_ledger
from include.backup.evidence.crosscheck import crosscheck
from include.backup.evidence.record import receipts_prefix, record_key
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.store import Encryption
from tests.support.memory_store import MemoryStore
from tests.support.properties import given

NOW = datetime(2026, 5, 11, 2, tzinfo=UTC)
RECORDS = 12


def make_ledger(store: MemoryStore, source: str = "shop", since: datetime = NOW) -> Ledger:
    ticks = itertools.count()
    return Ledger(
        store,
        source=source,
        encryption=Encryption(algorithm=None),
        policy=EvidencePolicy(),
        clock=lambda: since + timedelta(seconds=next(ticks)),
    )


def filled(count: int = RECORDS, source: str = "shop") -> MemoryStore:
    store = MemoryStore({})
    ledger = make_ledger(store, source)
    for number in range(count):
        ledger.append(EventKind.BACKUP, subject=f"backup-{number}", actor="test", facts={"bytes": number})
    return store


def key(sequence: int) -> str:
    return record_key("shop", sequence)


def found(store: MemoryStore, **arguments: Any) -> str:
    return "; ".join(str(finding) for finding in check_ledger(store, "shop", **arguments).findings)


def without_receipts(store: MemoryStore) -> MemoryStore:
    kept = {name: body for name, body in store.objects.items() if not name.startswith(receipts_prefix("shop"))}
    return MemoryStore(kept)


def test_a_chain_as_it_was_written_is_intact() -> None:
    store = filled()
    check = check_ledger(store, "shop")
    assert check.intact
    assert not check.notes
    assert check.head == make_ledger(store).head()
    assert (check.head.sequence, check.kinds) == (RECORDS, {"backup": RECORDS})


def test_an_empty_ledger_is_intact() -> None:
    assert check_ledger(MemoryStore({}), "shop").intact


@pytest.mark.parametrize("sequence", range(1, RECORDS + 1))
def test_removing_any_record_is_detected(sequence: int) -> None:
    store = filled()
    del store.objects[key(sequence)]
    assert f"record {sequence}: is missing" in found(store)


@pytest.mark.parametrize("sequence", range(1, RECORDS + 1))
def test_changing_any_record_is_detected(sequence: int) -> None:
    store = filled()
    store.objects[key(sequence)] = store.objects[key(sequence)].replace(b'"bytes": ', b'"bytes": 1')
    assert f"record {sequence}: was changed" in found(store)


@pytest.mark.parametrize("sequence", range(1, RECORDS))
def test_changing_a_record_and_its_receipt_is_detected_by_the_next(sequence: int) -> None:
    store = without_receipts(filled())
    store.objects[key(sequence)] = store.objects[key(sequence)].replace(b'"bytes": ', b'"bytes": 1')
    assert f"record {sequence + 1}: does not follow record {sequence}" in found(store)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(1, RECORDS + 1), 2)))
def test_reordering_any_two_records_is_detected(one: int, other: int) -> None:
    store = without_receipts(filled())
    store.objects[key(one)], store.objects[key(other)] = store.objects[key(other)], store.objects[key(one)]
    assert f"record {one}: was written as number {other}" in found(store)


@pytest.mark.parametrize("left", range(RECORDS))
def test_a_tail_that_was_cut_off_with_its_receipts_is_detected_by_a_head_kept_elsewhere(left: int) -> None:
    store = filled()
    anchor = make_ledger(store).head()
    cut = MemoryStore({name: body for name, body in store.objects.items() if int(name.rpartition("/")[2][:10]) <= left})
    assert found(cut) == ""
    assert f"record {RECORDS}: is missing, and last month's audit saw it" in found(
        cut, anchors=[("last month's audit", anchor)]
    )


def test_a_chain_that_was_made_anew_is_detected_by_a_head_kept_elsewhere() -> None:
    anchor = make_ledger(filled()).head()
    assert "the chain was made anew" in found(filled(), anchors=[("a bundle", anchor)])


def test_a_record_of_another_source_and_a_foreign_object_are_detected() -> None:
    store = filled(1)
    store.objects[key(1)] = filled(1, "orders").objects[record_key("orders", 1)]
    store.objects["evidence/shop/records/notes.txt"] = b""
    assert "record 1: belongs to the ledger of orders" in found(store)
    assert "notes.txt is no record" in found(store)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format_version": 99}'])
def test_a_record_that_cannot_be_read_is_a_finding(content: bytes) -> None:
    store = filled(3)
    store.objects[key(2)] = content
    assert "record 2: cannot be read" in found(store)


def test_a_writer_that_ended_before_its_receipt_leaves_a_note() -> None:
    check = check_ledger(without_receipts(filled(2)), "shop")
    assert check.intact
    assert check.notes == ("record 2 has no receipt: its writer ended just then",)


def test_backups_of_a_source_whose_name_begins_in_the_same_way_are_no_findings() -> None:
    source = load_policy(SHIPPED_POLICY).source("pulse_messages")
    own, other = (f"{name}_daily_full_20260511T020000Z_3fa9c1" for name in (source.name, f"{source.name}_copy"))
    store = MemoryStore({manifest_key("daily", backup_id): b"{}" for backup_id in (own, other)})
    ledger = make_ledger(store, source.name, NOW - timedelta(days=1))
    ledger.append(EventKind.HOLD, subject="a backup", actor="test", facts={})
    findings = crosscheck(store, source, check_ledger(store, source.name))
    assert [finding.what for finding in findings] == [f"backup {own} is in the store and has no record"]


def test_an_event_with_a_name_is_recorded_once_however_often_it_is_retried() -> None:
    store = filled(0)
    first = make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="proof:p")
    make_ledger(store).append(EventKind.BACKUP, subject="b", actor="test", once="backup:b")
    again = make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="proof:p")
    assert (first.new, again.new) == (True, False)
    assert again.head == first.head
    assert check_ledger(store, "shop").kinds == {"proof": 1, "backup": 1}


def test_a_retry_records_what_a_try_that_died_behind_its_mark_had_not() -> None:
    store = filled(3)
    make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="proof:p")
    for name in [name for name in store.objects if name.rpartition("/")[2].startswith("0000000004")]:
        del store.objects[name]
    make_ledger(store).append(EventKind.BACKUP, subject="other", actor="test")
    again = make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="proof:p")
    assert (again.new, again.head.sequence) == (True, 5)
    assert check_ledger(store, "shop").intact


def test_a_damaged_mark_is_named() -> None:
    store = filled(0)
    make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="x")
    (mark,) = (name for name in store.objects if "/once/" in name)
    store.objects[mark] = b"{}"
    with pytest.raises(EvidenceError, match="is damaged"):
        make_ledger(store).append(EventKind.PROOF, subject="p", actor="test", once="x")


@given(count=st.integers(min_value=0, max_value=9000), gap=st.integers(min_value=1, max_value=9000))
def test_the_newest_record_is_found_also_when_one_is_missing(count: int, gap: int) -> None:
    objects = {key(number): b"" for number in range(1, count + 1) if number != gap or gap == count}
    assert make_ledger(MemoryStore(objects)).last_sequence() == count


def test_finding_the_head_of_a_hundred_thousand_records_takes_few_calls() -> None:
    store = SortedStore(100_000)
    assert make_ledger(store).last_sequence() == 100_000
    assert len(store.calls) < 25


class SortedStore(MemoryStore):
    """Lists records without holding them."""

    def __init__(self, count: int) -> None:
        super().__init__({})
        self.count = count

    def page(self, prefix: str, *, start_after: str, limit: int) -> tuple[str, ...]:
        self.calls.append(start_after)
        first = int(start_after[-15:-5]) + 1
        return tuple(key(number) for number in range(first, min(first + limit, self.count + 1)))


def test_what_a_head_looks_like_is_checked() -> None:
    assert str(Head.parse(f"7:{'a' * 64}")) == f"7:{'a' * 64}"
    for text in ("", "7", "x:" + "a" * 64, "7:" + "A" * 64, "7:" + "a" * 63):
        with pytest.raises(EvidenceError):
            Head.parse(text)


def test_a_record_says_who_what_and_when() -> None:
    store = filled(1)
    record = json.loads(store.objects[key(1)])
    assert record["recorded_at"] == "2026-05-11T02:00:00.000000Z"
    assert (record["actor"], record["subject"], record["facts"]) == ("test", "backup-0", {"bytes": 0})
