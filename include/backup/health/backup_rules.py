"""Rules about backups: there, in time, of a sensible size, proven, and with the rows of before."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.backup.base.plan import TOLERANCE
from include.backup.health.due import due_before, last_due
from include.backup.health.facts import BackupFact, HealthFacts
from include.backup.health.finding import Finding, RowsBefore, Severity
from include.backup.inventory import FULL, Standing
from include.backup.policy import Schedule, SourcePolicy, TierPolicy
from include.backup.policy.archives import UNREADABLE_CLASSES
from include.backup.policy.health import HealthPolicy
from include.backup.policy.verification import VerificationPolicy
from include.backup.retention.cleanup import BASE_TIER

# Fewer say nothing of what is usual.
HISTORY = 5
# Sizes this many times the usual deviation away from the median are unusual; 1.4826 makes the median deviation one
# standard deviation of normally distributed sizes.
DEVIATIONS = 5.0
MAD_TO_SIGMA = 1.4826
# A database that hardly changes has hardly a deviation: this share of the median is always usual.
USUAL_SHARE = 0.25
SHOWN = 5
# One backup of a tier is proven again in a run, so that all of them take some time after they are due.
OVERDUE_TURNS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Backups that follow one another: a tier's, or base backups.

    A run that begins less than ``every`` after the newest one takes none, and may be at work for ``grace``.
    """

    name: str
    tier: str
    kind: str
    schedule: Schedule | None
    every: timedelta = timedelta()
    grace: timedelta = timedelta()


def backup_findings(facts: HealthFacts, source: SourcePolicy, health: HealthPolicy) -> Iterator[Finding]:
    """Yield what is wrong with each tier's backups, and with base backups."""
    for tier in source.tiers.values():
        backups = _of_tier(facts, tier.name)
        series = Series(name=tier.name, tier=tier.name, kind=tier.kind, schedule=tier.schedule)
        yield from _presence(facts, series, backups, health)
        if backups:
            yield from _sizes(facts, tier, backups, health)
            yield from _proven(facts, series, backups, source, health)
            yield from _rows(facts, tier, backups, source, health)
    bases = _of_tier(facts, BASE_TIER)
    series_of_bases = _bases(source, bases)
    if series_of_bases is not None:
        yield from _presence(facts, series_of_bases, bases, health)
        yield from _proven(facts, series_of_bases, bases, source, health)


def _of_tier(facts: HealthFacts, tier: str) -> Sequence[BackupFact]:
    return sorted((item for item in facts.backups if item.tier == tier), key=lambda item: item.run_after)


def _bases(source: SourcePolicy, bases: Sequence[BackupFact]) -> Series | None:
    """Return base backups as a series. Where none of the newest builds on another, only full ones are due: the server
    may have no others."""
    policy = source.base_backup
    if policy is None:
        return None
    return Series(
        name="base",
        tier=BASE_TIER,
        kind="base",
        schedule=None if policy.schedule is None else Schedule(cron=policy.schedule, timezone="UTC"),
        every=timedelta()
        if policy.incremental and any(item.builds_on_another for item in bases)
        else timedelta(days=policy.full_every_days) - TOLERANCE,
        grace=policy.timeouts.take + policy.timeouts.upload,
    )


def _presence(
    facts: HealthFacts, tier: Series, backups: Sequence[BackupFact], health: HealthPolicy
) -> Iterator[Finding]:
    if tier.schedule is None:
        return
    # What was due only now may still be on its way.
    due = last_due(tier.schedule, facts.now - health.late_after - tier.grace)
    if not backups:
        yield Finding(
            rule="never_succeeded",
            subject=tier.name,
            severity=Severity.CRITICAL,
            evidence=f"the store has no {tier.name} backup of {facts.source}; one was due {_ago(facts.now, due)}",
            next_step=f"look at the last run of {facts.source}'s {tier.name} DAG, and whether it is paused",
        )
        return
    newest = backups[-1]
    if due - newest.run_after <= tier.every:
        return
    missed = due_before(tier.schedule, due) - newest.run_after > tier.every
    yield Finding(
        rule="missing" if missed else "late",
        subject=tier.name,
        severity=Severity.CRITICAL if missed or tier.name == "daily" else Severity.WARNING,
        evidence=f"a {tier.name} backup was due {_ago(facts.now, due)} and is not there; the newest is "
        f"{newest.backup_id}, {_ago(facts.now, newest.stored_at)}",
        next_step="look at the run that was due: its failed task's log says what to do; then clear that task",
    )


