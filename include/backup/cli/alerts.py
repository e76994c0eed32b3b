"""alerts: list the open ones, and say that a person knows of one."""

from __future__ import annotations

from typing import Any

from include.backup.chain import user_name
from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.evidence import open_ledger
from include.backup.evidence.record import EventKind
from include.backup.health.alerts import Alert
from include.backup.health.board import Board
from include.backup.steps.context import encryption_of, utc_now


def run(session: Session) -> int:
    """Do what the action says."""
    board = Board(session.store, source=session.source.name, encryption=encryption_of(session.source, session.store))
    return _acknowledge(session, board) if session.arguments.action == "acknowledge" else _list(session, board)


def _list(session: Session, board: Board) -> int:
    alerts = board.open_alerts()
    said = {(item.key, item.since): item for item in board.acknowledgements(alerts)}
    rows = []
    for alert in alerts:
        answer = said.get((alert.key, alert.since))
        known = "-" if answer is None else f"{answer.by}: {answer.note}"
        rows.append((alert.severity.value, alert.key, f"{alert.since:%Y-%m-%d %H:%M}", known, alert.evidence))
    lines = list(columns(("severity", "alert", "since (UTC)", "known to", "evidence"), rows)) if rows else ["no alerts"]
    session.output.result("alerts", {"alerts": [_plain(alert) for alert in alerts]}, lines)
    return 0


def _acknowledge(session: Session, board: Board) -> int:
    now, who = utc_now(), user_name()
    alert = board.acknowledge(session.arguments.alert, by=who, at=now, note=session.arguments.note)
    open_ledger(session.source, session.store).append(
        EventKind.ALERT,
        subject=alert.key,
        actor=who,
        facts={"what": "acknowledged", "note": session.arguments.note, "since": alert.since.isoformat()},
        once=f"acknowledged:{alert.key}:{alert.since.isoformat()}",
    )
    line = f"{alert.key} is known to {who}; it is not sent again unless it gets worse"
    session.output.result("alerts", {"acknowledged": _plain(alert)}, [line])
    return 0


def _plain(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.key,
        "severity": alert.severity.value,
        "since": alert.since.isoformat(),
        "evidence": alert.evidence,
        "next_step": alert.next_step,
        "acknowledged_by": alert.acknowledged_by,
    }
