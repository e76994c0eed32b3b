"""What was in force and what was changed in it: policies on record, as the evidence has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from include.backup.audit.event_values import number_of, text_of
from include.backup.audit.report import ChangeRow, PolicyRow
from include.backup.evidence.record import Event
from include.backup.policy.content import About, about

# What a change is about that its record does not name.
UNNAMED = "not named"
NAMES: Mapping[About, str] = {
    About.ACCESS: "change of access",
    About.KEY: "change of keys",
    About.POLICY: "change of policy",
}


def policy_row(policies: Iterable[Event], *, until: datetime) -> PolicyRow | None:
    """Return what was in force at the month's end; None where no policy was on record by then."""
    known = sorted((event for event in policies if event.recorded_at < until), key=lambda event: event.sequence)
    if not known:
        return None
    newest = known[-1]
    return PolicyRow(
        sha256=text_of(newest.facts.get("policy_sha256")) or "",
        since=newest.recorded_at,
        on_record_from=known[0].recorded_at,
        revision=text_of(newest.facts.get("revision")),
        author=author_of(newest),
        seen_by=newest.actor,
    )


def policy_changes(event: Event) -> Iterator[ChangeRow]:
    """Yield a row for each setting that an event says was changed, or one row where it names none."""
    listed = event.facts.get("changes")
    changes = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    yield from (_row(event, change) for change in changes)
    more = int(number_of(event.facts.get("changes_in_all")) or 0) - len(changes)
    if changes and more > 0:
        yield _named(
            event, NAMES[About.POLICY], event.subject, f"{more} more settings; the record has all", about=UNNAMED
        )
    elif not changes:
        yield _unnamed(event)


def author_of(event: Event) -> str | None:
    """Return who made what an event saw; nobody is known to have made what is not committed."""
    return None if event.facts.get("uncommitted") is True else text_of(event.facts.get("author"))


def _row(event: Event, change: Mapping[str, Any]) -> ChangeRow:
    path = text_of(change.get("path")) or "?"
    what = about(path)
    detail = f"{change.get('old')} → {change.get('new')}"
    return _named(event, NAMES[what], path, detail, about=what.value)


def _unnamed(event: Event) -> ChangeRow:
    """Return the row of a policy that was put on record for the first time, or of what somebody else recorded."""
    settings = event.facts.get("settings")
    if isinstance(settings, Mapping):
        return _named(event, "policy on record", event.subject, f"{len(settings)} settings, seen for the first time")
    facts = "; ".join(f"{name}: {value}" for name, value in event.facts.items() if value is not None)
    return _named(event, NAMES[About.POLICY], event.subject, facts, about=UNNAMED)


def _named(event: Event, what: str, subject: str, detail: str, *, about: str = "") -> ChangeRow:
    author, revision = author_of(event), text_of(event.facts.get("revision"))
    origin = f"; revision {revision[:12]}" if revision else ""
    origin += " with uncommitted changes" if event.facts.get("uncommitted") is True else ""
    seen = f"seen by {event.actor}"
    return ChangeRow(
        at=event.recorded_at,
        what=what,
        subject=subject,
        actor=seen if author is None else f"{author}; {seen}",
        detail=f"{detail}{origin}"[:500],
        about=about,
        author=author,
    )
