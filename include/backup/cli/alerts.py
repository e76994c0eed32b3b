"""alerts: list the open ones, and say that a person knows of one."""

from __future__ import annotations

from typing import Any

from include.backup.chain import user_name
from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.evidence import open_ledger
from include.backup.health.acknowledge import acknowledge
from include.backup.health.alerts import Acknowledgement, Alert
from include.backup.health.board import Board
from include.backup.holds import parse_until
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
        known = "-" if answer is None or not answer.knows(alert) else _known(answer)
        since = f"{alert.since:%Y-%m-%d %H:%M}"
        rows.append((alert.short_id, alert.severity.value, alert.key, since, known, alert.evidence))
    titles = ("id", "severity", "alert", "since (UTC)", "known to", "evidence")
    lines = list(columns(titles, rows)) if rows else ["no alerts"]
    session.output.result("alerts", {"alerts": [_plain(alert) for alert in alerts]}, lines)
    return 0


def _acknowledge(session: Session, board: Board) -> int:
    done = acknowledge(
        board,
        open_ledger(session.source, session.store),
        session.arguments.alert,
        by=user_name(),
        note=session.arguments.note,
        now=utc_now(),
        until=parse_until(session.arguments.until),
    )
    session.output.result("alerts", {"acknowledged": _plain(done.alert)}, [done.line()])
    return 0


def _known(said: Acknowledgement) -> str:
    until = "" if said.until is None else f" (until {said.until:%Y-%m-%d %H:%M})"
    return f"{said.by}: {said.note}{until}"


def _plain(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.short_id,
        "alert": alert.key,
        "severity": alert.severity.value,
        "since": alert.since.isoformat(),
        "evidence": alert.evidence,
        "next_step": alert.next_step,
        "acknowledged_by": alert.acknowledged_by,
    }