def _sizes(
    facts: HealthFacts, tier: TierPolicy, backups: Sequence[BackupFact], health: HealthPolicy
) -> Iterator[Finding]:
    newest, before = backups[-1], [item.size for item in backups[:-1]][-60:]
    limits = _limits(newest.size, health) if tier.kind == FULL else None
    problem = limits or _unusual(newest.size, before)
    if problem:
        yield Finding(
            rule="size",
            subject=tier.name,
            severity=Severity.WARNING,
            evidence=f"{newest.backup_id} has {newest.size} bytes: {problem}",
            next_step="compare the rows of its tables with those of the backup before: "
            f"`python -m include.backup show {facts.source} {newest.backup_id}`",
        )


def _limits(size: int, health: HealthPolicy) -> str | None:
    if size < health.smallest_bytes:
        return f"less than the {health.smallest_bytes} that the policy expects at least"
    if health.largest_bytes is not None and size > health.largest_bytes:
        return f"more than the {health.largest_bytes} that the policy expects at most"
    return None


def _unusual(size: int, before: Sequence[int]) -> str | None:
    if len(before) < HISTORY:
        return None
    median = statistics.median(before)
    deviation = statistics.median(abs(item - median) for item in before)
    usual = max(DEVIATIONS * MAD_TO_SIGMA * deviation, USUAL_SHARE * median)
    if abs(size - median) <= usual:
        return None
    return f"the median of the {len(before)} before is {median:.0f}, within {usual:.0f} would be usual"


def _proven(
    facts: HealthFacts, series: Series, backups: Sequence[BackupFact], source: SourcePolicy, health: HealthPolicy
) -> Iterator[Finding]:
    yield from _proofs(facts, series, backups, health)
    if source.verification is not None:
        yield from _old_proofs(facts, series, backups, source.verification)


def _proofs(facts: HealthFacts, tier: Series, backups: Sequence[BackupFact], health: HealthPolicy) -> Iterator[Finding]:
    failed = [item for item in backups if item.standing in (Standing.FAILED, Standing.UNREADABLE)]
    for item in failed:
        yield Finding(
            rule="proof_failed",
            subject=item.backup_id,
            severity=Severity.CRITICAL,
            evidence=f"the newest proof of {item.backup_id} says {item.standing}",
            next_step="do not rely on it; take a new backup now, and keep this one for whoever looks into it",
        )
    overdue = [item for item in backups if item.proofs == 0 and facts.now - item.stored_at > health.prove_within]
    if overdue:
        yield Finding(
            rule="unproven",
            subject=tier.name,
            severity=Severity.WARNING,
            evidence=f"{len(overdue)} {tier.name} backups are unproven for more than {_hours(health.prove_within)}: "
            f"{', '.join(item.backup_id for item in overdue[-SHOWN:])}",
            next_step="look at backup_verification: it may be paused, or wait for a scratch server",
        )


