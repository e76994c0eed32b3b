"""hold: keep a backup beyond its time, say who, why and until when, and let it go again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from include.backup.chain import user_name
from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.every_backup import every_backup
from include.backup.evidence import open_ledger
from include.backup.holds import HoldState, add_hold, list_holds, parse_until, release_hold
from include.backup.inventory import find_backup
from include.backup.steps.context import SAFETY_PREFIX, encryption_of, utc_now


def run(session: Session) -> int:
    """Do what the action says."""
    return _ACTIONS[session.arguments.action](session)


def _add(session: Session) -> int:
    catalog = every_backup(session.source, session.store, also=(SAFETY_PREFIX,))
    backup_id = find_backup(catalog, session.source.name, session.arguments.backup, tier=session.arguments.tier)
    catalog.locate(backup_id)
    hold = add_hold(
        session.store,
        open_ledger(session.source, session.store),
        encryption=encryption_of(session.source, session.store),
        backup_id=backup_id,
        reason=session.arguments.reason,
        set_by=user_name(),
        now=utc_now(),
        until=parse_until(session.arguments.until),
    )
    end = "it is released" if hold.until is None else f"{hold.until:%Y-%m-%d %H:%M} UTC"
    session.output.result("hold", _plain(hold), [f"hold {hold.hold_id}: {backup_id} is kept until {end}"])
    return 0


def _list(session: Session) -> int:
    now = utc_now()
    states = [
        state for state in list_holds(session.store, session.source.name) if session.arguments.all or state.active(now)
    ]
    rows = [(state.hold_id, state.backup_id, "yes" if state.active(now) else "no", _why(state)) for state in states]
    document = {"holds": [{**_plain(state), "active": state.active(now)} for state in states]}
    lines = list(columns(("hold", "backup", "active", "why"), rows)) if rows else ["nothing is held"]
    session.output.result("hold", document, lines)
    return 0


def _release(session: Session) -> int:
    release = release_hold(
        session.store,
        open_ledger(session.source, session.store),
        encryption=encryption_of(session.source, session.store),
        hold_id=session.arguments.hold_id,
        reason=session.arguments.reason,
        released_by=user_name(),
        now=utc_now(),
    )
    line = f"hold {release.hold_id} is released; the retention decides about {release.backup_id} from now on"
    session.output.result("hold", _plain(release), [line])
    return 0


def _why(state: HoldState) -> str:
    if state.release is None:
        return state.line()
    return f"{state.line()}; released by {state.release.released_by}: {state.release.reason}"


def _plain(record: Any) -> dict[str, Any]:
    return {name: _text(value) for name, value in asdict(record).items()}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _text(item) for name, item in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else value


_ACTIONS = {"add": _add, "list": _list, "release": _release}
