"""Alerts: raised once, sent again until somebody answers, resolved when the condition is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from include.backup.health.finding import Finding, RowsBefore, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """That a person knows of an alert; it counts for the alert that was raised at ``since``, and for no later one.

    ``until`` is when it counts no more, None when the alert is over. ``number`` counts what was said of one alert.
    """

    key: str
    since: datetime
    by: str
    at: datetime
    note: str
    until: datetime | None = None
    number: int = 1

    def counts(self, now: datetime) -> bool:
        """Say whether it still keeps the alert from being sent again."""
        return self.until is None or now < self.until

    def knows(self, alert: Alert) -> bool:
        """Say whether it was said of the alert as it is, not of something less bad."""
        return alert.worse_at is None or self.at >= alert.worse_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A condition that holds since a time. ``sent_at`` is when a message of it last arrived.

    ``worse_at`` is when it became worse, and ``recorded`` says that the evidence has it as bad as it is. With what a
    table had ``rows_before``, or those that are ``gone``, later backups are compared until somebody acknowledges that
    it lost them.
    """

    key: str
    rule: str
    subject: str
    severity: Severity
    evidence: str
    next_step: str
    since: datetime
    seen_at: datetime
    sent_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    note: str = ""
    acknowledged_until: datetime | None = None
    worse_at: datetime | None = None
    recorded: bool = False
    rows_before: RowsBefore | None = None
    gone: Mapping[str, RowsBefore] = field(default_factory=dict, hash=False)

    @property
    def short_id(self) -> str:
        """Eight letters that people can type; another alert of the same condition has others."""
        return alert_name(self.key, self.since)[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one look changes: ``open`` is every alert that holds now, ``send`` those that people are to be told of."""

    open: tuple[Alert, ...]
    raised: tuple[Alert, ...]
    resolved: tuple[Alert, ...]
    send: tuple[Alert, ...]


def alert_name(key: str, since: datetime) -> str:
    """Return the name of one alert, for keys in the store: the same condition raised later has another."""
    return hashlib.sha256(f"{key}\0{since.isoformat()}".encode()).hexdigest()[:32]


def advance(
    before: Iterable[Alert],
    findings: Iterable[Finding],
    acknowledgements: Iterable[Acknowledgement],
    *,
    now: datetime,
    resend_after: timedelta,
) -> Round:
    """Return the alerts that hold now, and which of them are to be sent.

    An alert is sent when it is raised, when it became worse, until a message has arrived, and again after
    ``resend_after`` unless somebody has acknowledged it. Worse than what was acknowledged counts anew, and an
    acknowledgement whose time is over makes it due at once.
    """
    known = {alert.key: alert for alert in before}
    said = {(item.key, item.since): item for item in sorted(acknowledgements, key=lambda item: item.number)}
    found: dict[str, Finding] = {}
    for finding in findings:
        other = found.get(finding.key)
        if other is None or _worse(finding.severity, other.severity):
            found[finding.key] = finding
    open_now = [_seen(finding, known.get(key), said, now) for key, finding in found.items()]
    return Round(
        open=tuple(open_now),
        raised=tuple(alert for alert in open_now if alert.key not in known),
        resolved=tuple(alert for key, alert in known.items() if key not in found),
        send=tuple(alert for alert in open_now if _is_due(alert, now, resend_after)),
    )


def sent(alerts: Iterable[Alert], arrived: Iterable[Alert], *, at: datetime) -> tuple[Alert, ...]:
    """Return the alerts with the time at which a message of some of them has arrived."""
    keys = {alert.key for alert in arrived}
    return tuple(replace(alert, sent_at=at) if alert.key in keys else alert for alert in alerts)


def recorded(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Return the alerts as the evidence has them."""
    return tuple(replace(alert, recorded=True) for alert in alerts)


# What an alert says of its acknowledgement when nobody knows of it.
_UNKNOWN: dict[str, Any] = {"acknowledged_by": None, "acknowledged_at": None, "acknowledged_until": None, "note": ""}


def _seen(
    finding: Finding, known: Alert | None, said: Mapping[tuple[str, datetime], Acknowledgement], now: datetime
) -> Alert:
    alert = known or Alert(
        key=finding.key,
        rule=finding.rule,
        subject=finding.subject,
        severity=finding.severity,
        evidence=finding.evidence,
        next_step=finding.next_step,
        since=now,
        seen_at=now,
    )
    if known is not None and (_worse(finding.severity, known.severity) or finding.gone.keys() - known.gone.keys()):
        # Whoever acknowledged it knew of something less bad, or of fewer tables.
        alert = replace(alert, worse_at=now, recorded=False, sent_at=None, **_UNKNOWN)
    answer = said.get((alert.key, alert.since))
    if answer is not None and answer.counts(now) and answer.knows(alert):
        alert = replace(
            alert,
            acknowledged_by=answer.by,
            acknowledged_at=answer.at,
            note=answer.note,
            acknowledged_until=answer.until,
        )
    elif alert.acknowledged_until is not None and alert.acknowledged_until <= now:
        alert = replace(alert, sent_at=None, **_UNKNOWN)
    return replace(
        alert,
        severity=finding.severity,
        evidence=finding.evidence,
        next_step=finding.next_step,
        rows_before=finding.rows_before,
        gone=finding.gone,
        seen_at=now,
    )


def _is_due(alert: Alert, now: datetime, resend_after: timedelta) -> bool:
    if alert.sent_at is None:
        return True
    return alert.acknowledged_by is None and now - alert.sent_at >= resend_after


def _worse(one: Severity, other: Severity) -> bool:
    return one is Severity.CRITICAL and other is not Severity.CRITICAL
