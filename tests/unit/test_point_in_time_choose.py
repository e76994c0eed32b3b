"""Which base backup a recovery begins with, and what is refused before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.base.stored import StoredBase
from include.backup.errors import (
    BackupMissingError,
    ParameterError,
    TargetOutsideWindowError,
    TimelineMissingError,
    WalSegmentMissingError,
)
from include.backup.inventory import Standing
from include.backup.point_in_time.choose import Stored, Wanted, choose
from include.backup.point_in_time.target import RecoveryTarget
from include.backup.wal.chain import Chain, Reach, Span
from include.backup.wal.history import History, Switch
from include.backup.wal.lsn import format_lsn
from tests.support.bases import make_stored_base

SIZE = 16 << 20
START = datetime(2026, 5, 1, tzinfo=UTC)
UNTIL = START + timedelta(days=10)


def base(day: int, segment: int, **overrides: object) -> StoredBase:
    """Return a base backup that ended on a day, in a segment."""
    return make_stored_base(
        START + timedelta(days=day),
        start_lsn=format_lsn(segment * SIZE + 0x28),
        stop_lsn=format_lsn(segment * SIZE + 0x120),
        **overrides,
    )


def stored(
    *bases: StoredBase,
    spans: Mapping[int, tuple[Span, ...]] | None = None,
    histories: Mapping[int, History] | None = None,
    until: datetime = UNTIL,
) -> Stored:
    chain = Chain(size=SIZE, spans=spans or {1: (Span(first=1, last=100),)}, histories=histories or {})

    def stored_until(reach: Reach) -> datetime | None:
        return until

    return Stored(system_identifier="7401", bases=bases, chain=chain, until=stored_until)


def to(kind: str, value: str | None = None, **wanted: object) -> Wanted:
    return Wanted(target=RecoveryTarget.parse(kind, value), **wanted)  # type: ignore[arg-type]


def at(day: float) -> str:
    return (START + timedelta(days=day)).isoformat()


FIRST, SECOND = base(1, 10), base(5, 50)


def test_the_newest_base_backup_before_a_time_is_chosen() -> None:
    assert choose(stored(FIRST, SECOND), to("time", at(4.9))).base == FIRST
    assert choose(stored(FIRST, SECOND), to("time", at(5.1))).base == SECOND
    assert choose(stored(FIRST, SECOND), to("latest")).base == SECOND


def test_a_base_backup_is_no_good_for_a_time_within_its_making() -> None:
    """It is consistent only once it has ended."""
    assert choose(stored(FIRST, SECOND), to("time", at(5 - 0.001))).base == FIRST


def test_the_newest_base_backup_before_a_position_is_chosen() -> None:
    assert choose(stored(FIRST, SECOND), to("lsn", format_lsn(50 * SIZE + 0x100))).base == FIRST
    assert choose(stored(FIRST, SECOND), to("lsn", format_lsn(50 * SIZE + 0x120))).base == SECOND


@pytest.mark.parametrize(("kind", "value"), [("xid", "1234"), ("name", "before the deploy")])
def test_for_what_has_no_place_in_the_log_the_oldest_is_chosen(kind: str, value: str) -> None:
    assert choose(stored(FIRST, SECOND), to(kind, value)).base == FIRST


def test_an_incremental_one_comes_with_what_it_builds_on() -> None:
    second = base(2, 20, parent=FIRST.backup_id)
    third = base(3, 30, parent=second.backup_id)
    assert choose(stored(FIRST, second, third), to("time", at(4))).bases == (FIRST, second, third)


def test_one_whose_parent_is_gone_is_passed_over() -> None:
    orphan = base(6, 60, parent="pulse_messages_incremental_base_20260101T000000Z_000000")
    assert choose(stored(FIRST, SECOND, orphan), to("latest")).base == SECOND
    with pytest.raises(BackupMissingError, match=r"which .* builds on, is not in the store"):
        choose(stored(FIRST, orphan), to("latest", base=orphan.backup_id))


@pytest.mark.parametrize("target", [("time", at(0.5)), ("time", at(10.5)), ("lsn", "0/100"), ("lsn", "FF/0")])
def test_a_target_outside_the_window_is_refused_with_the_window(target: tuple[str, str]) -> None:
    window = r"2026-05-02 00:00:00 to 2026-05-11 00:00:00 UTC, LSN 0/A000120 to 0/65000000, timeline 1"
    with pytest.raises(TargetOutsideWindowError, match=window):
        choose(stored(FIRST, SECOND), to(*target))


def test_a_hole_after_the_base_backup_ends_its_window_and_is_named() -> None:
    holed = {1: (Span(first=10, last=19), Span(first=21, last=30))}
    with pytest.raises(WalSegmentMissingError, match="000000010000000000000014 is missing, though later ones"):
        choose(stored(FIRST, spans=holed), to("lsn", format_lsn(25 * SIZE)))
    assert choose(stored(FIRST, spans=holed), to("lsn", format_lsn(15 * SIZE))).base == FIRST


def test_the_end_of_a_log_with_a_hole_in_it_is_there_and_a_base_backup_behind_it_is_better() -> None:
    holed = {1: (Span(first=10, last=19), Span(first=21, last=60))}
    before = choose(stored(FIRST, spans=holed), to("latest"))
    assert (before.ends_at, before.reach.end) == ("000000010000000000000014", 20 * SIZE)
    assert choose(stored(FIRST, spans=holed), to("lsn", format_lsn(15 * SIZE))).ends_at is None
    behind = choose(stored(FIRST, SECOND, spans=holed), to("latest"))
    assert (behind.base, behind.ends_at) == (SECOND, None)
    # Also where the log goes on in another timeline; not where it just ends, or was left for another timeline.
    switch = History(timeline=2, ancestors=(Switch(timeline=1, lsn=30 * SIZE),))
    spans = {1: (Span(first=10, last=19),), 2: (Span(first=30, last=40),)}
    assert choose(stored(FIRST, spans=spans, histories={2: switch}), to("latest")).ends_at is not None
    spans = {1: (Span(first=10, last=50),), 2: (Span(first=30, last=40),)}
    assert choose(stored(FIRST, spans=spans, histories={2: switch}), to("latest")).ends_at is None


def test_a_base_backup_whose_own_wal_is_missing_is_passed_over() -> None:
    late = {1: (Span(first=10, last=49), Span(first=51, last=60))}
    assert choose(stored(FIRST, SECOND, spans=late), to("time", at(2))).base == FIRST
    with pytest.raises(WalSegmentMissingError, match="000000010000000000000032 is not stored"):
        choose(stored(SECOND, spans=late), to("latest"))


def test_a_later_timeline_is_followed_and_another_can_be_asked_for() -> None:
    switch = History(timeline=2, ancestors=(Switch(timeline=1, lsn=60 * SIZE),))
    spans = {1: (Span(first=1, last=70),), 2: (Span(first=60, last=80),)}
    found = stored(FIRST, SECOND, spans=spans, histories={2: switch})
    assert choose(found, to("latest")).history.timeline == 2
    assert choose(found, to("latest", timeline=1)).reach.end == 71 * SIZE
    with pytest.raises(TimelineMissingError, match="to timeline 3; from there the store has 1, 2"):
        choose(found, to("latest", timeline=3))


def test_an_unproven_one_needs_an_explicit_yes() -> None:
    unproven = replace(SECOND, standing=Standing.UNPROVEN)
    assert choose(stored(FIRST, unproven), to("latest")).base == FIRST
    assert choose(stored(FIRST, unproven), to("latest", unproven=True)).base == unproven
    with pytest.raises(BackupMissingError, match="are not proven"):
        choose(stored(unproven), to("latest"))
    with pytest.raises(BackupMissingError, match="is not proven"):
        choose(stored(FIRST, unproven), to("latest", base=unproven.backup_id))


def test_a_base_backup_can_be_named() -> None:
    assert choose(stored(FIRST, SECOND), to("latest", base=FIRST.backup_id)).base == FIRST
    with pytest.raises(ParameterError, match="there are"):
        choose(stored(FIRST), to("latest", base="pulse_messages_incremental_base_20200101T000000Z_000000"))
    with pytest.raises(TargetOutsideWindowError, match="lies before"):
        choose(stored(FIRST, SECOND), to("time", at(2), base=SECOND.backup_id))


def test_without_a_base_backup_there_is_nothing_to_recover_from() -> None:
    with pytest.raises(BackupMissingError, match="run base_backup"):
        choose(stored(), to("latest"))


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("time", "2025-01-19T14:30:00", "no time zone"),
        ("time", "half past two", "is no time"),
        ("time", None, "needs its value"),
        ("lsn", "16-B374", "is no LSN"),
        ("xid", "0", "is no transaction id"),
        ("xid", "-5", "is no transaction id"),
        ("xid", "4294967296", "is no transaction id"),
        ("name", "x" * 64, "at most 63 bytes"),
        ("name", "a\tb", "no name of a restore point"),
        ("latest", "now", "takes no value"),
        ("tomorrow", "x", "allowed: time, lsn"),
    ],
)
def test_a_bad_target_is_refused_with_what_is_allowed(kind: str, value: str | None, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        RecoveryTarget.parse(kind, value)
