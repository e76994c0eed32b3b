"""A hosted Supabase project is recovered by Supabase: what is asked, refused, and waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.errors import ParameterError, RestoreError, SupabaseUnreachableError, TargetOutsideWindowError
from include.backup.point_in_time.hosted import HostedPlan, plan_hosted, restore_hosted
from include.backup.point_in_time.target import RecoveryTarget
from include.backup.supabase.records import PitrWindow, ProjectStatus

NOON = datetime(2026, 5, 11, 12, tzinfo=UTC)
WINDOW = PitrWindow(earliest=NOON - timedelta(days=7), latest=NOON)


@dataclass
class Facts:
    status: ProjectStatus


@dataclass
class Project:
    """Answers as the API does; each look sees the next status."""

    window: PitrWindow | None = WINDOW
    statuses: list[ProjectStatus | None] = field(default_factory=list)
    asked: list[datetime] = field(default_factory=list)
    ref: str = "abcdefghijklmnopqrst"

    def pitr_window(self) -> PitrWindow | None:
        return self.window

    def restore_to(self, target: datetime) -> None:
        self.asked.append(target)

    def facts(self) -> Facts:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is None:
            raise SupabaseUnreachableError("it does not answer")
        return Facts(status)


def plan(project: Any, target: datetime = NOON - timedelta(hours=1)) -> HostedPlan:
    return plan_hosted(project, RecoveryTarget.parse("time", target.isoformat()), source="shop")


def recover(project: Any, *, deadline: float = 3600) -> Any:
    ticks = iter(range(0, 10**6, 20))
    return restore_hosted(
        plan(project),
        project,
        deadline_seconds=deadline,
        say=lambda _: None,
        sleep=lambda _: None,
        clock=lambda: float(next(ticks)),
    )


def test_the_project_is_asked_once_and_followed_until_it_is_healthy_again() -> None:
    healthy, restoring = ProjectStatus.ACTIVE_HEALTHY, ProjectStatus.RESTORING
    project = Project(statuses=[healthy, restoring, None, ProjectStatus.COMING_UP, healthy])
    report = recover(project)
    assert project.asked == [NOON - timedelta(hours=1)]
    assert (report.status, report.project_ref) == ("ACTIVE_HEALTHY", project.ref)
    assert project.statuses == [healthy]


def test_a_recovery_that_fails_is_told() -> None:
    project = Project(statuses=[ProjectStatus.RESTORING, ProjectStatus.RESTORE_FAILED])
    with pytest.raises(RestoreError, match="RESTORE_FAILED after the recovery"):
        recover(project)


def test_one_that_never_ends_is_told_too() -> None:
    with pytest.raises(RestoreError, match="still RESTORING after 100 s"):
        recover(Project(statuses=[ProjectStatus.RESTORING]), deadline=100)


@pytest.mark.parametrize("hours", [-8 * 24, 1])
def test_a_time_outside_the_window_is_refused_with_it(hours: int) -> None:
    project = Project()
    with pytest.raises(TargetOutsideWindowError, match="2026-05-04 12:00:00 to 2026-05-11 12:00:00 UTC"):
        plan(project, NOON + timedelta(hours=hours))
    assert project.asked == []


def test_without_the_add_on_there_is_nothing_to_recover() -> None:
    with pytest.raises(TargetOutsideWindowError, match="no point-in-time recovery"):
        plan(Project(window=None))


def test_only_a_time_will_do() -> None:
    with pytest.raises(ParameterError, match="to a time only"):
        plan_hosted(Project(), RecoveryTarget.parse("lsn", "0/100"), source="shop")  # type: ignore[arg-type]


def test_the_question_names_project_and_time_and_stays_the_same_as_the_window_moves() -> None:
    project = Project()
    first = plan(project).question()
    project.window = PitrWindow(earliest=WINDOW.earliest, latest=WINDOW.latest + timedelta(minutes=2))
    again = plan(project).question()
    assert first.seal == again.seal != plan(project, NOON).question().seal
    assert project.ref in first.body
    assert "2026-05-11 11:00:00 UTC" in first.body
