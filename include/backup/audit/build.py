"""Build the report of a month from its facts: pure, and the same for the same facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from include.backup.audit.controls import REMOVED_WITHIN, control_rows, off_site
from include.backup.audit.event_values import number_of, text_of
from include.backup.audit.facts import AuditFacts, BackupFact
from include.backup.audit.fleet import fleet_rows
from include.backup.audit.objectives import (
    backup_points,
    daily_exposure,
    objective_rows,
    restore_times,
    wal_points,
)
from include.backup.audit.people import (
    actor_rows,
    alert_rows,
    change_rows,
    deletion_rows,
    key_rows,
    restore_rows,
    unapproved,
    unresolved,
    within,
)
from include.backup.audit.policy import policy_row
from include.backup.audit.report import BackupRow, CopiesRow, LedgerRow, LiveTest, PriceList, Report, Shown
from include.backup.audit.storage import cost_rows
from include.backup.audit.tiers import PASSED, known_since, tier_rows
from include.backup.evidence.record import EventKind
from include.backup.inventory import Standing
from include.backup.policy import SourcePolicy
from include.backup.policy.health import HealthPolicy
from include.backup.retention.cleanup import cleanup_rules
from include.backup.retention.plan import Decision, Reason, TierRule

NOT_ASKED = "not asked"
NAMED = 5


def build_report(facts: AuditFacts, source: SourcePolicy, *, tested_by: str | None = None) -> Report:
    """Return the report. ``tested_by`` is who made a live restore test for it, as its proof's record names the actor.

    What was due within the time after which health calls it late does not count as missed yet.
    """
    begin, until = facts.month.begin, min(facts.month.end, facts.made_at)
    late_after = (source.health or HealthPolicy()).late_after
    due_until = min(until, facts.made_at - late_after)
    events = within(facts.ledger.events, begin=begin, until=until)
    known = known_since(facts)
    since = until if known is None else min(max(begin, known), until)
    decisions = {decision.backup.backup_id: decision for decision in facts.decisions}
    newest = {(one.tier, one.kind): one.backup_id for one in facts.backups}
    rows = tuple(
        _backup(_with_key(one, facts, newest), decisions.get(one.backup_id), facts, source) for one in facts.backups
    )
    report = Report(
        source=facts.source,
        month=str(facts.month),
        begin=begin,
        until=until,
        made_at=facts.made_at,
        made_by=facts.made_by,
        problems=(),
        tiers=tier_rows(facts, source, begin=begin, until=due_until),
        backups=tuple(sorted(rows, key=lambda row: (row.tier, row.data_of, row.backup_id), reverse=True)),
        incomplete=facts.incomplete,
        kept=_kept(facts.decisions),
        deletions=deletion_rows(events),
        costs=cost_rows(facts.uses, source.audit.prices),
        prices=PriceList(
            currency=source.audit.prices.currency,
            region=source.audit.prices.region,
            as_of=source.audit.prices.as_of.isoformat(),
            per_gib_month=dict(source.audit.prices.per_gib_month),
        ),
        trend=facts.trend,
        objectives=objective_rows(facts, source, begin=begin, until=until),
        exposure=daily_exposure([*backup_points(facts), *wal_points(facts)], begin=since, until=until),
        restore_seconds=restore_times(events, begin=begin, until=until),
        restores=restore_rows(events),
        alerts=alert_rows(facts.ledger.events, facts.open_alerts, begin=begin, until=until),
        actors=actor_rows(events),
        keys=key_rows(facts),
        changes=change_rows(events),
        live_test=_live_test(facts, tested_by),
        ledger=LedgerRow(
            records=facts.ledger.records,
            checked=facts.ledger.checked,
            head=facts.ledger.head,
            findings=facts.ledger.findings,
        ),
        copies=_copies(facts),
        store_tls=facts.store_tls,
        controls=(),
        fleet=fleet_rows(facts.fleet, facts.rejected_sources, now=facts.made_at),
        policy=policy_row(facts.policies, until=until),
        copies_met=CopiesRow(reports=facts.copies.reports, met=facts.copies.met, newest_at=facts.copies.newest_at),
        overdue=tuple(_overdue(facts, cleanup_rules(source))),
    )
    report = replace(report, controls=control_rows(report))
    return replace(report, problems=tuple(_problems(report)))


def _backup(one: BackupFact, decision: Decision | None, facts: AuditFacts, source: SourcePolicy) -> BackupRow:
    differences = () if one.asked is None else one.asked.differences
    return BackupRow(
        backup_id=one.backup_id,
        tier=one.tier,
        kind=one.kind,
        data_of=one.snapshot_time or one.run_after,
        size=one.size,
        rows=one.rows,
        standing=one.standing.value,
        proof_level=one.proof_level,
        proven_at=one.proven_at,
        proof_seconds=one.proof_seconds,
        encryption=" ".join(part for part in (one.encryption or "unknown", one.kms_key) if part),
        encryption_fits=one.problem is None and not differences and _encrypted(one, source),
        lock=_lock(one, facts),
        storage_class=one.storage_class,
        decision="" if decision is None else ("expires" if decision.expires else decision.reason.value),
        detail="" if decision is None else decision.detail,
        left_out=one.left_out,
        problem=one.problem or ("; ".join(differences) or None),
    )


def _with_key(one: BackupFact, facts: AuditFacts, newest: Mapping[tuple[str, str], str]) -> BackupFact:
    """Say of the newest of each tier and kind that its key is not the policy's; an older one may have had another."""
    other = None not in (facts.key_arn, one.kms_key) and one.kms_key != facts.key_arn
    if not other or newest[one.tier, one.kind] != one.backup_id:
        return one
    return replace(one, problem=one.problem or "its key is not the one that the policy names now")


