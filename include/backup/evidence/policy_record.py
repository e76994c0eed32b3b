"""The policy in the ledger: each content that came into force for a source is recorded once, with what changed.

Changes are numbered, and each number is recorded exactly once. So of writers that see the same change one records it,
and one that comes too late compares with what was recorded meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.backup.errors import EvidenceError
from include.backup.evidence.record import Event, EventKind
from include.backup.policy.content import differences, digest, flat
from include.backup.policy.origin import Origin, origin_of

if TYPE_CHECKING:
    from include.backup.evidence.ledger import Ledger
    from include.backup.policy import SourcePolicy

MOST_CHANGES_LISTED = 100
# Each time round means that somebody else's change was recorded.
MOST_ROUNDS = 1000

logger = logging.getLogger(__name__)


def record_policy(ledger: Ledger, source: SourcePolicy, *, actor: str) -> Event | None:
    """Record the policy of a source unless the last one on record is the same; return the event if it is new.

    ``actor`` is the run or the person that sees it. Who made the change is known only as far as the file's revision
    says. Raises StoreError, and EvidenceError when others never stop changing it.
    """
    settings = flat(source.settings)
    number, last = newest_policy(ledger)
    for _ in range(MOST_ROUNDS):
        if last is not None and last.facts.get("policy_sha256") == digest(settings):
            return None
        number += 1
        facts = _facts(number, settings, last, origin_of(source.written_in))
        appended = ledger.append(
            EventKind.POLICY_CHANGE, subject=subject(facts), actor=actor, facts=facts, once=_name(number)
        )
        if appended.new:
            logger.info("the policy of %s is now on record as change %d", source.name, number)
            return appended.event
        last = appended.event
    raise EvidenceError(f"{MOST_ROUNDS} others recorded a change of the policy of {source.name} first; retry the task")


def newest_policy(ledger: Ledger) -> tuple[int, Event | None]:
    """Return the last policy on record and its number, 0 and None without any.

    A number that somebody began to record and did not is passed over: the next writer takes it.
    """
    number = _last_begun(ledger)
    while number:
        event = ledger.find(_name(number))
        if event is not None:
            return number, event
        number -= 1
    return 0, None


def policies_until(ledger: Ledger, moment: datetime) -> Iterator[Event]:
    """Yield the policies on record from the newest back to the one that was in force at a time, that one included."""
    number, event = newest_policy(ledger)
    while event is not None:
        yield event
        if event.recorded_at <= moment:
            return
        number -= 1
        event = ledger.find(_name(number)) if number else None


def subject(facts: Mapping[str, Any]) -> str:
    return f"policy:{facts['policy_sha256'][:12]}"


def _name(number: int) -> str:
    return f"policy:{number}"


def _last_begun(ledger: Ledger) -> int:
    """Return the highest number that somebody began to record, in few calls however many there are."""
    low, high = 0, 1
    while ledger.began(_name(high)):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ledger.began(_name(middle)) else (low, middle)
    return low


def _facts(number: int, settings: Mapping[str, Any], last: Event | None, origin: Origin | None) -> dict[str, Any]:
    before: Mapping[str, Any] = {} if last is None else last.facts
    known = before.get("settings")
    changes = () if not isinstance(known, Mapping) else differences(known, settings)
    return {
        "number": number,
        "policy_sha256": digest(settings),
        "previous_sha256": before.get("policy_sha256"),
        "changes": [asdict(change) for change in changes[:MOST_CHANGES_LISTED]],
        "changes_in_all": len(changes),
        **({} if origin is None else asdict(origin)),
        # All of it, so that the next change can be told from it, and an auditor sees what was in force.
        "settings": dict(settings),
    }