def _old_proofs(
    facts: HealthFacts, tier: Series, backups: Sequence[BackupFact], policy: VerificationPolicy
) -> Iterator[Finding]:
    """Tell of backups whose turn to be proven again has passed; what may not be thawed has none."""
    limit = policy.reprove_after(tier.tier) * OVERDUE_TURNS
    old = [
        item
        for item in backups
        if item.proven_at is not None
        and facts.now - item.proven_at > limit
        and (policy.thaw or item.storage_class not in UNREADABLE_CLASSES)
    ]
    if old:
        yield Finding(
            rule="proof_overdue",
            subject=tier.name,
            severity=Severity.WARNING,
            evidence=f"{len(old)} {tier.name} backups were proven last more than {_hours(limit)} ago: "
            f"{', '.join(item.backup_id for item in old[-SHOWN:])}",
            next_step="look at backup_verification: it may be paused, or take longer than its turns",
        )


def _rows(
    facts: HealthFacts, tier: TierPolicy, backups: Sequence[BackupFact], source: SourcePolicy, health: HealthPolicy
) -> Iterator[Finding]:
    """Tell of tables that have lost rows since the backups before, or since an alert that nobody acknowledged."""
    known = [item for item in backups if item.rows is not None]
    if not known:
        return
    now, left = known[-1], known[-1].rows or {}
    expected = {
        table: before
        for table, before in sorted(_most_rows(facts, tier, known[:-1]).items())
        if table in left or _is_expected(table, tier, source)
    }
    lost = {
        table: before
        for table, before in expected.items()
        if before.rows and (before.rows - left.get(table, 0)) / before.rows > health.rows_lost_share
    }
    yield from _gone(tier, now, expected, {table: lost[table] for table in lost if table not in left}, health)
    for table in (table for table in lost if table in left):
        before = lost[table]
        yield Finding(
            rule="rows_lost",
            subject=f"{tier.name}:{table}",
            severity=Severity.CRITICAL,
            evidence=f"{table} had {before.rows} rows in {before.backup_id} and has {left[table]} in {now.backup_id}",
            next_step=f"find out whether somebody deleted them on purpose, and acknowledge it then; if not, hold "
            f"{before.backup_id} and restore the rows with restore_table",
            rows_before=before,
        )


def _gone(
    tier: TierPolicy,
    now: BackupFact,
    expected: Mapping[str, RowsBefore],
    gone: Mapping[str, RowsBefore],
    health: HealthPolicy,
) -> Iterator[Finding]:
    """Tell of all tables that are gone at once: a dropped schema may have had thousands."""
    if not gone:
        return
    rows, all_rows = (sum(before.rows for before in tables.values()) for tables in (gone, expected))
    yield Finding(
        rule="tables_gone",
        subject=tier.name,
        severity=Severity.CRITICAL if rows / all_rows > health.rows_lost_share else Severity.WARNING,
        evidence=f"{now.backup_id} lacks {len(gone)} of {len(expected)} tables, which had {rows} of {all_rows} rows: "
        f"{_some(gone)}",
        next_step="find out whether somebody dropped them on purpose, and acknowledge it then; if not, hold "
        f"{_some({before.backup_id for before in gone.values()})} and restore the rows with restore_table",
        gone=gone,
    )


def _most_rows(facts: HealthFacts, tier: TierPolicy, earlier: Sequence[BackupFact]) -> dict[str, RowsBefore]:
    found: dict[str, RowsBefore] = {}
    for item in earlier:
        for table, rows in (item.rows or {}).items():
            if table not in found or rows >= found[table].rows:
                found[table] = RowsBefore(backup_id=item.backup_id, rows=rows)
    told = {
        subject.removeprefix(f"{tier.name}:"): before
        for subject, before in facts.rows_before.items()
        if subject.startswith(f"{tier.name}:")
    }
    return {**found, **told}


def _is_expected(table: str, tier: TierPolicy, source: SourcePolicy) -> bool:
    """Say whether a full backup would have a table, if it were there: the policy may leave it out since then."""
    left_out = table in source.excluded_tables or table.partition(".")[0] in source.excluded_schemas
    return tier.kind == FULL and not left_out


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def _ago(now: datetime, then: datetime) -> str:
    return f"{_hours(now - then)} ago"


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.0f} days"
