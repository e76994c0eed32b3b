"""One record of the ledger, where it lies, and what a head is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from include.backup.errors import EvidenceError
from include.backup.records import from_json, to_json

FORMAT_VERSION = 1
BEFORE_THE_FIRST = "0" * 64
_DIGITS = 10
_RECORD_NAME = re.compile(rf"(?P<sequence>[0-9]{{{_DIGITS}}})\.json")
_RECEIPT_NAME = re.compile(rf"(?P<sequence>[0-9]{{{_DIGITS}}})-(?P<sha256>[0-9a-f]{{64}})")


class EventKind(StrEnum):
    """What happened."""

    BACKUP = "backup"
    PROOF = "proof"
    RESTORE = "restore"
    DELETION = "deletion"
    APPROVAL = "approval"
    ALERT = "alert"
    POLICY_CHANGE = "policy_change"
    HOLD = "hold"
    DRILL = "drill"
    AUDIT = "audit"
    CONTROL = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One link of the chain. ``once`` names the event, so that a retry does not record it again."""

    source: str
    sequence: int
    kind: EventKind
    subject: str
    actor: str
    recorded_at: datetime
    previous_sha256: str
    nonce: str
    once: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the record as JSON."""
        return to_json(self, format_version=FORMAT_VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest record at some time: its number and the SHA-256 of its bytes. Kept elsewhere, it is an anchor."""

    sequence: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` gives; raises EvidenceError.

        >>> Head.parse("0:" + "0" * 64).sequence
        0
        """
        sequence, _, digest = text.partition(":")
        if not (sequence.isascii() and sequence.isdigit() and re.fullmatch("[0-9a-f]{64}", digest)):
            raise EvidenceError(f"{text!r} is no head of a ledger; it looks like 42:<64 digits of 0-9a-f>")
        return cls(sequence=int(sequence), sha256=digest)


EMPTY = Head(sequence=0, sha256=BEFORE_THE_FIRST)


def read_event(content: bytes, *, name: str) -> Event:
    """Read a record; raises FormatVersionError or ManifestError, naming the object."""
    return from_json(Event, content, format_version=FORMAT_VERSION, name=name)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ledger_prefix(source: str) -> str:
    """Return where all evidence of a source lies.

    >>> ledger_prefix("pulse_messages")
    'evidence/pulse_messages/'
    """
    return f"evidence/{source}/"


def records_prefix(source: str) -> str:
    return f"{ledger_prefix(source)}records/"


def receipts_prefix(source: str) -> str:
    return f"{ledger_prefix(source)}receipts/"


def record_key(source: str, sequence: int) -> str:
    """Return the key of a record; keys sort as the numbers do.

    >>> record_key("shop", 42)
    'evidence/shop/records/0000000042.json'
    """
    return f"{records_prefix(source)}{sequence:0{_DIGITS}d}.json"


def receipt_key(source: str, head: Head) -> str:
    """Return the key of the empty object that says which bytes a record had when it was written."""
    return f"{receipts_prefix(source)}{head.sequence:0{_DIGITS}d}-{head.sha256}"


def once_key(source: str, once: str) -> str:
    """Return the key of the mark that somebody began to record this event."""
    return f"{ledger_prefix(source)}once/{digest(once.encode())}.json"


def backup_name(backup_id: str) -> str:
    """Return the name under which it is recorded once that a backup was stored."""
    return f"backup:{backup_id}"


def sequence_of(name: str) -> int | None:
    """Return the number in a record's name, or None for what is no record.

    >>> sequence_of("0000000042.json"), sequence_of("notes.json")
    (42, None)
    """
    match = _RECORD_NAME.fullmatch(name)
    return None if match is None else int(match["sequence"])


def receipt_of(name: str) -> Head | None:
    """Return what a receipt's name says, or None for what is no receipt."""
    match = _RECEIPT_NAME.fullmatch(name)
    return None if match is None else Head(sequence=int(match["sequence"]), sha256=match["sha256"])