def _encrypted(one: BackupFact, source: SourcePolicy) -> bool:
    wanted = source.store.encryption
    return wanted.sse is None or (
        one.encryption == wanted.sse and (wanted.kms_key_id is None or one.kms_key is not None)
    )


def _lock(one: BackupFact, facts: AuditFacts) -> str:
    if not facts.object_lock:
        return "none: the bucket has no Object Lock"
    if one.asked is None:
        return NOT_ASKED
    return one.asked.lock or "none"


def _kept(decisions: tuple[Decision, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for decision in decisions:
        if not decision.expires:
            counts[decision.reason.value] = counts.get(decision.reason.value, 0) + 1
    return counts


def _overdue(facts: AuditFacts, rules: Mapping[str, TierRule]) -> Iterator[str]:
    """Yield what expired longer ago than a cleanup needs; what is thinned out ends at no time of its own."""
    for decision in facts.decisions:
        backup = decision.backup
        if decision.reason is Reason.EXPIRED and backup.tier in rules:
            ended = rules[backup.tier].keep.after(backup.counts_from or backup.snapshot_time)
            if facts.made_at - ended > REMOVED_WITHIN:
                yield backup.backup_id


def _live_test(facts: AuditFacts, tested_by: str | None) -> LiveTest:
    nothing = LiveTest(
        passed=None, backup_id=None, proof_id=None, at=None, rows=None, seconds=None, detail="no live restore test"
    )
    if tested_by is None:
        return nothing
    made = [event for event in facts.ledger.events if event.kind is EventKind.PROOF and event.actor == tested_by]
    if not made:
        return replace(nothing, detail="the live restore test of this report left no proof")
    newest = made[-1]
    rows = number_of(newest.facts.get("rows"))
    passed = newest.facts.get("result") == PASSED
    how = "every row was identical" if passed else f"{newest.facts.get('differences', '?')} DIFFERENCES"
    return LiveTest(
        passed=passed,
        backup_id=newest.subject,
        proof_id=text_of(newest.facts.get("proof_id")),
        at=newest.recorded_at,
        rows=None if rows is None else int(rows),
        seconds=number_of(newest.facts.get("seconds")),
        detail=f"{newest.subject} was restored for this report and compared: {how}",
    )


def _copies(facts: AuditFacts) -> str:
    copies = facts.copies
    if copies.newest is None:
        return ""
    return f"{copies.newest}; met in {copies.met} of {copies.reports} reports of the month"


def _problems(report: Report) -> Iterator[str]:
    """Yield what a person has to look at, the worst first."""
    if report.live_test.passed is False:
        yield f"the live restore test FAILED: {report.live_test.detail}"
    elif report.live_test.detail.endswith("left no proof"):
        yield report.live_test.detail
    yield from (f"the ledger of evidence: {text}" for text in report.ledger.findings)
    count = len(report.backups)
    failed = [row.backup_id for row in report.backups if row.standing in (Standing.FAILED, Standing.UNREADABLE)]
    if failed:
        yield f"{len(failed)} of {count} backups failed their newest proof, or it is unreadable: {_named(failed)}"
    yield from _missing(report)
    plain = [row.backup_id for row in report.backups if not row.encryption_fits]
    if plain:
        yield f"{len(plain)} of {count} backups are not known to be encrypted as the policy says: {_named(plain)}"
    yield from (
        f"{row.name}: {row.worst / 3600:.1f} hours measured, {row.objective / 3600:.1f} promised"
        for row in report.objectives
        if row.state is Shown.CONTRADICTED and row.worst is not None
    )
    yield from (
        f"restore {row.subject} wrote to production, and no approval is on record"
        for row in report.restores
        if unapproved(row)
    )
    state, copies = off_site(report)
    if state is Shown.CONTRADICTED:
        yield copies
    if report.overdue:
        days = REMOVED_WITHIN.days
        yield f"{len(report.overdue)} backups expired more than {days} days ago and are there: {_named(report.overdue)}"
    still = [row.key for row in unresolved(report.alerts) if row.severity == "critical"]
    if still:
        yield f"critical alerts that were still open: {_named(still)}"
    if report.not_protected:
        yield f"not protected as the policy says: {_named(report.not_protected)}"


def _missing(report: Report) -> Iterator[str]:
    yield from (
        f"{len(row.missed)} of {row.due} {row.tier} backups were due and not made: {_named(row.missed)}"
        for row in report.tiers
        if row.missed
    )
    yield from (
        f"{row.made - row.proven} of the {row.made} {row.tier} backups of the month are not proven"
        for row in report.tiers
        if row.proven < row.made
    )
    if report.incomplete:
        yield f"archive or manifest is missing, so that it is no backup: {_named(report.incomplete)}"


def _named(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
