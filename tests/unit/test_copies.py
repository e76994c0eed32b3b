"""Whether Supabase's daily backup is there, and how many copies count: decisions, by tables of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from include.backup.copies.report import CopiesReport, StoreFacts, make_report, read_report, shown_path
from include.backup.supabase.daily import DailyCheck, DailyState, judge_daily
from include.backup.supabase.records import BackupStatus, PitrWindow, ProjectBackups, SupabaseBackup

NOW = datetime(2026, 6, 10, 12, 0, tzinfo=UTC)
TWO = time(2, 0, tzinfo=UTC)
GRACE = timedelta(hours=6)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def backups(*found: tuple[BackupStatus, timedelta], **overrides: Any) -> ProjectBackups:
    """Return backups by status and age, newest first."""
    values: dict[str, Any] = {"region": "eu-central-1", "pitr_enabled": False, "walg_enabled": True, "window": None}
    items = [
        SupabaseBackup(id=number, status=status, is_physical=True, inserted_at=NOW - age)
        for number, (status, age) in enumerate(sorted(found, key=lambda item: item[1]))
    ]
    return ProjectBackups(**{**values, "backups": tuple(items), **overrides})


COMPLETED, FAILED, PENDING = BackupStatus.COMPLETED, BackupStatus.FAILED, BackupStatus.PENDING
TODAY, YESTERDAY = NOW - datetime(2026, 6, 10, 2, 4, tzinfo=UTC), NOW - datetime(2026, 6, 9, 2, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (backups((COMPLETED, TODAY), (COMPLETED, YESTERDAY)), DailyState.COMPLETED),
        (backups((COMPLETED, TODAY + 20 * timedelta(minutes=1))), DailyState.COMPLETED),
        (backups((FAILED, TODAY), (COMPLETED, YESTERDAY)), DailyState.FAILED),
        (backups((COMPLETED, TODAY - HOUR), (FAILED, TODAY)), DailyState.COMPLETED),
        (backups((PENDING, TODAY), (COMPLETED, YESTERDAY)), DailyState.MISSING),
        (backups((BackupStatus.UNKNOWN, TODAY), (COMPLETED, YESTERDAY)), DailyState.MISSING),
        (backups((BackupStatus.REMOVED, TODAY)), DailyState.MISSING),
        (backups((COMPLETED, YESTERDAY)), DailyState.MISSING),
        (backups(), DailyState.MISSING),
        (backups(pitr_enabled=True), DailyState.MISSING),
    ],
)
def test_todays_backup_is_there_only_when_it_has_completed(found: ProjectBackups, state: DailyState) -> None:
    check = judge_daily(found, schedule=TWO, now=NOW, grace=GRACE)
    assert check.state is state, check.text
    assert check.needs_a_person is (state is not DailyState.COMPLETED)


@pytest.mark.parametrize(
    ("hour", "state"),
    [
        (1, DailyState.COMPLETED),  # yesterday's is the one that is due
        (3, DailyState.NOT_DUE),
        (7, DailyState.NOT_DUE),
        (8, DailyState.MISSING),
        (23, DailyState.MISSING),
    ],
)
def test_a_backup_has_its_hours_of_grace_before_it_is_missing(hour: int, state: DailyState) -> None:
    now = datetime(2026, 6, 10, hour, 0, tzinfo=UTC)
    check = judge_daily(backups((COMPLETED, YESTERDAY)), schedule=TWO, now=now, grace=GRACE)
    assert check.state is state, check.text


def test_two_days_without_a_backup_are_missing_whatever_the_hour() -> None:
    now = datetime(2026, 6, 10, 3, 0, tzinfo=UTC)
    check = judge_daily(backups((COMPLETED, YESTERDAY + DAY)), schedule=TWO, now=now, grace=GRACE)
    assert check.state is DailyState.MISSING
    assert "2026-06-08 02:04" in check.text


def test_without_a_schedule_a_backup_of_the_last_day_counts() -> None:
    assert judge_daily(backups((COMPLETED, 20 * HOUR)), schedule=None, now=NOW, grace=GRACE).good
    assert not judge_daily(backups((COMPLETED, 40 * HOUR)), schedule=None, now=NOW, grace=GRACE).good


@pytest.mark.parametrize(("hours", "state"), [(29, DailyState.PITR), (31, DailyState.MISSING)])
def test_point_in_time_recovery_replaces_daily_backups_while_its_window_moves(hours: int, state: DailyState) -> None:
    """A project that nobody writes to has a daily snapshot all the same, after which its window ends later."""
    window = PitrWindow(earliest=NOW - 7 * DAY, latest=NOW - hours * HOUR)
    check = judge_daily(backups(pitr_enabled=True, window=window), schedule=TWO, now=NOW, grace=GRACE)
    assert (check.state, check.newest, check.earliest) == (state, window.latest, window.earliest)
    assert ("ask Supabase's support" in check.text) is check.needs_a_person is (state is DailyState.MISSING)
    found = make_report(source="shop", at=NOW, production="PostgreSQL at Supabase", store=store(), supabase=check)
    assert found.met is not check.needs_a_person


def store(**overrides: Any) -> StoreFacts:
    values: dict[str, Any] = {
        "where": "s3://pulse-backups",
        "storage": "S3 (us-east-1)",
        "off_site": True,
        "newest_id": "b2",
        "newest": NOW - HOUR,
        "proven_id": "b2",
        "proven": NOW - HOUR,
        "proof": "restored and compared",
    }
    return StoreFacts(**{**values, **overrides})


def report(facts: StoreFacts | None = None, state: DailyState = DailyState.COMPLETED) -> CopiesReport:
    check = DailyCheck(state=state, text="words", newest=NOW - 10 * HOUR)
    return make_report(
        source="shop", at=NOW, production="PostgreSQL at Supabase", store=facts or store(), supabase=check
    )


def test_three_copies_on_two_kinds_of_storage_with_one_off_site_meet_the_rule() -> None:
    found = report()
    assert (found.counted, found.kinds, found.off_site, found.met) == (3, 2, 1, True)
    assert found.line() == "3-2-1 met: 3 of 3 copies, 2 of 2 kinds of storage, 1 of 1 off-site"
    assert all(copy.newest and copy.proof for copy in found.copies)


@pytest.mark.parametrize(
    ("found", "counts", "why"),
    [
        (report(state=DailyState.MISSING), (2, 2, 1), "missing: words"),
        (report(state=DailyState.NOT_ASKED), (2, 2, 1), "could not be asked: words"),
        (report(state=DailyState.NOT_HOSTED), (2, 2, 1), ""),
        (report(store(off_site=False)), (3, 2, 0), ""),
        (report(store(proven=None, proven_id=None)), (2, 1, 0), "is proven; the newest is b2"),
        (report(store(proven=NOW - 30 * HOUR)), (2, 1, 0), "is 30 h old (b2)"),
        (report(StoreFacts(where="s3://x", storage="S3", off_site=True)), (1, 1, 0), "s3://x holds no backup"),
    ],
)
def test_what_is_missing_old_or_unproven_does_not_count(
    found: CopiesReport, counts: tuple[int, int, int], why: str
) -> None:
    assert (found.counted, found.kinds, found.off_site) == counts
    assert not found.met
    assert "NOT met" in found.line()
    assert any(why in row[-1] for row in found.rows())


def test_a_source_that_is_not_on_supabase_has_no_copy_there_and_is_nobodys_alarm() -> None:
    found = report(state=DailyState.NOT_HOSTED)
    assert [copy.place.value for copy in found.copies] == ["production", "backup store"]
    assert not found.supabase.needs_a_person
    assert found.problems() == {}


def test_where_the_store_of_a_source_that_is_not_on_supabase_lies_is_an_alarm_and_its_age_is_not() -> None:
    """One backup a week, or a proof that takes an hour more than yesterday's, is what the policy says."""
    not_hosted = DailyState.NOT_HOSTED
    assert report(store(proven=NOW - 30 * HOUR), not_hosted).problems() == {}
    assert report(store(off_site=False), not_hosted).problems() == {"off-site": "0 of 1 off-site"}


def test_a_copy_that_gets_older_stays_the_same_problem() -> None:
    later = [report(store(proven=NOW - hours * HOUR)).problems() for hours in (30, 31)]
    assert [list(found) for found in later] == [["backup store"], ["backup store"]]
    assert later[0] != later[1]
    assert report(store(off_site=False)).problems() == {"off-site": "0 of 1 off-site"}
    assert report().problems() == {}


def test_a_project_and_supabases_backups_of_it_are_one_kind_of_storage() -> None:
    found = report(store(proven=None, proven_id=None))
    assert [copy.kind for copy in found.copies if copy.counts] == ["Supabase", "Supabase"]
    old = CopiesReport(
        source="shop", at=NOW, copies=tuple(replace(copy, kind="") for copy in found.copies), supabase=found.supabase
    )
    assert (found.kinds, old.kinds) == (1, 2)  # as it was counted, and stored, before


def test_a_stored_report_reads_back_as_it_was() -> None:
    found = report()
    assert read_report(found.to_json(), name="x") == found
    assert shown_path("shop", NOW) == "audit/shop/copies/20260610T120000Z.json"
