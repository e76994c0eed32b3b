"""One look at a source's health: rules, alerts, evidence, heartbeat. Who tells people is handed in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from include.backup.evidence.ledger import Ledger
from include.backup.evidence.record import EventKind
from include.backup.health.alerts import Alert, advance, recorded, sent
from include.backup.health.backup_rules import backup_findings
from include.backup.health.board import Board, Heartbeat
from include.backup.health.facts import HealthFacts
from include.backup.health.finding import Finding, Severity
from include.backup.health.platform_rules import platform_findings
from include.backup.health.use import Use
from include.backup.policy import SourcePolicy
from include.backup.policy.health import HealthPolicy

SHOWN = 5
# Tells people of some alerts, and of some that are resolved; returns whether the message arrived.
Tell = Callable[[tuple[Alert, ...], tuple[Alert, ...]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What one look found."""

    source: str
    open: tuple[Alert, ...]
    raised: int
    resolved: int
    told: int
    delivered: bool

    def to_dict(self) -> dict[str, Any]:
        """Return ids and numbers."""
        return {
            "source": self.source,
            "open": [alert.key for alert in self.open],
            "raised": self.raised,
            "resolved": self.resolved,
            "told": self.told,
            "delivered": self.delivered,
        }

    def line(self) -> str:
        """Return one line of evidence."""
        worst = sum(alert.severity is Severity.CRITICAL for alert in self.open)
        state = f"{len(self.open)} alerts open, {worst} of them critical" if self.open else "healthy"
        told = "" if self.delivered or not self.told else "; NOBODY COULD BE TOLD"
        return f"{self.source}: {state}; {self.raised} raised, {self.resolved} resolved, {self.told} told{told}"


def find(facts: HealthFacts, source: SourcePolicy) -> tuple[Finding, ...]:
    """Return everything that is wrong, the worst first."""
    health = source.health or HealthPolicy()
    findings = (*backup_findings(facts, source, health), *platform_findings(facts, source, health))
    return tuple(sorted(findings, key=lambda finding: (finding.severity is not Severity.CRITICAL, finding.key)))


def look(
    facts: HealthFacts,
    source: SourcePolicy,
    *,
    board: Board,
    ledger: Ledger,
    run_id: str,
    tell: Tell,
    log: logging.Logger,
) -> HealthReport:
    """Apply the rules, tell people, keep what was told, and write the heartbeat.

    The alerts are written first, with those that end: whatever a kill leaves out of evidence and messages, the next
    look makes up for. People may be told twice, never not at all.
    """
    health = source.health or HealthPolicy()
    before, untold = board.last_look()
    now = facts.now
    turn = advance(
        before, find(facts, source), board.acknowledgements(before), now=now, resend_after=health.resend_after
    )
    ended = (*untold, *turn.resolved)
    board.replace_open(turn.open, ended=ended, at=now)
    _keep_evidence(ledger, (alert for alert in (*turn.open, *ended) if not alert.recorded), "raised", run_id, now)
    _keep_evidence(ledger, ended, "resolved", run_id, now)
    open_now, ended = recorded(turn.open), recorded(ended)
    for alert in open_now:
        name = f"{alert.severity} {alert.key} ({alert.short_id})"
        log.warning("%s: %s. Next: %s", name, alert.evidence, alert.next_step)
    to_tell = len(turn.send) + len(ended)
    delivered = tell(turn.send, ended) if to_tell else True
    if delivered:
        open_now, ended = sent(open_now, turn.send, at=now), ()
    board.replace_open(open_now, ended=ended, at=now)
    if facts.disks:
        board.add_use(Use(at=now, disks={disk.name: disk.used for disk in facts.disks}))
    board.beat(Heartbeat(source=facts.source, at=now, alerts=len(open_now), run_id=run_id))
    return HealthReport(
        source=facts.source,
        open=open_now,
        raised=len(turn.raised),
        resolved=len(turn.resolved),
        told=to_tell,
        delivered=delivered,
    )


def _keep_evidence(ledger: Ledger, alerts: Iterable[Alert], what: str, run_id: str, now: datetime) -> None:
    for alert in alerts:
        name = f"{what}:{alert.key}:{alert.since.isoformat()}"
        if what == "raised" and alert.worse_at is not None:
            # It is raised once more, and holds since the same time.
            name = f"{name}:{alert.worse_at.isoformat()}"
        ledger.append(
            EventKind.ALERT,
            subject=alert.key,
            actor=run_id,
            facts={
                "what": what,
                "severity": alert.severity.value,
                "evidence": alert.evidence,
                "since": alert.since.isoformat(),
                "seconds": round((now - alert.since).total_seconds()),
                "acknowledged_by": alert.acknowledged_by,
            },
            once=name,
        )


def message(source: str, alerts: tuple[Alert, ...], resolved: tuple[Alert, ...], *, now: datetime, url: str) -> str:
    """Return what people read: what, since when, what to do; alerts of one kind share a paragraph.

    Slack shows texts of others, such as the name of a table, as they are: they are escaped.
    """
    kinds: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in alerts:
        kinds.setdefault((alert.severity, alert.rule, alert.next_step), []).append(alert)
    lines = []
    for (severity, rule, next_step), same in kinds.items():
        sign = "🔴" if severity == Severity.CRITICAL else "🟠"
        oldest = min(alert.since for alert in same)
        since = "now" if oldest == now else f"since {oldest:%Y-%m-%d %H:%M} UTC"
        shown = "; ".join(f"{_text(alert.evidence)} [`{alert.short_id}`]" for alert in same[:SHOWN])
        more = f"; and {len(same) - SHOWN} more" if len(same) > SHOWN else ""
        lines.append(f"{sign} *{_text(source)}* {rule} ({since}): {shown}{more}\n*Next:* {_text(next_step)}")
    for alert in resolved:
        about = _text(alert.subject)
        lines.append(f"✅ *{_text(source)}* {alert.rule} of {about} is resolved, after {now - alert.since}")
    if alerts:
        lines.append(f"Whoever takes care of it: `{_text(source)}.acknowledge_alert` with its id")
    return "\n".join([*lines, f"<{url}|run>"]) if lines else ""


def _text(text: str) -> str:
    return escape(text, quote=False)
