"""A hosted Supabase project is recovered by Supabase: what is asked, refused, waited for, and what goes wrong.

The client is the real one, and the server one that answers and fails as the Management API does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import (
    ParameterError,
    RestoreError,
    SupabaseRefusedError,
    SupabaseTokenError,
    SupabaseUnreachableError,
    TargetOutsideWindowError,
)
from include.backup.point_in_time.hosted import HostedPlan, HostedReport, plan_hosted, restore_hosted
from include.backup.point_in_time.target import RecoveryTarget
from include.backup.supabase.project import SupabaseProject
from tests.support.supabase_api import REF, RunningApi, running_api

NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)
WINDOW = {
    "earliest_physical_backup_date_unix": int((NOON - timedelta(days=7)).timestamp()),
    "latest_physical_backup_date_unix": int(NOON.timestamp()),
}
ASKED = f"POST /v1/projects/{REF}/database/backups/restore-pitr"
LONG = 3600.0
RESTORE, LOOK = {"method": "POST", "path": "restore-pitr"}, {"method": "GET", "path": f"/projects/{REF}"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    """A project whose recoveries end once they were seen, and a recovery that is patient for half a second."""
    monkeypatch.setattr("include.backup.point_in_time.hosted.BEGIN_SECONDS", 0.5)
    with running_api(pitr_enabled=True, window=WINDOW, restore_seconds=LONG) as running:
        yield running


def plan(project: SupabaseProject, target: datetime = NOON - timedelta(hours=1)) -> HostedPlan:
    return plan_hosted(project, RecoveryTarget.parse("time", target.isoformat()), source="shop")


def recover(
    api: RunningApi,
    *,
    before: Callable[[], Any] = lambda: None,
    deadline: float = 20.0,
    request: float = 5.0,
    seen: str = "the project is RESTORING",
) -> tuple[HostedReport, list[str]]:
    """Recover; ``before`` is what happens between the plan and the request, and ``seen`` what the project waits for."""
    told: list[str] = []

    def nap(_: float) -> None:
        time.sleep(0.02)
        if seen in told:
            api.project.restoring_until = None

    with api.open(deadline_seconds=request) as project:
        made = plan(project)
        before()
        report = restore_hosted(made, project, deadline_seconds=deadline, say=told.append, sleep=nap)
    return report, told


def test_the_project_is_asked_once_and_followed_until_it_is_healthy_again(api: RunningApi) -> None:
    report, told = recover(api)
    assert api.asked.count(ASKED) == 1
    assert api.project.restored_to == int((NOON - timedelta(hours=1)).timestamp())
    assert (report.status, report.project_ref) == ("ACTIVE_HEALTHY", REF)
    assert report.seconds > 0
    assert "the project is RESTORING" in told


def test_an_api_that_does_not_answer_meanwhile_is_asked_again(api: RunningApi) -> None:
    def silence() -> None:
        api.fail(status=503, times=2, **LOOK)
        api.fail(status=429, retry_after="0", **LOOK)
        api.fail(status=0, **LOOK)

    report, _ = recover(api, before=silence)
    assert report.status == "ACTIVE_HEALTHY"
    assert api.asked.count(ASKED) == 1


def test_an_api_that_wants_nobody_to_ask_is_waited_for(api: RunningApi) -> None:
    report, told = recover(api, before=lambda: api.fail(status=429, retry_after="60", **LOOK), request=1.0)
    assert report.status == "ACTIVE_HEALTHY"
    assert "the project is not answering" in told


def test_a_recovery_that_fails_is_told(api: RunningApi) -> None:
    api.project.status = "RESTORE_FAILED"
    with pytest.raises(RestoreError, match="RESTORE_FAILED after the recovery"):
        recover(api)


def test_one_that_never_ends_is_told_too(api: RunningApi) -> None:
    with pytest.raises(RestoreError, match="still RESTORING after 0 s"):
        recover(api, deadline=0.3, seen="it never ends")


def test_one_that_is_never_seen_at_work_is_not_called_done(api: RunningApi) -> None:
    api.project.restore_seconds = 0
    with pytest.raises(RestoreError, match="was never seen at work"):
        recover(api)


def test_a_request_that_is_not_answered_is_not_sent_again_and_its_end_is_told(api: RunningApi) -> None:
    with pytest.raises(RestoreError, match=r"answered 500 .*never seen at work"):
        recover(api, before=lambda: api.fail(status=500, **RESTORE))
    assert api.asked.count(ASKED) == 1


def test_a_request_whose_answer_was_lost_is_followed_when_the_project_begins(api: RunningApi) -> None:
    def begun() -> None:
        api.fail(status=0, **RESTORE)
        api.project.restoring_until = datetime.now(tz=UTC) + timedelta(seconds=LONG)

    report, told = recover(api, before=begun)
    assert report.status == "ACTIVE_HEALTHY"
    assert "did not say whether it does" in told[0]
    assert api.asked.count(ASKED) == 1


def test_too_many_requests_are_waited_out_before_the_request_is_sent(api: RunningApi) -> None:
    report, _ = recover(api, before=lambda: api.fail(status=429, retry_after="0", **RESTORE))
    assert report.status == "ACTIVE_HEALTHY"
    assert api.project.restored_to is not None


def test_a_window_that_has_moved_on_is_refused_and_nothing_is_recovered(api: RunningApi) -> None:
    def move() -> None:
        api.project.window = {name: value + 7 * 86400 for name, value in WINDOW.items()}

    with pytest.raises(SupabaseRefusedError, match="must lie between"):
        recover(api, before=move)
    assert api.project.restored_to is None


def test_a_token_that_is_refused_asks_for_nothing(api: RunningApi) -> None:
    with (
        api.open(token="sbp_of_somebody_else") as project,
        pytest.raises(SupabaseTokenError, match="refused the token"),
    ):
        plan(project)
    assert api.asked == []


def test_a_token_that_is_withdrawn_meanwhile_says_that_the_recovery_was_asked_for(api: RunningApi) -> None:
    with pytest.raises(RestoreError, match=r"was asked to recover .* cannot be followed any more.*do not ask again"):
        recover(api, before=lambda: api.fail(status=401, **LOOK))
    assert api.project.restored_to is not None


def test_an_api_that_is_down_refuses_the_plan(api: RunningApi) -> None:
    api.fail(status=502, times=99)
    with api.open(deadline_seconds=0.5) as project, pytest.raises(SupabaseUnreachableError, match="answered 502"):
        plan(project)


@pytest.mark.parametrize("hours", [-8 * 24, 1])
def test_a_time_outside_the_window_is_refused_with_it(api: RunningApi, hours: int) -> None:
    with (
        api.open() as project,
        pytest.raises(TargetOutsideWindowError, match="2026-05-04 12:00:00 to 2026-05-11 12:00:00 UTC"),
    ):
        plan(project, NOON + timedelta(hours=hours))
    assert ASKED not in api.asked


def test_without_the_add_on_there_is_nothing_to_recover(api: RunningApi) -> None:
    api.project.pitr_enabled = False
    with api.open() as project, pytest.raises(TargetOutsideWindowError, match="no point-in-time recovery"):
        plan(project)


def test_only_a_time_will_do(api: RunningApi) -> None:
    with api.open() as project, pytest.raises(ParameterError, match="to a time only"):
        plan_hosted(project, RecoveryTarget.parse("lsn", "0/100"), source="shop")


def test_the_question_names_project_and_time_and_stays_the_same_as_the_window_moves(api: RunningApi) -> None:
    with api.open() as project:
        first = plan(project).question()
        api.project.window = {**WINDOW, "latest_physical_backup_date_unix": int(NOON.timestamp()) + 120}
        again = plan(project).question()
        assert first.seal == again.seal != plan(project, NOON).question().seal
    assert REF in first.body
    assert "2026-05-11 11:00:00 UTC" in first.body
