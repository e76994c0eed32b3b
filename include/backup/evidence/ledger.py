"""The ledger of one source: append-only, hash-chained, each record an object that is written once."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.backup.errors import EvidenceError, ObjectExistsError, ObjectMissingError
from include.backup.evidence.policy_record import record_policy
from include.backup.evidence.record import (
    EMPTY,
    Event,
    EventKind,
    Head,
    digest,
    once_key,
    read_event,
    receipt_key,
    record_key,
    records_prefix,
    sequence_of,
)
from include.backup.policy import SourcePolicy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.steps.context import encryption_of, utc_now
from include.backup.store import Encryption, ObjectLock, ObjectStore

PAGE = 1000
# What a policy has let somebody do: it is on record only after the policy is.
UNDER_A_POLICY = frozenset({EventKind.APPROVAL, EventKind.DELETION, EventKind.HOLD, EventKind.RESTORE})
# Each conflict means that another writer's record was stored, so this ends only when thousands write at once.
MOST_CONFLICTS = 10_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Where an event stands. ``new`` is False when an earlier try had recorded it."""

    event: Event
    head: Head
    new: bool


class Ledger:
    """Appends events to the chain of one source. ``in_force`` is its policy, recorded before what it allows is.

    A record is stored under the next number with If-None-Match, so of two writers one wins, and the other goes on
    after the winner's record: nothing is lost and nothing forks. Beside each record lies an empty receipt whose
    name has the record's hash, so that a changed or missing last record shows too.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        source: str,
        encryption: Encryption,
        policy: EvidencePolicy,
        clock: Callable[[], datetime] = utc_now,
        in_force: SourcePolicy | None = None,
    ) -> None:
        self.store = store
        self.source = source
        self._encryption = encryption
        self._policy = policy
        self._clock = clock
        self._in_force = in_force
        self._known = 0

    def append(
        self,
        kind: EventKind,
        *,
        subject: str,
        actor: str,
        facts: Mapping[str, Any] | None = None,
        once: str | None = None,
    ) -> Appended:
        """Record an event; ``subject`` is what it is about, ``actor`` the run or the person.

        With ``once``, a name that is the same for each retry of the same event, it is recorded exactly once.
        Facts are ids, numbers and reasons; they never hold a secret, since records can never be removed.
        """
        if kind in UNDER_A_POLICY and self._in_force is not None:
            record_policy(self, self._in_force, actor=actor)
            self._in_force = None
        head = self.head()
        if once is not None and not self._mark(once, head):
            head = self._marked_head(once)
        for _ in range(MOST_CONFLICTS):
            there = self._next(head)
            if there is None:
                event = self._event(kind, subject, actor, facts, once, head)
                content = event.to_json()
                if self._put(event.sequence, content):
                    return self._appended(event, content, new=True)
                there = self._get(event.sequence)
            event = read_event(there, name=record_key(self.source, head.sequence + 1))
            if once is not None and event.once == once:
                return self._appended(event, there, new=False)
            head = Head(sequence=head.sequence + 1, sha256=digest(there))
        raise EvidenceError(f"{MOST_CONFLICTS} others wrote to the evidence of {self.source} first; retry the task")

    def began(self, once: str) -> bool:
        """Say whether somebody began to record the event of this name."""
        return self.store.head(once_key(self.source, once)) is not None

    def find(self, once: str) -> Event | None:
        """Return the event of this name; None when nobody recorded it, or whoever began to has ended before."""
        if not self.began(once):
            return None
        sequence = self._marked_head(once).sequence
        try:
            while True:
                sequence += 1
                event = read_event(self._get(sequence), name=record_key(self.source, sequence))
                if event.once == once:
                    return event
        except ObjectMissingError:
            return None

    def head(self) -> Head:
        """Return the newest record's number and hash, in few calls however long the chain is."""
        sequence = self.last_sequence()
        return EMPTY if sequence == 0 else Head(sequence=sequence, sha256=digest(self._get(sequence)))

    def last_sequence(self) -> int:
        """Return the newest record's number, 0 without any.

        Looks for keys behind a number: doubles the step until there are none, then halves. A removed record in
        the middle does not mislead it.
        """
        low, step = self._known, PAGE
        page = self._behind(low)
        while len(page) == PAGE:
            low = page[-1]
            further = self._behind(low + step)
            while further:
                low, step = further[-1], step * 2
                further = self._behind(low + step)
            low = self._halve(low, low + step)
            page = self._behind(low)
        self._known = page[-1] if page else low
        return self._known

    def _halve(self, low: int, high: int) -> int:
        """Return a number that has at most one page of records behind it, given that none is behind ``high``."""
        while high - low > PAGE:
            middle = (low + high) // 2
            found = self._behind(middle)
            low, high = (found[-1], high) if found else (low, middle)
        return low

    def _behind(self, sequence: int) -> list[int]:
        prefix = records_prefix(self.source)
        page = self.store.page(prefix, start_after=record_key(self.source, sequence), limit=PAGE)
        found = (sequence_of(key.removeprefix(prefix)) for key in page)
        return [number for number in found if number is not None]

    def _next(self, head: Head) -> bytes | None:
        """Return the record behind a head if this process knows that there is one."""
        return self._get(head.sequence + 1) if head.sequence < self._known else None

    def _event(
        self, kind: EventKind, subject: str, actor: str, facts: Mapping[str, Any] | None, once: str | None, head: Head
    ) -> Event:
        return Event(
            source=self.source,
            sequence=head.sequence + 1,
            kind=kind,
            subject=subject,
            actor=actor,
            recorded_at=self._clock(),
            previous_sha256=head.sha256,
            nonce=secrets.token_hex(8),
            once=once,
            facts=dict(facts or {}),
        )

    def _appended(self, event: Event, content: bytes, *, new: bool) -> Appended:
        head = Head(sequence=event.sequence, sha256=digest(content))
        self._known = max(self._known, event.sequence)
        self._put_object(receipt_key(self.source, head), b"")
        if new:
            logger.info("evidence %s of %s: %s %s", head, self.source, event.kind.value, event.subject)
        return Appended(event=event, head=head, new=new)

    def _put(self, sequence: int, content: bytes) -> bool:
        """Store a record; its nonce makes other bytes under that number another writer's."""
        try:
            self._put_object(record_key(self.source, sequence), content)
        except ObjectExistsError:
            return False
        return True

    def _mark(self, once: str, head: Head) -> bool:
        """Leave a mark that this event is being recorded behind ``head``; False when one is there."""
        body = json.dumps({"once": once, "behind": str(head), "nonce": secrets.token_hex(8)}).encode()
        try:
            return self._put_object(once_key(self.source, once), body)
        except ObjectExistsError:
            return False

    def _marked_head(self, once: str) -> Head:
        key = once_key(self.source, once)
        try:
            return Head.parse(str(json.loads(self.store.get(key))["behind"]))
        except (ValueError, KeyError, TypeError) as error:
            raise EvidenceError(f"{self.store.url(key)} is damaged; find out who changed it") from error

    def _get(self, sequence: int) -> bytes:
        return self.store.get(record_key(self.source, sequence))

    def _put_object(self, key: str, body: bytes) -> bool:
        return self.store.put_if_absent(key, body, encryption=self._encryption, lock=self._lock())

    def _lock(self) -> ObjectLock | None:
        if not self.store.has_object_lock():
            return None
        return ObjectLock(mode=self._policy.lock_mode, until=self._policy.keep.after(self._clock()))


def open_ledger(source: SourcePolicy, store: ObjectStore, *, clock: Callable[[], datetime] = utc_now) -> Ledger:
    """Return the ledger of a source of the policy."""
    return Ledger(
        store,
        source=source.name,
        encryption=encryption_of(source, store),
        policy=source.evidence or EvidencePolicy(),
        clock=clock,
        in_force=source,
    )
