"""The client of Supabase's Management API, against a server that answers and fails as that API does."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from tenacity import wait_fixed

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import (
    ConnectionDefinitionError,
    ParameterError,
    RetryWorthlessError,
    SupabaseAnswerError,
    SupabaseError,
    SupabaseProjectMissingError,
    SupabaseRateLimitError,
    SupabaseRefusedError,
    SupabaseTokenError,
    SupabaseUnreachableError,
)
from include.backup.supabase.connection import SupabaseConnection
from include.backup.supabase.records import BackupStatus, ProjectStatus, read_backups
from include.backup.supabase.transport import RateWindow
from tests.support.supabase_api import REF, TOKEN, RunningApi, running_api

# As a real project was recorded, with one field that this client does not know.
RECORDED = {
    "region": "us-east-1",
    "walg_enabled": True,
    "pitr_enabled": False,
    "backups": [
        {"id": 12, "is_physical_backup": True, "status": "FAILED", "inserted_at": "2026-06-02T02:04:11.123Z", "new": 1},
        {"id": 11, "is_physical_backup": True, "status": "COMPLETED", "inserted_at": "2026-06-01T02:03:59.000Z"},
        {"id": 10, "is_physical_backup": False, "status": "SOMETHING_NEW", "inserted_at": "2026-05-31T02:04:00"},
    ],
    "physical_backup_data": {},
    "something_new": {"x": 1},
}


@pytest.fixture
def api() -> Iterator[RunningApi]:
    with running_api() as running:
        yield running


def test_backups_are_typed_newest_first_and_unknown_fields_and_statuses_do_no_harm() -> None:
    found = read_backups(RECORDED)
    assert [backup.id for backup in found.backups] == [12, 11, 10]
    assert [backup.status for backup in found.backups] == [
        BackupStatus.FAILED,
        BackupStatus.COMPLETED,
        BackupStatus.UNKNOWN,
    ]
    assert found.newest_completed is not None
    assert found.newest_completed.id == 11
    assert found.backups[2].inserted_at == datetime(2026, 5, 31, 2, 4, tzinfo=UTC)
    assert found.window is None


@pytest.mark.parametrize(
    "window",
    [{}, None, {"earliest_physical_backup_date_unix": 1}, {"latest_physical_backup_date_unix": None}],
)
def test_a_project_without_backups_and_without_a_window_is_an_ordinary_answer(window: Any) -> None:
    found = read_backups({**RECORDED, "backups": [], "physical_backup_data": window})
    assert (found.backups, found.newest_completed, found.window) == ((), None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backups": {}}, "the list of backups"),
        ({"pitr_enabled": "yes"}, "pitr_enabled is str instead of bool"),
        ({"region": None}, "region is missing"),
        ({"backups": [{"id": "12"}]}, "id is str instead of int"),
        ({"backups": [{**RECORDED["backups"][0], "inserted_at": "yesterday"}]}, "'yesterday', not a time"),  # type: ignore[index]
        (
            {
                "physical_backup_data": {
                    "earliest_physical_backup_date_unix": "x",
                    "latest_physical_backup_date_unix": 1,
                }
            },
            "not seconds since 1970",
        ),
    ],
)
def test_an_answer_in_another_form_is_refused_by_the_name_of_the_field(change: dict[str, Any], words: str) -> None:
    if change == {"backups": {}}:
        content: Any = []
    else:
        content = {**RECORDED, **change}
    with pytest.raises(SupabaseAnswerError, match=words):
        read_backups(content)


def test_everything_that_the_api_says_can_be_read(api: RunningApi) -> None:
    api.project.pitr_enabled = True
    with api.open() as project:
        assert project.facts().status is ProjectStatus.ACTIVE_HEALTHY
        window = project.pitr_window()
        assert window is not None
        assert window.holds(datetime.now(tz=UTC) - timedelta(hours=1))
        assert not window.holds(datetime.now(tz=UTC) + timedelta(hours=1))
        assert project.backup_schedule().hour == 2
        disk = project.disk_use()
        assert (disk.size, disk.share) == (8 << 30, 0.125)
        api.project.unhealthy = ["storage"]
        assert {health.name for health in project.health() if not health.healthy} == {"storage"}


def test_the_daily_backups_of_the_last_week_are_listed_and_pitr_ends_them(api: RunningApi) -> None:
    with api.open() as project:
        assert len(project.backups().backups) == 7
        assert project.pitr_window() is None
        api.project.pitr_enabled = True
        assert project.backups().backups == ()


def test_the_token_travels_as_a_bearer_token_and_is_in_no_error_and_no_repr(api: RunningApi) -> None:
    api.fail(status=403, message=f"token {TOKEN} may not")
    with api.open() as project, pytest.raises(SupabaseTokenError) as caught:
        project.backups()
    assert TOKEN not in str(caught.value)
    assert "pulse_supabase" in str(caught.value)
    assert TOKEN not in repr(api.connection())


def test_a_wrong_token_is_said_at_once_with_what_to_do(api: RunningApi) -> None:
    with (
        api.open(token="wrong") as project,
        pytest.raises(SupabaseTokenError, match=r"401.*new access token") as caught,
    ):
        project.backups()
    assert isinstance(caught.value, RetryWorthlessError)
    assert caught.value.exit_code == 3


def test_an_unknown_project_is_said_with_where_it_is_written(api: RunningApi) -> None:
    with api.open(ref="z" * 20) as project, pytest.raises(SupabaseProjectMissingError, match="project_ref"):
        project.backups()


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_429_is_waited_out_as_long_as_retry_after_says(api: RunningApi, form: str) -> None:
    after = "2" if form == "seconds" else format_datetime(datetime.now(tz=UTC) + timedelta(seconds=3), usegmt=True)
    api.fail(status=429, retry_after=after)
    started = time.monotonic()
    with api.open() as project:
        assert project.backups().region == "eu-central-1"
    assert time.monotonic() - started >= 1.9
    assert len(api.asked) == 2


def test_a_wait_that_passes_the_deadline_is_not_begun(api: RunningApi) -> None:
    api.fail(status=429, retry_after="3600", times=9)
    started = time.monotonic()
    with api.open(deadline_seconds=5) as project, pytest.raises(SupabaseRateLimitError, match="wait 3600 s"):
        project.backups()
    assert time.monotonic() - started < 4
    assert len(api.asked) == 1


@pytest.mark.parametrize(("status", "times"), [(500, 1), (503, 2), (0, 1)])
def test_5xx_and_a_lost_connection_are_tried_again(api: RunningApi, status: int, times: int) -> None:
    api.fail(status=status, times=times)
    with api.open() as project:
        assert project.backups().backups
    assert len(api.asked) == times + 1


def test_an_api_that_stays_away_is_given_up_within_the_deadline(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.supabase.transport._BACKOFF", wait_fixed(0.7))
    api.fail(status=503, times=99, message="upstream is down")
    started = time.monotonic()
    with (
        api.open(deadline_seconds=2) as project,
        pytest.raises(SupabaseUnreachableError, match=r"503.*upstream is down"),
    ):
        project.backups()
    assert time.monotonic() - started < 4
    assert len(api.asked) > 1


def test_an_answer_that_does_not_come_is_given_up_within_the_deadline(api: RunningApi) -> None:
    api.fail(status=200, delay_seconds=5, times=99)
    started = time.monotonic()
    with api.open(deadline_seconds=1) as project, pytest.raises(SupabaseUnreachableError, match="does not answer"):
        project.backups()
    assert time.monotonic() - started < 4


def test_nobody_listening_is_said_with_the_address() -> None:
    with running_api() as api:
        gone = api
    with gone.open(deadline_seconds=1) as project, pytest.raises(SupabaseUnreachableError, match=gone.url):
        project.backups()


def test_what_is_no_json_is_refused(api: RunningApi) -> None:
    api.fail(status=200, text="<html>a proxy's page</html>")
    with api.open() as project, pytest.raises(SupabaseAnswerError, match="no JSON"):
        project.backups()


def test_a_redirect_is_not_followed_with_the_token(api: RunningApi) -> None:
    api.fail(status=302)
    with api.open() as project, pytest.raises(SupabaseAnswerError, match="answered 302"):
        project.backups()
    assert len(api.asked) == 1


def test_pitr_that_is_not_enabled_is_refused_in_supabases_words(api: RunningApi) -> None:
    with (
        api.open() as project,
        pytest.raises(SupabaseRefusedError, match="PITR is not enabled for this project") as caught,
    ):
        project.restore_to(datetime.now(tz=UTC))
    assert caught.value.exit_code == 5


def test_a_time_outside_the_window_is_refused_and_one_inside_restores(api: RunningApi) -> None:
    api.project.pitr_enabled = True
    api.project.restore_seconds = 3600
    with api.open() as project:
        with pytest.raises(SupabaseRefusedError, match=r"422.*must lie between"):
            project.restore_to(datetime.now(tz=UTC) - timedelta(days=30))
        target = datetime.now(tz=UTC) - timedelta(hours=3)
        project.restore_to(target)
        assert project.facts().status is ProjectStatus.RESTORING
        assert api.project.restored_to == int(target.timestamp())
        api.project.restoring_until = None
        assert project.facts().status is ProjectStatus.ACTIVE_HEALTHY


def test_a_restore_that_may_have_begun_is_not_asked_for_twice(api: RunningApi) -> None:
    api.project.pitr_enabled = True
    for status in (500, 0):
        api.stand_in.requests.clear()
        api.fail(status=status)
        with api.open() as project, pytest.raises(SupabaseUnreachableError):
            project.restore_to(datetime.now(tz=UTC) - timedelta(hours=3))
        assert len(api.asked) == 1
    api.fail(status=429, retry_after="0")
    with api.open() as project:
        project.restore_to(datetime.now(tz=UTC) - timedelta(hours=3))


def test_a_time_without_a_zone_is_not_guessed_at(api: RunningApi) -> None:
    with api.open() as project, pytest.raises(ParameterError, match="no zone"):
        project.restore_to(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_the_client_stays_within_the_rate_limit_by_itself() -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    window = RateWindow(3, 60, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        window.wait(until=1e9)
    now[0] += 20
    window.wait(until=1e9)
    assert slept == [40.0]
    for _ in range(3):
        window.wait(until=1e9)
    assert now[0] == pytest.approx(220.0)
    window.wait(until=1e9)
    window.wait(until=1e9)
    with pytest.raises(SupabaseRateLimitError, match="3 requests"):
        window.wait(until=now[0] + 1)


def test_the_stand_in_enforces_the_real_rate_limit(api: RunningApi) -> None:
    api.stand_in.requests_per_window = 2
    with api.open(deadline_seconds=3) as project:
        project.backups()
        project.backups()
        with pytest.raises(SupabaseRateLimitError):
            project.backups()


def test_a_connection_needs_a_token_and_tls() -> None:
    def read(**fields: Any) -> SupabaseConnection:
        values: dict[str, Any] = {"conn_id": "c", "conn_type": "http", "password": Secret("t"), **fields}
        return SupabaseConnection.from_spec(ConnectionSpec(**values))

    assert read().url == "https://api.supabase.com"
    assert read(password=Secret(" t\r\n")).token == "t"
    assert read(host="http://127.0.0.1:6404/").url == "http://127.0.0.1:6404"
    assert read(host="127.0.0.1", port=9).url == "https://127.0.0.1:9"
    for fields, words in (
        ({"password": None}, "personal access token"),
        ({"password": Secret(" \n")}, "personal access token"),
        ({"password": Secret("sbp_1\nsbp_2")}, "no access token"),
        ({"password": Secret("sbp_1 sbp_2")}, "no access token"),
        ({"password": Secret("sbp_é")}, "no access token"),
        ({"conn_type": "aws"}, "allowed: http"),
        ({"host": "http://api.supabase.com"}, "without TLS"),
        ({"host": "https://me:t@api.supabase.com"}, "a user or a password in it"),
        ({"host": "https://api.supabase.com/v1"}, "more than an address"),
        ({"host": "ftp://api.supabase.com"}, "no https:// URL"),
        ({"extra": {"timeout": "9"}}, "extra timeout"),
        ({"extra": {"verify": True}}, "verify that is not text"),
    ):
        with pytest.raises(ConnectionDefinitionError, match=words):
            read(**fields)


def test_a_token_that_no_header_may_hold_is_neither_tried_again_nor_shown(api: RunningApi) -> None:
    with api.open(token=f"{TOKEN}\n") as project, pytest.raises(SupabaseTokenError) as refused:
        project.backups()
    assert TOKEN not in "".join(traceback.format_exception(refused.value))
    assert api.asked == []


def test_every_error_of_the_api_is_one_of_ours(api: RunningApi) -> None:
    for status in (400, 402, 404, 409, 418, 422):
        api.fail(status=status, message="no")
        with api.open() as project, pytest.raises(SupabaseError, match="no"):
            project.backups()
    assert json.dumps(api.asked).count(REF) == 6
