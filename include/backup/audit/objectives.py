"""Recovery point and recovery time as they were measured over a month, against what the policy promises."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.backup.audit.event_values import moment_of, number_of
from include.backup.audit.facts import AuditFacts
from include.backup.audit.report import DayExposure, ObjectiveRow, Shown
from include.backup.audit.tiers import PASSED, known_since
from include.backup.backup_id import parse_backup_id
from include.backup.evidence.record import Event, EventKind
from include.backup.inventory import FULL, Standing
from include.backup.policy import SourcePolicy
from include.backup.policy.health import HealthPolicy
from include.backup.wal.record import State

# After these runs the log could not be recovered up to its end.
UNUSABLE = frozenset({State.NO_BASE.value, State.BROKEN.value, State.RELEASED.value})
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """From ``available_at`` on, everything up to ``data_of`` could be recovered."""

    available_at: datetime
    data_of: datetime


def backup_points(facts: AuditFacts) -> tuple[Point, ...]:
    """Return when which proven full backup could be restored: from its first proof on."""
    passed: dict[str, datetime] = {}
    taken: dict[str, datetime] = {}
    for event in facts.ledger.events:
        if event.kind is EventKind.PROOF and event.facts.get("result") == PASSED:
            passed.setdefault(event.subject, event.recorded_at)
        if event.kind is EventKind.BACKUP and (moment := moment_of(event.facts.get("snapshot_time"))) is not None:
            taken[event.subject] = moment
    points = {backup_id: (passed[backup_id], moment) for backup_id, moment in taken.items() if backup_id in passed}
    for one in facts.backups:
        if one.standing is Standing.PROVEN:
            known = passed.get(one.backup_id) or one.first_proof_at or one.proven_at or one.stored_at
            points[one.backup_id] = (known, one.snapshot_time or one.run_after)
    return tuple(
        Point(available_at=available, data_of=data_of)
        for backup_id, (available, data_of) in points.items()
        if parse_backup_id(backup_id).kind == FULL and parse_backup_id(backup_id).tier != "safety"
    )


def wal_points(facts: AuditFacts) -> tuple[Point, ...]:
    """Return how far the log could be recovered after each run that left it whole."""
    return tuple(
        Point(available_at=run.finished_at, data_of=run.mark_time)
        for run in facts.wal_runs
        if run.state not in UNUSABLE
    )


def exposures(
    points: Iterable[Point], *, begin: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, datetime | None]]:
    """Yield (from, to, data_of): in that time everything up to ``data_of`` could be recovered, or nothing if None.

    What would be lost grows from one point to the next, and is worst right before the next one is there.
    """
    newest: datetime | None = None
    since = begin
    for point in sorted(points, key=lambda one: (one.available_at, one.data_of)):
        if point.available_at >= until:
            break
        if newest is not None and point.data_of <= newest:
            continue
        if point.available_at > since:
            yield since, point.available_at, newest
            since = point.available_at
        newest = point.data_of
    if until > since:
        yield since, until, newest


def worst_losses(
    points: Sequence[Point], *, begin: datetime, until: datetime, known: datetime | None
) -> tuple[float, ...]:
    """Return the worst loss before each new point, in seconds.

    While nothing could be recovered, all since the source is ``known`` would have been lost; nothing counts before.
    """
    bare = bare_until(points, begin=begin, until=until, known=known)
    return (
        *(() if bare is None or known is None else ((bare - known).total_seconds(),)),
        *(
            (end - data_of).total_seconds()
            for _, end, data_of in exposures(points, begin=begin, until=until)
            if data_of is not None
        ),
    )


def bare_until(points: Sequence[Point], *, begin: datetime, until: datetime, known: datetime | None) -> datetime | None:
    """Return up to when nothing at all of a known source could be recovered; None where something always could."""
    ends = (end for _, end, data_of in exposures(points, begin=begin, until=until) if data_of is None)
    return next((end for end in ends if known is not None and known < end), None)


def daily_exposure(points: Sequence[Point], *, begin: datetime, until: datetime) -> tuple[DayExposure, ...]:
    """Return for each day how much would have been lost at worst."""
    spans = list(exposures(points, begin=begin, until=until))
    found, day = [], begin.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < until:
        end = min(day + DAY, until)
        losses = [
            (min(to, end) - data_of).total_seconds()
            for since, to, data_of in spans
            if data_of is not None and since < end and to > day
        ]
        found.append(DayExposure(day=f"{day:%Y-%m-%d}", seconds=max(losses, default=None)))
        day += DAY
    return tuple(found)


def restore_times(events: Iterable[Event], *, begin: datetime, until: datetime) -> tuple[float, ...]:
    """Return how long restoring everything took in the month: restore tests that passed, and recoveries.

    A swap's own seconds are how long nobody could connect, so they are none of these.
    """
    found = []
    for event in events:
        seconds = number_of(event.facts.get("seconds"))
        if seconds is None or not begin <= event.recorded_at < until:
            continue
        proof = event.kind is EventKind.PROOF and event.facts.get("result") == PASSED and _is_whole(event.subject)
        if proof or (event.kind is EventKind.RESTORE and "reached" in event.facts):
            found.append(seconds)
    return tuple(found)


def objective_rows(
    facts: AuditFacts, source: SourcePolicy, *, begin: datetime, until: datetime
) -> tuple[ObjectiveRow, ...]:
    """Return what was measured of each objective; nothing measured is not shown, never met."""
    backups, log, known = backup_points(facts), wal_points(facts), known_since(facts)
    health = source.health or HealthPolicy()

    def losses(points: Sequence[Point]) -> tuple[tuple[float, ...], str]:
        bare = bare_until(points, begin=begin, until=until, known=known)
        why = "" if bare is None else f"; nothing could be recovered before {bare:%Y-%m-%d %H:%M} UTC"
        return worst_losses(points, begin=begin, until=until, known=known), why

    measured, why = losses(backups)
    rows = [
        _row(
            "Data lost at most, with backups alone (RPO)",
            source.audit.data_loss,
            measured,
            never="no proven full backup could be restored in this month",
            detail=f"from the data's time of a proven full backup until the next one was proven{why}",
        )
    ]
    if source.incremental is not None:
        measured, why = losses([*backups, *log])
        rows.append(
            _row(
                "Data lost at most, with the log (RPO)",
                health.rpo,
                measured if log else (),
                never="no run has stored WAL that could be recovered",
                detail=f"until the next run had stored the log behind a base backup{why}",
            )
        )
    rows.append(
        _row(
            "Time to restore everything (RTO)",
            source.audit.rto,
            restore_times(facts.ledger.events, begin=begin, until=until),
            never="nothing was restored in this month",
            detail="restore tests and recoveries, fetching and comparing every row included",
        )
    )
    return tuple(rows)


def _row(name: str, objective: timedelta, measured: Sequence[float], *, never: str, detail: str) -> ObjectiveRow:
    worst = max(measured, default=None)
    state = Shown.NOT_SHOWN
    if worst is not None:
        state = Shown.SHOWN if worst <= objective.total_seconds() else Shown.CONTRADICTED
    return ObjectiveRow(
        name=name,
        objective=objective.total_seconds(),
        worst=worst,
        median=statistics.median(measured) if measured else None,
        count=len(measured),
        state=state,
        detail=never if worst is None else detail,
    )


def _is_whole(backup_id: str) -> bool:
    parsed = parse_backup_id(backup_id, strict=False)
    return parsed is not None and parsed.kind in (FULL, "base")
