"""Holds: recorded reasons why a backup must not be deleted. Set once, released by a second record, never changed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from include.backup.backup_id import parse_backup_id
from include.backup.errors import ArchiveError, HoldError, ParameterError
from include.backup.evidence import EventKind, Ledger
from include.backup.records import Record, from_json, to_json
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
SHORTEST_REASON = 5
_TIME = "%Y%m%dT%H%M%SZ"
_SET, _RELEASED = ".hold.json", ".released.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why, by whom and until when a backup is kept; ``until`` None means until it is released."""

    hold_id: str
    backup_id: str
    reason: str
    set_by: str
    set_at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The end of a hold: who ended it, and why."""

    hold_id: str
    backup_id: str
    reason: str
    released_by: str
    released_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldState:
    """A hold as the store has it. ``hold`` None means that its record cannot be read: then it counts."""

    hold_id: str
    backup_id: str
    hold: Hold | None
    release: Release | None

    def active(self, now: datetime) -> bool:
        """Say whether the backup must be kept because of it."""
        if self.release is not None:
            return False
        return self.hold is None or self.hold.until is None or now < self.hold.until

    def line(self) -> str:
        """Return who holds it, why and until when."""
        if self.hold is None:
            return f"hold {self.hold_id}, whose record cannot be read"
        until = "released" if self.hold.until is None else f"{self.hold.until:%Y-%m-%d %H:%M} UTC"
        return f"held by {self.hold.set_by} until {until}: {self.hold.reason}"


def holds_prefix(source: str) -> str:
    """Return where the holds of a source lie."""
    return f"holds/{source}/"


def add_hold(
    store: ObjectStore,
    ledger: Ledger,
    *,
    encryption: Encryption,
    backup_id: str,
    reason: str,
    set_by: str,
    now: datetime,
    until: datetime | None = None,
    hold_id: str | None = None,
) -> Hold:
    """Set a hold, and record it as evidence; a retry with the same ``hold_id`` finds it.

    Raises HoldError for a reason that is none, an end that is past, or the id of another backup's hold. Whether
    there is such a backup is the caller's to check.
    """
    if len(reason.strip()) < SHORTEST_REASON:
        raise HoldError(f"the reason {reason!r} says nothing; write for whom this backup is kept, and why")
    if until is not None and (until.tzinfo is None or until <= now):
        raise HoldError(f"a hold until {until.isoformat()} would have ended already; give a later time with its zone")
    if parse_backup_id(backup_id).source != ledger.source:
        raise HoldError(f"{backup_id} is no backup of {ledger.source}; name its source")
    wanted = hold_id or f"{now:{_TIME}}_{secrets.token_hex(3)}"
    there = {state.hold_id: state for state in list_holds(store, ledger.source)}.get(wanted)
    if there is not None and there.backup_id != backup_id:
        raise HoldError(f"hold {wanted} is about {there.backup_id}; start a new run")
    hold = (there and there.hold) or Hold(
        hold_id=wanted, backup_id=backup_id, reason=reason.strip(), set_by=set_by, set_at=now, until=until
    )
    content = to_json(hold, format_version=FORMAT_VERSION)
    store.put_if_absent(_key(ledger.source, hold.backup_id, hold.hold_id, _SET), content, encryption=encryption)
    ledger.append(
        EventKind.HOLD,
        subject=hold.backup_id,
        actor=hold.set_by,
        facts={"action": "set", "hold_id": hold.hold_id, "reason": hold.reason, "until": hold.until},
        once=f"hold:{hold.hold_id}",
    )
    return hold


def release_hold(
    store: ObjectStore,
    ledger: Ledger,
    *,
    encryption: Encryption,
    hold_id: str,
    reason: str,
    released_by: str,
    now: datetime,
) -> Release:
    """Release a hold, and record it as evidence; a second release finds the first.

    Raises HoldError when there is no such hold, or no reason.
    """
    if len(reason.strip()) < SHORTEST_REASON:
        raise HoldError(f"the reason {reason!r} says nothing; write why this backup may go now")
    states = {state.hold_id: state for state in list_holds(store, ledger.source)}
    if hold_id not in states:
        listing = f"`python -m include.backup hold list {ledger.source}`"
        raise HoldError(f"{ledger.source} has no hold {hold_id}; {listing} shows them")
    state = states[hold_id]
    release = state.release or Release(
        hold_id=hold_id, backup_id=state.backup_id, reason=reason.strip(), released_by=released_by, released_at=now
    )
    content = to_json(release, format_version=FORMAT_VERSION)
    store.put_if_absent(_key(ledger.source, state.backup_id, hold_id, _RELEASED), content, encryption=encryption)
    ledger.append(
        EventKind.HOLD,
        subject=release.backup_id,
        actor=release.released_by,
        facts={"action": "released", "hold_id": hold_id, "reason": release.reason},
        once=f"release:{hold_id}",
    )
    return release


def list_holds(store: ObjectStore, source: str) -> tuple[HoldState, ...]:
    """Return all holds of a source, oldest first, also those that ended."""
    prefix = holds_prefix(source)
    found: dict[tuple[str, str], set[str]] = {}
    for item in store.list(prefix):
        backup_id, _, name = item.key.removeprefix(prefix).partition("/")
        for suffix in (_SET, _RELEASED):
            if name.endswith(suffix):
                found.setdefault((backup_id, name.removesuffix(suffix)), set()).add(suffix)
    states = (_state(store, source, backup_id, hold_id, there) for (backup_id, hold_id), there in found.items())
    return tuple(sorted(states, key=lambda state: state.hold_id))


def held_backups(states: Iterable[HoldState], now: datetime) -> Mapping[str, str]:
    """Return the backups that are held, each with the reasons."""
    held: dict[str, str] = {}
    for state in states:
        if state.active(now):
            held[state.backup_id] = "; ".join(filter(None, (held.get(state.backup_id), state.line())))
    return held


def parse_until(text: str | None) -> datetime | None:
    """Return a time as a person writes it; raises ParameterError unless it has a zone, None for nothing."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ParameterError(f"{text!r} is no time; write e.g. 2027-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ParameterError(f"{text!r} has no time zone; write e.g. {text}Z for UTC")
    return moment


def _state(store: ObjectStore, source: str, backup_id: str, hold_id: str, there: set[str]) -> HoldState:
    return HoldState(
        hold_id=hold_id,
        backup_id=backup_id,
        hold=_read(store, Hold, _key(source, backup_id, hold_id, _SET)) if _SET in there else None,
        release=_read(store, Release, _key(source, backup_id, hold_id, _RELEASED)) if _RELEASED in there else None,
    )


def _read(store: ObjectStore, kind: type[Record], key: str) -> Record | None:
    """Return a record, or None for one that cannot be read: a hold then counts, and a release does not."""
    try:
        return from_json(kind, store.get(key), format_version=FORMAT_VERSION, name=key)
    except ArchiveError:
        return None


def _key(source: str, backup_id: str, hold_id: str, suffix: str) -> str:
    return f"{holds_prefix(source)}{backup_id}/{hold_id}{suffix}"
