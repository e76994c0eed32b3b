"""The part of the ledger that a report needs: its events, read once, and the chain between them checked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from include.backup.audit.facts import LedgerFacts
from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.evidence.check import ChainCheck, listed_records, read_records
from include.backup.evidence.record import EMPTY, Event, Head, digest, read_event, record_key
from include.backup.store import ObjectStore


def read_ledger(store: ObjectStore, source: str, *, since: datetime) -> LedgerFacts:
    """Return the events that were recorded from ``since`` on.

    The records are listed, the first of them is found by halving, and only those behind it are read: a long history
    costs a few reads. Their chain is checked from the record before on; `evidence verify` checks all of it.
    """
    sequences, foreign = listed_records(store, source)
    first = _first_since(store, source, sequences, since)
    chain = ChainCheck(source, start=_anchor(store, source, sequences, first))
    events = [
        event
        for stored in read_records(store, source, sequences[first:])
        if (event := chain.add(stored)) is not None and event.recorded_at >= since
    ]
    began = _event(store, source, sequences[0]) if sequences else None
    return LedgerFacts(
        events=tuple(events),
        records=len(sequences),
        checked=len(sequences) - first,
        head=str(chain.head) if chain.head.sequence else "",
        findings=(
            *(str(finding) for finding in chain.findings),
            *(f"{key} is no record; find out who put it there" for key in foreign),
        ),
        began_at=None if began is None else began.recorded_at,
    )


def _first_since(store: ObjectStore, source: str, sequences: Sequence[int], since: datetime) -> int:
    """Return the place of the first record from ``since`` on; a record that cannot be read is stepped over."""
    low, high = 0, len(sequences)
    while low < high:
        middle = place = (low + high) // 2
        event = None
        while place < high and (event := _event(store, source, sequences[place])) is None:
            place += 1
        if event is not None and event.recorded_at < since:
            low = place + 1
        else:
            high = middle
    return low


def _anchor(store: ObjectStore, source: str, sequences: Sequence[int], first: int) -> Head:
    """Return the head before the first record that is read; it may be missing, which the check then finds."""
    if first == 0:
        return EMPTY
    sequence = sequences[first - 1]
    try:
        return Head(sequence=sequence, sha256=digest(store.get(record_key(source, sequence))))
    except ObjectMissingError:
        return Head(sequence=sequence, sha256=EMPTY.sha256)


def _event(store: ObjectStore, source: str, sequence: int) -> Event | None:
    key = record_key(source, sequence)
    try:
        return read_event(store.get(key), name=key)
    except (ArchiveError, ObjectMissingError):
        return None
