"""What a run finds: every way in which a chain breaks is noticed, by what is there and not by what is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import ManifestError, WalBrokenError, WalRefusedError
from include.backup.wal.assess import Assessment, Break, Found, assess, state_of, wanted_base
from include.backup.wal.keys import run_key
from include.backup.wal.lsn import format_lsn
from include.backup.wal.record import (
    RunRecord,
    State,
    newest_record,
    read_record,
    recorded_sources,
    records_backwards,
    records_since,
)
from include.backup.wal.release import left_sources
from include.backup.wal.reporting import check_whole
from include.backup.wal.server import WalServer, check_can_stream
from include.backup.wal.slots import Slot, WalStatus
from include.backup.wal.window import BasePoint
from tests.support.memory_store import MemoryStore

SIZE = 16 << 20
LIMIT = 4 << 30
NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)
STORED_END = 20 * SIZE


def make_record(**overrides: Any) -> RunRecord:
    values: dict[str, Any] = {
        "source": "shop",
        "run_id": "r1",
        "run_after": NOON,
        "finished_at": NOON,
        "system_identifier": "7401",
        "timeline": 1,
        "segment_size": SIZE,
        "server_version": "17.10",
        "state": State.OK,
        "chain_start": format_lsn(3 * SIZE + 40),
        "start_lsn": format_lsn(19 * SIZE),
        "end_lsn": format_lsn(STORED_END),
        "partial_lsn": None,
        "mark_lsn": format_lsn(STORED_END - 500),
        "mark_time": NOON,
        "segments": 1,
        "content_bytes": SIZE,
        "stored_bytes": 1000,
        "slot_lag_bytes": 0,
        "hold_slot": "shop_hold",
        "run_slot": "shop_run",
        "connection": "shop_db",
        "base_wanted": None,
    }
    return RunRecord(**{**values, **overrides})


def make_server(**overrides: Any) -> WalServer:
    values: dict[str, Any] = {
        "version": "17.10",
        "major": 17,
        "in_recovery": False,
        "wal_level": "replica",
        "max_wal_senders": 10,
        "max_replication_slots": 10,
        "segment_size": SIZE,
        "max_slot_bytes": LIMIT,
        "may_replicate": True,
        "may_switch": True,
        "flush_lsn": 21 * SIZE,
    }
    return WalServer(**{**values, **overrides})


def make_slot(**overrides: Any) -> Slot:
    values: dict[str, Any] = {
        "name": "shop_hold",
        "restart_lsn": STORED_END,
        "wal_status": WalStatus.RESERVED,
        "active_pid": None,
        "safe_bytes": LIMIT,
    }
    return Slot(**{**values, **overrides})


def assessed(**overrides: Any) -> Assessment:
    values: dict[str, Any] = {
        "last": make_record(),
        "system_identifier": "7401",
        "timeline": 1,
        "server": make_server(),
        "before": make_slot(),
        "hold": STORED_END,
        "stored_end": STORED_END,
    }
    return assess(Found(**{**values, **overrides}), hold_slot="shop_hold", max_slot_bytes=LIMIT)


def kinds(assessment: Assessment) -> list[Break]:
    return [kind for kind, _ in assessment.breaks]


def test_a_slot_that_begins_where_the_store_ends_is_whole() -> None:
    found = assessed()
    assert (found.breaks, found.alarms, found.warnings) == ((), (), ())
    assert found.chain_start == 3 * SIZE + 40


def test_the_first_run_of_a_source_breaks_nothing_and_begins_the_chain() -> None:
    found = assessed(last=None, before=None, stored_end=0)
    assert found.breaks == ()
    assert found.chain_start == STORED_END


def test_a_source_that_comes_back_after_it_was_released_breaks_nothing() -> None:
    found = assessed(last=make_record(state=State.RELEASED), before=None, hold=40 * SIZE)
    assert found.breaks == ()
    assert found.chain_start == 40 * SIZE


@pytest.mark.parametrize(
    ("overrides", "expected", "words"),
    [
        ({"hold": STORED_END + SIZE}, [Break.GAP], "is neither stored nor kept by the source"),
        ({"before": None}, [Break.SLOT_MISSING], "somebody dropped it, or a failover left it behind"),
        ({"before": make_slot(wal_status=WalStatus.LOST)}, [Break.SLOT_LOST], "max_slot_wal_keep_size"),
        ({"before": make_slot(restart_lsn=None)}, [Break.SLOT_LOST], "was lost"),
        ({"system_identifier": "7402", "hold": 5}, [Break.IDENTIFIER_CHANGED], "another cluster now"),
        ({"timeline": 2}, [Break.TIMELINE_SWITCHED], "timeline 2 instead of 1: a standby was promoted"),
        (
            {"before": None, "hold": STORED_END + SIZE, "timeline": 3},
            [Break.TIMELINE_SWITCHED, Break.SLOT_MISSING, Break.GAP],
            "timeline 3",
        ),
    ],
)
def test_each_break_is_named_and_asks_for_a_base_backup(
    overrides: dict[str, Any], expected: list[Break], words: str
) -> None:
    found = assessed(**overrides)
    assert kinds(found) == expected
    assert words in " ".join(found.broken)
    newer = BasePoint(backup_id="b", timeline=1, start=50 * SIZE, end=51 * SIZE, finished_at=NOON, proven=True)
    assert wanted_base(found, [newer]) == found.broken[0]


def test_only_what_a_recovery_may_not_cross_begins_a_new_chain() -> None:
    assert assessed(before=None).chain_start == 3 * SIZE + 40
    assert assessed(timeline=2).chain_start == STORED_END
    assert assessed(hold=STORED_END + SIZE + 9).chain_start == STORED_END + SIZE
    assert assessed(system_identifier="7402").chain_start == STORED_END


def test_a_slot_that_begins_inside_the_segment_after_the_stored_end_is_whole() -> None:
    assert assessed(hold=STORED_END + SIZE - 1).breaks == ()


def test_a_base_backup_is_wanted_until_one_began_inside_the_chain() -> None:
    def base(start: int) -> BasePoint:
        return BasePoint(backup_id="b", timeline=1, start=start, end=start + 9, finished_at=NOON, proven=False)

    found = assessed()
    assert wanted_base(found, []) is not None
    assert wanted_base(found, [base(2 * SIZE)]) is not None
    assert wanted_base(found, [base(2 * SIZE), base(4 * SIZE)]) is None


def test_after_a_failover_a_base_backup_is_wanted_until_one_of_the_new_timeline_is_there() -> None:
    """What the old primary had sent beyond the fork leads to no recovery on the new timeline, whatever its LSNs say."""
    old = BasePoint(backup_id="b", timeline=1, start=19 * SIZE, end=20 * SIZE, finished_at=NOON, proven=True)
    hold = 18 * SIZE
    switched = assessed(before=None, timeline=2, hold=hold)
    assert Break.GAP not in kinds(switched)
    next_run = assessed(
        last=make_record(timeline=2, chain_start=format_lsn(switched.chain_start)), timeline=2, hold=STORED_END
    )
    assert (next_run.breaks, next_run.chain_start) == ((), hold)
    assert "no base backup of timeline 2" in str(wanted_base(next_run, [old]))
    assert wanted_base(next_run, [old, replace(old, timeline=2)]) is None


def test_a_limit_that_is_unset_or_another_one_is_warned_of() -> None:
    (unset,) = assessed(server=make_server(max_slot_bytes=None)).warnings
    assert "ALTER SYSTEM SET max_slot_wal_keep_size = '4096MB'" in unset
    (other,) = assessed(server=make_server(max_slot_bytes=LIMIT // 2)).warnings
    assert "is 2048 MiB and the policy's max_slot_mib 4096" in other


def test_a_slot_that_keeps_more_than_half_of_its_limit_is_warned_of() -> None:
    at = STORED_END + LIMIT // 2
    assert assessed(server=make_server(flush_lsn=at)).warnings == ()
    (warning,) = assessed(server=make_server(flush_lsn=at + 1)).warnings
    assert "keeps 2048 MiB of the 4096 MiB" in warning


def test_an_unreserved_slot_is_an_alarm_and_no_break() -> None:
    found = assessed(before=make_slot(wal_status=WalStatus.UNRESERVED))
    assert found.breaks == ()
    assert "next checkpoint would have removed WAL" in found.alarms[0]


@pytest.mark.parametrize(
    ("fields", "caught_up", "state"),
    [
        ({"broken": ("x",), "base_wanted": "x", "warnings": ("x",)}, False, State.BROKEN),
        ({"base_wanted": "x", "warnings": ("x",)}, False, State.NO_BASE),
        ({"warnings": ("x",)}, False, State.BEHIND),
        ({"warnings": ("x",)}, True, State.WARNING),
        ({"alarms": ("x",)}, True, State.WARNING),
        ({}, True, State.OK),
    ],
)
def test_the_worst_decides_the_state(fields: dict[str, Any], caught_up: bool, state: State) -> None:
    assert state_of(make_record(**fields), caught_up=caught_up) is state


def test_a_run_that_found_a_break_or_an_alarm_fails_and_says_whether_something_is_lost() -> None:
    check_whole(make_record())
    with pytest.raises(WalBrokenError, match=r"gone; gap\. This run began a new chain, and a base backup is taken"):
        check_whole(make_record(broken=("gone", "gap")))
    with pytest.raises(WalBrokenError, match=r"unreserved\. Nothing is lost"):
        check_whole(make_record(alarms=("unreserved",)))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"may_replicate": False}, "ALTER ROLE pulse_backup REPLICATION"),
        ({"wal_level": "minimal"}, "set it to replica"),
        ({"in_recovery": True}, "is a standby"),
        ({"max_wal_senders": 1}, "max_wal_senders is 1"),
        ({"max_replication_slots": 1}, "max_replication_slots is 1"),
        ({"major": 14, "version": "14.1"}, "15 and newer do"),
    ],
)
def test_what_keeps_a_role_from_streaming_is_named_with_what_to_do(overrides: dict[str, Any], words: str) -> None:
    check_can_stream(make_server(), role="pulse_backup")
    with pytest.raises(WalRefusedError, match=words):
        check_can_stream(make_server(**overrides), role="pulse_backup")


# --- records -----------------------------------------------------------------------------------------


class CountingStore(MemoryStore):
    """Counts requests."""

    requests = 0

    def list(self, prefix: str, *, start_after: str = "") -> Any:
        self.requests += 1
        return super().list(prefix, start_after=start_after)

    def folders(self, prefix: str) -> Any:
        self.requests += 1
        return super().folders(prefix)

    def get(self, key: str) -> bytes:
        self.requests += 1
        return super().get(key)


def stored_records(*times: datetime, **fields: Any) -> dict[str, bytes]:
    return {
        run_key(fields.get("source", "shop"), time, "0123ab"): make_record(run_after=time, **fields).to_json()
        for time in times
    }


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_named() -> None:
    record = make_record(broken=("x",), partial_lsn="0/3000140")
    assert read_record(record.to_json(), name="x") == record
    with pytest.raises(ManifestError, match="incremental/runs/x"):
        read_record(b"{", name="incremental/runs/x")


def test_the_newest_of_many_records_is_found_in_five_requests() -> None:
    times = [NOON.replace(year=year, month=month, day=day) for year in (2024, 2025, 2026) for month in (1, 12)
             for day in range(1, 28)]  # fmt: skip
    store = CountingStore(stored_records(*times))
    newest = newest_record(store, "shop")
    assert newest is not None
    assert newest.run_after == max(times)
    assert store.requests == 5
    assert newest_record(store, "nobody") is None


def test_of_the_records_of_one_second_the_newest_is_the_one_that_ended_last() -> None:
    """Their keys tell no more than the second, and a release may be written right after a run."""
    keys = {run_key("shop", NOON, run): run for run in ("ffffff", "000001", "aaaaaa")}
    ends = {"ffffff": 1, "000001": 3, "aaaaaa": 2}
    objects = {
        key: make_record(run_id=run, finished_at=NOON + timedelta(milliseconds=ends[run])).to_json()
        for key, run in keys.items()
    }
    before = stored_records(NOON - timedelta(seconds=1))
    found = list(records_backwards(MemoryStore({**objects, **before}), "shop"))
    assert [record.run_id for record in found] == ["000001", "aaaaaa", "ffffff", "r1"]


def test_records_are_read_back_to_a_time_and_no_further() -> None:
    times = [NOON.replace(day=day) for day in range(1, 28)]
    store = CountingStore(stored_records(*times))
    found = records_since(store, "shop", NOON.replace(day=25))
    assert [record.run_after.day for record in found] == [27, 26, 25]
    assert store.requests < 15


def test_a_source_that_left_the_policy_is_reported_until_its_slots_are_removed() -> None:
    store = MemoryStore(
        {
            **stored_records(NOON),
            **stored_records(NOON, source="old", hold_slot="old_hold"),
            **stored_records(NOON, source="gone", state=State.RELEASED),
        }
    )
    assert recorded_sources(store) == ("gone", "old", "shop")
    (left,) = left_sources(store, kept={"shop"})
    assert left.source == "old"
    assert "old_hold" in left.line()
    assert "wal old --drop-slots" in left.line()
