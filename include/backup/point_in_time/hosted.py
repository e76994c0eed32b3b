"""Point-in-time recovery of a hosted Supabase project: by the provider, in place, through its Management API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from include.backup.approval import Question
from include.backup.errors import (
    ParameterError,
    RestoreError,
    SupabaseError,
    SupabaseRateLimitError,
    SupabaseUnreachableError,
    TargetOutsideWindowError,
)
from include.backup.point_in_time.target import RecoveryTarget, TargetKind
from include.backup.supabase.project import SupabaseProject
from include.backup.supabase.records import ProjectStatus

POLL_SECONDS = 15.0
# The status may still say that all is well right after the request.
BEGIN_SECONDS = 180.0
_LOST = (ProjectStatus.RESTORE_FAILED, ProjectStatus.INIT_FAILED, ProjectStatus.REMOVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedPlan:
    """What the provider would be asked to do: everything after ``target`` is lost in the project itself."""

    source: str
    project_ref: str
    target: datetime
    earliest: datetime
    latest: datetime

    def question(self) -> Question:
        """Return what a person is asked; the window moves on meanwhile and is no part of it."""
        facts = {"source": self.source, "project": self.project_ref, "target": self.target.isoformat()}
        return Question(
            subject=f"Recover the Supabase project {self.project_ref} to {self.target:%Y-%m-%d %H:%M:%S} UTC?",
            body=(
                f"Supabase recovers the project **{self.project_ref}** ({self.source}) in place. Everything that was "
                f"written after **{self.target:%Y-%m-%d %H:%M:%S} UTC** is lost, and the project cannot be reached "
                "meanwhile."
            ),
            content=json.dumps(facts, sort_keys=True).encode(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        times = {name: getattr(self, name).isoformat() for name in ("target", "earliest", "latest")}
        return {**asdict(self), **times}

    def lines(self) -> tuple[str, ...]:
        """Return the preview."""
        return (
            f"recover      the hosted Supabase project {self.project_ref} IN PLACE to "
            f"{self.target:%Y-%m-%d %H:%M:%S} UTC",
            f"window       {self.earliest:%Y-%m-%d %H:%M:%S} to {self.latest:%Y-%m-%d %H:%M:%S} UTC, as Supabase says",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedReport:
    """What the provider did; where exactly it landed is for the checks to say."""

    source: str
    project_ref: str
    target: str
    status: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"Supabase recovered the project {self.project_ref} of {self.source} to {self.target}; it is "
            f"{self.status} after {self.seconds:.0f} s"
        )


def plan_hosted(project: SupabaseProject, target: RecoveryTarget, *, source: str) -> HostedPlan:
    """Ask for the window and decide. Raises TargetOutsideWindowError with the window, or ParameterError."""
    if target.kind is not TargetKind.TIME or target.moment is None:
        raise ParameterError(f"Supabase recovers to a time only, and {target} was given; give a time")
    window = project.pitr_window()
    if window is None:
        raise TargetOutsideWindowError(
            f"the Supabase project {project.ref} has no point-in-time recovery; turn the add-on on, or restore its "
            "daily backup"
        )
    moment = target.moment.astimezone(UTC).replace(microsecond=0)
    if not window.holds(moment):
        raise TargetOutsideWindowError(
            f"{target} lies outside of what Supabase can recover: {window.earliest:%Y-%m-%d %H:%M:%S} to "
            f"{window.latest:%Y-%m-%d %H:%M:%S} UTC"
        )
    return HostedPlan(
        source=source, project_ref=project.ref, target=moment, earliest=window.earliest, latest=window.latest
    )


def restore_hosted(
    plan: HostedPlan,
    project: SupabaseProject,
    *,
    deadline_seconds: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> HostedReport:
    """Ask the provider once, and look until the project has been at work and is healthy again.

    Raises SupabaseError when it refuses, RestoreError when it says that it failed, does not get there in time, was
    never seen at work, or cannot be followed any more.
    """
    started = clock()
    unsure = _ask(plan, project, say)
    seen_at_work = False
    while True:
        status = _status(plan, project)
        seen_at_work = seen_at_work or (status is not None and status is not ProjectStatus.ACTIVE_HEALTHY)
        if status is ProjectStatus.ACTIVE_HEALTHY and seen_at_work:
            break
        if status in _LOST:
            raise RestoreError(
                f"Supabase says that the project {plan.project_ref} is {status} after the recovery; open a ticket "
                "there, and restore the newest proven backup into another project"
            )
        _check_time(
            plan, status, seconds=clock() - started, most=deadline_seconds, idle=not seen_at_work, unsure=unsure
        )
        say(f"the project is {status or 'not answering'}")
        sleep(POLL_SECONDS)
    return HostedReport(
        source=plan.source,
        project_ref=plan.project_ref,
        target=plan.target.isoformat(),
        status=ProjectStatus.ACTIVE_HEALTHY.value,
        seconds=round(clock() - started, 3),
    )


def _ask(plan: HostedPlan, project: SupabaseProject, say: Callable[[str], None]) -> str:
    """Ask for the recovery; return what was said when nobody knows whether it was heard, else nothing.

    It is never asked for twice: what was not answered may have been carried out, and the project's status shows it.
    """
    try:
        project.restore_to(plan.target)
    except SupabaseUnreachableError as error:
        say(f"asked Supabase to recover {plan.project_ref}, and it did not say whether it does: {error}")
        return str(error)
    say(f"asked Supabase to recover {plan.project_ref} to {plan.target.isoformat()}")
    return ""


def _check_time(
    plan: HostedPlan, status: ProjectStatus | None, *, seconds: float, most: float, idle: bool, unsure: str
) -> None:
    """Raise RestoreError when it takes too long to begin or to end."""
    if status is ProjectStatus.ACTIVE_HEALTHY and idle and seconds > BEGIN_SECONDS:
        said = f" ({unsure})" if unsure else ""
        raise RestoreError(
            f"Supabase was asked to recover the project {plan.project_ref}{said} and was never seen at work in "
            f"{BEGIN_SECONDS:.0f} s; look in its dashboard and at the data before another try"
        )
    if seconds > most:
        raise RestoreError(
            f"the project {plan.project_ref} is still {status or 'not answering'} after {most:.0f} s; "
            "look at it in Supabase's dashboard"
        )


def _status(plan: HostedPlan, project: SupabaseProject) -> ProjectStatus | None:
    """Return the project's status, or None while even the API does not answer, or has had too many requests."""
    try:
        return project.facts().status
    except (SupabaseUnreachableError, SupabaseRateLimitError):
        return None
    except SupabaseError as error:
        raise RestoreError(
            f"Supabase was asked to recover the project {plan.project_ref} to {plan.target:%Y-%m-%d %H:%M:%S} UTC and "
            f"cannot be followed any more: {error}; look at it in Supabase's dashboard, and do not ask again"
        ) from error
