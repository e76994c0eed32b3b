"""Acknowledging: a person says that they know of an alert, why it may wait, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from include.backup.errors import AmbiguousChoiceError, ParameterError
from include.backup.evidence.ledger import Ledger
from include.backup.evidence.record import EventKind
from include.backup.health.alerts import Acknowledgement, Alert
from include.backup.health.board import Board

SHORTEST_NOTE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An alert, and what counts of what was said of it."""

    alert: Alert
    said: Acknowledgement

    def line(self) -> str:
        """Return one line for who said it, and for the others."""
        until = "" if self.said.until is None else f" before {self.said.until:%Y-%m-%d %H:%M} UTC"
        return f"{self.alert.key} is known to {self.said.by}; it is not sent again{until} unless it gets worse"


def acknowledge(
    board: Board, ledger: Ledger, wanted: str, *, by: str, note: str, now: datetime, until: datetime | None = None
) -> Acknowledged:
    """Record that ``by`` knows of an open alert, beside the alert and in the evidence.

    Raises ParameterError, naming the open ones, when none or more than one is meant, for a note that says nothing, and
    for a time that is over. Repeating it finds what was said.
    """
    alert = find_alert(board.open_alerts(), wanted, source=ledger.source)
    if len(note.strip()) < SHORTEST_NOTE:
        raise ParameterError(f"the note {note!r} says nothing; write what you do about it")
    if until is not None and (until.tzinfo is None or until <= now):
        raise ParameterError(f"until {until.isoformat()} is over already; give a later time with its zone")
    record = Acknowledgement(key=alert.key, since=alert.since, by=by, at=now, note=note.strip(), until=until)
    said = board.add_acknowledgement(alert, record)
    name = f"acknowledged:{alert.key}:{alert.since.isoformat()}"
    ledger.append(
        EventKind.ALERT,
        subject=alert.key,
        actor=said.by,
        facts={
            "what": "acknowledged",
            "note": said.note,
            "since": alert.since.isoformat(),
            "until": None if said.until is None else said.until.isoformat(),
        },
        once=name if said.number == 1 else f"{name}:{said.number}",
    )
    return Acknowledged(alert=alert, said=said)


def find_alert(alerts: Sequence[Alert], wanted: str, *, source: str) -> Alert:
    """Return the alert that a person means: its id or its name, or the beginning of one of them if only one has it.

    Raises ParameterError, naming those that are open, when there is none, and AmbiguousChoiceError for several.
    """
    wanted = wanted.strip()
    exact = [alert for alert in alerts if wanted in (alert.key, alert.short_id)]
    fitting = exact or [alert for alert in alerts if wanted and _begins(alert, wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise AmbiguousChoiceError(f"{wanted!r} fits {len(fitting)} alerts of {source}: {_named(fitting)}; give an id")
    raise ParameterError(f"there is no open alert {wanted!r} of {source}; open: {_named(alerts) or 'none'}")


def _begins(alert: Alert, wanted: str) -> bool:
    return alert.key.startswith(wanted) or alert.short_id.startswith(wanted)


def _named(alerts: Sequence[Alert]) -> str:
    return ", ".join(f"{alert.key} ({alert.short_id})" for alert in alerts)
