"""What each tier should have made in the month, what it made, and what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from croniter import croniter

from include.backup.audit.facts import AuditFacts, BackupFact
from include.backup.audit.report import TierRow
from include.backup.backup_id import parse_backup_id
from include.backup.evidence.record import Event, EventKind
from include.backup.inventory import Standing
from include.backup.policy import Schedule, SourcePolicy, TierPolicy

SHOWN = 10
PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was made, whether it is still there or not."""

    backup_id: str
    run_after: datetime
    proven: bool


def tier_rows(facts: AuditFacts, source: SourcePolicy, *, begin: datetime, until: datetime) -> tuple[TierRow, ...]:
    """Return a row for each tier of the policy. What was due before the source was known does not count."""
    since = max(begin, known_since(facts) or until)
    return tuple(_row(facts, tier, since=since, until=until) for tier in source.tiers.values())


def known_since(facts: AuditFacts) -> datetime | None:
    """Return when the first thing happened to this source that is still known; None when nothing ever did."""
    moments = [one.run_after for one in facts.backups]
    if facts.ledger.began_at is not None:
        moments.append(facts.ledger.began_at)
    return min(moments, default=None)


def due_times(schedule: Schedule, *, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield when the schedule was due from ``since`` to before ``until``.

    >>> [f"{t:%d}" for t in due_times(Schedule(cron="0 2 * * 0", timezone="UTC"),
    ...     since=datetime(2026, 5, 1, tzinfo=UTC), until=datetime(2026, 5, 18, tzinfo=UTC))]
    ['03', '10', '17']
    """
    times = croniter(schedule.cron, since.timestamp() - 1)
    while True:
        found: datetime = times.get_next(datetime)
        due = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if due >= until:
            return
        yield due


def made_backups(facts: AuditFacts, tier: str, kind: str) -> tuple[Made, ...]:
    """Return what was made of a tier, oldest first: what is in the store, and what only the ledger remembers."""
    found: dict[str, Made] = {}
    passed = proven_subjects(facts.ledger.events)
    for event in facts.ledger.events:
        parsed = parse_backup_id(event.subject, strict=False) if event.kind is EventKind.BACKUP else None
        if parsed is not None and (parsed.tier, parsed.kind) == (tier, kind):
            proven = event.subject in passed or "proof_id" in event.facts
            found[event.subject] = Made(backup_id=event.subject, run_after=parsed.run_after, proven=proven)
    for one in facts.backups:
        if (one.tier, one.kind) == (tier, kind):
            # What it says now counts: an early proof may have been followed by one that failed.
            proven = one.standing is Standing.PROVEN
            found[one.backup_id] = Made(backup_id=one.backup_id, run_after=one.run_after, proven=proven)
    return tuple(sorted(found.values(), key=lambda one: (one.run_after, one.backup_id)))


def proven_subjects(events: Sequence[Event]) -> frozenset[str]:
    """Return the backups whose newest proof among these events passed."""
    newest: Mapping[str, str] = {
        event.subject: str(event.facts.get("result")) for event in events if event.kind is EventKind.PROOF
    }
    return frozenset(subject for subject, result in newest.items() if result == PASSED)


def _row(facts: AuditFacts, tier: TierPolicy, *, since: datetime, until: datetime) -> TierRow:
    made = [one for one in made_backups(facts, tier.name, tier.kind) if since <= one.run_after < until]
    missed = [] if tier.schedule is None else list(_missed(tier.schedule, made, since=since, until=until))
    here = [one for one in facts.backups if one.tier == tier.name]
    due = None if tier.schedule is None else sum(1 for _ in due_times(tier.schedule, since=since, until=until))
    newest = max(here, key=lambda one: one.run_after, default=None)
    return TierRow(
        tier=tier.name,
        schedule="on demand" if tier.schedule is None else f"{tier.schedule.cron} {tier.schedule.timezone}",
        keep=str(tier.keep),
        due=due,
        made=len(made),
        proven=sum(one.proven for one in made),
        missed=tuple(f"{moment:%Y-%m-%d %H:%M}" for moment in missed),
        held=len(here),
        held_proven=sum(one.standing is Standing.PROVEN for one in here),
        size=sum(one.size for one in here),
        newest=None if newest is None else newest.backup_id,
        oldest_at=min((_data_of(one) for one in here), default=None),
    )


def _missed(schedule: Schedule, made: Sequence[Made], *, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield what was due without a backup until it was due again; the last slot may still be running."""
    due = list(due_times(schedule, since=since, until=until))
    times = sorted(one.run_after for one in made)
    place = 0
    for index, moment in enumerate(due):
        end = due[index + 1] if index + 1 < len(due) else until
        while place < len(times) and times[place] < moment:
            place += 1
        if place >= len(times) or times[place] >= end:
            yield moment


def _data_of(one: BackupFact) -> datetime:
    return one.snapshot_time or one.run_after
