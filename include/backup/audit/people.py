"""Who did what: restores and their approvals, alerts and their answers, and changes of access, keys and holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from include.backup.audit.event_values import moment_of, number_of, text_of
from include.backup.audit.facts import AuditFacts
from include.backup.audit.policy import policy_changes
from include.backup.audit.report import ActorRow, AlertRow, ChangeRow, DeletionRow, KeyRow, RestoreRow
from include.backup.evidence.record import Event, EventKind
from include.backup.health.alerts import Alert

SCHEDULE = "the schedule"
_BY = " by "


def within(events: Iterable[Event], *, begin: datetime, until: datetime) -> tuple[Event, ...]:
    """Return the events of the month."""
    return tuple(event for event in events if begin <= event.recorded_at < until)


def who(actor: str) -> str:
    """Return the person of an actor as the evidence names it, or that the schedule acted.

    >>> who("pulse_messages.restore_database manual__1 by ann"), who("backup_cleanup scheduled__1"), who("bob")
    ('ann', 'the schedule', 'bob')
    """
    run, separator, person = actor.rpartition(_BY)
    if separator and run:
        return person
    return SCHEDULE if " " in actor else actor


def restore_rows(events: Iterable[Event]) -> tuple[RestoreRow, ...]:
    """Return what was restored, who asked, and who approved."""
    return tuple(_restore(event) for event in events if event.kind is EventKind.RESTORE)


def unapproved(row: RestoreRow) -> bool:
    """Say whether production was written to and no approval is recorded."""
    return row.production is True and row.what != "undone" and not row.approved_by


def _restore(event: Event) -> RestoreRow:
    facts = event.facts
    approval = facts.get("approval")
    given: Mapping[str, Any] = approval if isinstance(approval, Mapping) else facts
    production = facts.get("production")
    return RestoreRow(
        at=event.recorded_at,
        subject=event.subject,
        what=_what(facts),
        backup_id=text_of(facts.get("backup_id")),
        production=production if isinstance(production, bool) else None,
        requested_by=text_of(given.get("requested_by")) or text_of(facts.get("requested_by")),
        approved_by=text_of(given.get("approved_by")),
        reason=text_of(facts.get("reason")) or "",
        seconds=number_of(facts.get("seconds")),
        actor=event.actor,
    )


def _what(facts: Mapping[str, Any]) -> str:
    if facts.get("undone"):
        return "undone"
    if "files" in facts:
        return f"files into {facts.get('target')}"
    if "target" in facts and "database" not in facts:
        return f"point in time: {facts['target']}"
    database = text_of(facts.get("database")) or "?"
    if "released" in facts:
        return f"{database} acts again"
    tables = facts.get("tables") if isinstance(facts.get("tables"), list) else None
    if tables or "mode" in facts:
        return f"tables into {database}"
    return f"database {database}"


def deletion_rows(events: Iterable[Event]) -> tuple[DeletionRow, ...]:
    """Return what was deleted, and why."""
    return tuple(
        DeletionRow(
            at=event.recorded_at,
            subject=event.subject,
            reason=": ".join(
                text for text in (text_of(event.facts.get("reason")), text_of(event.facts.get("detail"))) if text
            ),
            size=int(size) if (size := number_of(event.facts.get("bytes"))) is not None else None,
            actor=event.actor,
        )
        for event in events
        if event.kind is EventKind.DELETION
    )


def actor_rows(events: Iterable[Event]) -> tuple[ActorRow, ...]:
    """Return who did how much of what, people before the schedule."""
    counts: dict[str, dict[str, int]] = {}
    for event in events:
        did = counts.setdefault(who(event.actor), {})
        did[event.kind.value] = did.get(event.kind.value, 0) + 1
    names = sorted(counts, key=lambda name: (name == SCHEDULE, name))
    return tuple(ActorRow(who=name, did=dict(sorted(counts[name].items()))) for name in names)


def change_rows(events: Iterable[Event]) -> tuple[ChangeRow, ...]:
    """Return the changes of policy, access, keys and holds that somebody recorded."""
    return tuple(
        row
        for event in events
        for row in (
            policy_changes(event)
            if event.kind is EventKind.POLICY_CHANGE
            else [_change_row(event)]
            if event.kind in (EventKind.HOLD, EventKind.APPROVAL)
            else ()
        )
    )


def key_rows(facts: AuditFacts) -> tuple[KeyRow, ...]:
    """Return by which keys the stored backups are encrypted, the oldest first: a new one is a change of keys."""
    moments: dict[str, list[datetime]] = {}
    for one in facts.backups:
        if one.problem is None and one.encryption is not None:
            name = " ".join(part for part in (one.encryption, one.kms_key) if part)
            moments.setdefault(name, []).append(one.snapshot_time or one.run_after)
    rows = (KeyRow(key=key, backups=len(when), first=min(when), last=max(when)) for key, when in moments.items())
    return tuple(sorted(rows, key=lambda row: (row.first, row.key)))


def alert_rows(
    events: Iterable[Event], open_alerts: Iterable[Alert], *, begin: datetime, until: datetime
) -> tuple[AlertRow, ...]:
    """Return every alert that was open in the month; one that is not resolved counts up to the month's end.

    An alert is one condition since one time: raised, acknowledged and resolved by events that name both.
    """
    found: dict[tuple[str, datetime], dict[str, Any]] = {}
    for event in events:
        if event.kind is EventKind.ALERT and (since := moment_of(event.facts.get("since"))) is not None:
            known = found.setdefault((event.subject, since), {})
            known[str(event.facts.get("what"))] = event
    for alert in open_alerts:
        found.setdefault((alert.key, alert.since), {})["open"] = alert
    rows = (_alert(key, since, known, until) for (key, since), known in found.items())
    return tuple(
        sorted(
            (row for row in rows if row.since < until and (row.resolved_at is None or row.resolved_at >= begin)),
            key=lambda row: (row.since, row.key),
        )
    )


def _alert(key: str, since: datetime, known: Mapping[str, Any], until: datetime) -> AlertRow:
    alert, raised = known.get("open"), known.get("raised")
    resolved, acknowledged = known.get("resolved"), known.get("acknowledged")
    facts: Mapping[str, Any] = next((event.facts for event in (resolved, raised) if event is not None), {})
    by = text_of(facts.get("acknowledged_by")) or (None if alert is None else alert.acknowledged_by)
    return AlertRow(
        key=key,
        severity=str(facts.get("severity") or (alert.severity.value if alert is not None else "")),
        since=since,
        resolved_at=None if resolved is None else resolved.recorded_at,
        seconds=((until if resolved is None else resolved.recorded_at) - since).total_seconds(),
        acknowledged_by=by if acknowledged is None else acknowledged.actor,
        acknowledged_after=None if acknowledged is None else (acknowledged.recorded_at - since).total_seconds(),
        evidence=str(facts.get("evidence") or (alert.evidence if alert is not None else "")),
    )


def _change_row(event: Event) -> ChangeRow:
    return ChangeRow(
        at=event.recorded_at,
        what=_change(event),
        subject=event.subject,
        actor=event.actor,
        detail="; ".join(f"{name}: {value}" for name, value in event.facts.items() if value is not None)[:500],
    )


def _change(event: Event) -> str:
    action = text_of(event.facts.get("action"))
    return f"{event.kind.value.replace('_', ' ')} {action}" if action else event.kind.value.replace("_", " ")


def unresolved(rows: Iterable[AlertRow]) -> Iterator[AlertRow]:
    """Yield the alerts that were still open when the month ended."""
    return (row for row in rows if row.resolved_at is None)
