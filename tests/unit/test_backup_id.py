"""Backup ids: stable, safe and readable back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import strategies as st

from include.backup.backup_id import KINDS, SOURCE_NAME, TIERS, make_backup_id, parse_backup_id
from include.backup.errors import ParameterError
from tests.support.properties import given

DUE = datetime(2025, 1, 19, 2, 0, 0, tzinfo=UTC)


def make(**overrides: object) -> str:
    values: dict[str, object] = {
        "source": "pulse_messages",
        "tier": "daily",
        "kind": "full",
        "run_after": DUE,
        "dag_id": "pulse_messages.daily_backup",
        "run_id": "scheduled__2025-01-19T02:00:00+00:00",
    }
    return make_backup_id(**{**values, **overrides})  # type: ignore[arg-type]


def test_an_id_has_the_documented_form_and_is_always_the_same() -> None:
    assert make() == "pulse_messages_daily_full_20250119T020000Z_" + make()[-6:]
    assert make() == make()


def test_another_run_of_the_same_second_has_another_id() -> None:
    assert make(run_id="manual__1") != make(run_id="manual__2")
    assert make(dag_id="a") != make(dag_id="b")
    assert make(dag_id="a", run_id="bc") != make(dag_id="ab", run_id="c")


def test_time_is_utc_in_whole_seconds() -> None:
    east = DUE.astimezone(timezone(timedelta(hours=5))) + timedelta(milliseconds=900)
    assert make(run_after=east) == make()


@given(
    source=st.from_regex(SOURCE_NAME, fullmatch=True),
    tier=st.sampled_from(TIERS),
    kind=st.sampled_from(KINDS),
    due=st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    run_id=st.text(),
)
def test_every_id_is_read_back_as_what_it_was_made_of(
    source: str, tier: str, kind: str, due: datetime, run_id: str
) -> None:
    made = make(source=source, tier=tier, kind=kind, run_after=due, run_id=run_id)
    parsed = parse_backup_id(made)
    assert (parsed.source, parsed.tier, parsed.kind) == (source, tier, kind)
    assert parsed.run_after == due.replace(microsecond=0)
    assert str(parsed) == made


def test_names_that_look_like_tiers_are_told_apart() -> None:
    parsed = parse_backup_id(make(source="a_daily_full", tier="pre_deployment"))
    assert (parsed.source, parsed.tier) == ("a_daily_full", "pre_deployment")


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a/b", "../x", "a b", "a;rm", "a\n", "é", "x" * 41])
def test_hostile_source_names_are_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        make(source=name)


@pytest.mark.parametrize("field", ["tier", "kind"])
def test_unknown_tiers_and_kinds_are_refused(field: str) -> None:
    with pytest.raises(ParameterError):
        make(**{field: "fortnightly"})


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ParameterError, match="no time zone"):
        make(run_after=datetime(2025, 1, 19, 2))  # noqa: DTZ001 - the point of the test


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "../../etc/passwd",
        "pulse_messages_daily_full_20250119T020000Z_3fa9c",
        "pulse_messages_daily_full_20250119T020000Z_3fa9c11",
        "pulse_messages_daily_full_20250119T020000Z_3FA9C1",
        "pulse_messages_daily_full_20251319T020000Z_3fa9c1",
        "pulse_messages_daily_full_20250119T020000Z_3fa9c1\n",
        "pulse_messages_daily_full_٢٠٢٥٠١١٩T020000Z_3fa9c1",
        "daily_full_20250119T020000Z_3fa9c1",
        "x/pulse_messages_daily_full_20250119T020000Z_3fa9c1",
        "pulse_messages_daily_full_20250119T020000Z_3fa9c1; DROP TABLE users",
    ],
)
def test_anything_else_is_no_backup_id(text: str) -> None:
    assert parse_backup_id(text, strict=False) is None
    with pytest.raises(ParameterError, match="is no backup id"):
        parse_backup_id(text)
