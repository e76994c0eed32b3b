"""Check a ledger: nothing removed, changed, reordered or cut off, and every backup and proof has its record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.evidence.record import (
    BEFORE_THE_FIRST,
    EMPTY,
    Event,
    Head,
    digest,
    read_event,
    receipt_of,
    receipts_prefix,
    record_key,
    records_prefix,
    sequence_of,
)
from include.backup.store import SMALL_READS, ObjectStore

BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it was recorded; ``sequence`` is the record's number."""

    sequence: int
    what: str

    def __str__(self) -> str:
        return f"record {self.sequence}: {self.what}" if self.sequence else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCheck:
    """What a check found; ``notes`` are no findings, but a person should know them."""

    source: str
    head: Head
    kinds: Mapping[str, int]
    subjects: Mapping[str, frozenset[str]]
    once: frozenset[str]
    began_at: datetime | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def intact(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One record's bytes; None when it was listed and is gone."""

    sequence: int
    content: bytes | None


def check_ledger(
    store: ObjectStore,
    source: str,
    *,
    anchors: Iterable[tuple[str, Head]] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> LedgerCheck:
    """Read every record of a source's chain and check it; ``anchors`` are heads that were kept elsewhere."""
    sequences, foreign = listed_records(store, source)
    chain = ChainCheck(source)
    for stored in read_records(store, source, sequences):
        chain.add(stored)
        progress(1)
    receipts = list(listed_receipts(store, source))
    findings = [
        *(Finding(sequence=0, what=f"{key} is no record; find out who put it there") for key in foreign),
        *chain.findings,
        *_against_receipts(chain, receipts),
        *against_anchors(chain.digests, anchors),
        *_overwritten(store, source),
    ]
    notes = []
    if chain.head.sequence and chain.head.sequence not in {receipt.sequence for receipt in receipts}:
        notes.append(f"record {chain.head.sequence} has no receipt: its writer ended just then")
    return LedgerCheck(
        source=source,
        head=chain.head,
        kinds=chain.kinds,
        subjects={kind: frozenset(found) for kind, found in chain.subjects.items()},
        once=frozenset(chain.once),
        began_at=chain.began_at,
        findings=tuple(findings),
        notes=tuple(notes),
    )


class ChainCheck:
    """Follows a chain link by link; works on a store's records and on a bundle's."""

    def __init__(self, source: str, *, start: Head = EMPTY) -> None:
        self.head = start
        self.findings: list[Finding] = []
        self.digests: dict[int, str] = {}
        self.kinds: dict[str, int] = {}
        self.subjects: dict[str, set[str]] = {}
        self.once: set[str] = set()
        self.began_at: datetime | None = None
        self._source = source

    def add(self, stored: Stored) -> Event | None:
        """Check the next record in order of its number, and return it if it can be read."""
        self._expect(stored.sequence)
        if stored.content is None:
            self._find(stored.sequence, "was listed and cannot be read; it is being removed")
            return None
        own = digest(stored.content)
        self.digests[stored.sequence] = own
        event: Event | None = None
        try:
            event = read_event(stored.content, name=record_key(self._source, stored.sequence))
            self._compare(event, stored.sequence)
        except ArchiveError as error:
            self._find(stored.sequence, f"cannot be read: {error}")
        self.head = Head(sequence=stored.sequence, sha256=own)
        return event

    def _expect(self, sequence: int) -> None:
        missing = range(self.head.sequence + 1, sequence)
        if missing:
            self._find(
                missing[0], f"is missing, with {len(missing) - 1} after it" if len(missing) > 1 else "is missing"
            )

    def _compare(self, event: Event, sequence: int) -> None:
        self.kinds[event.kind.value] = self.kinds.get(event.kind.value, 0) + 1
        self.subjects.setdefault(event.kind.value, set()).add(event.subject)
        if event.once is not None:
            self.once.add(event.once)
        self.began_at = self.began_at or event.recorded_at
        if event.source != self._source:
            self._find(sequence, f"belongs to the ledger of {event.source}")
        if event.sequence != sequence:
            self._find(sequence, f"was written as number {event.sequence}: records were reordered")
        if self.head.sequence == sequence - 1 and event.previous_sha256 != self.head.sha256:
            before = "the beginning" if sequence == 1 else f"record {sequence - 1}"
            self._find(
                sequence, f"does not follow {before}: that one was changed or put in another's place, or this one"
            )
        if sequence == 1 and event.previous_sha256 != BEFORE_THE_FIRST:
            self._find(sequence, "is not the first of its chain")

    def _find(self, sequence: int, what: str) -> None:
        self.findings.append(Finding(sequence=sequence, what=what))


def against_anchors(digests: Mapping[int, str], anchors: Iterable[tuple[str, Head]]) -> Iterator[Finding]:
    """Yield what heads that were kept elsewhere contradict: a tail that was cut off, or a chain made anew."""
    for where, anchor in anchors:
        if anchor.sequence == 0:
            continue
        found = digests.get(anchor.sequence)
        if found is None:
            yield Finding(sequence=anchor.sequence, what=f"is missing, and {where} saw it: the chain was cut off")
        elif found != anchor.sha256:
            yield Finding(sequence=anchor.sequence, what=f"is not the one that {where} saw: the chain was made anew")


def listed_records(store: ObjectStore, source: str) -> tuple[list[int], list[str]]:
    """Return the numbers of all records, and the keys that are none."""
    prefix = records_prefix(source)
    sequences, foreign = [], []
    for item in store.list(prefix):
        sequence = sequence_of(item.key.removeprefix(prefix))
        if sequence is None or sequence == 0:
            foreign.append(item.key)
        else:
            sequences.append(sequence)
    return sorted(sequences), foreign


def listed_receipts(store: ObjectStore, source: str) -> Iterator[Head]:
    """Yield what the receipts say."""
    prefix = receipts_prefix(source)
    for item in store.list(prefix):
        receipt = receipt_of(item.key.removeprefix(prefix))
        if receipt is not None:
            yield receipt


def read_records(store: ObjectStore, source: str, sequences: Sequence[int]) -> Iterator[Stored]:
    """Yield the records in order, read some at a time."""

    def read(sequence: int) -> Stored:
        try:
            return Stored(sequence=sequence, content=store.get(record_key(source, sequence)))
        except ObjectMissingError:
            return Stored(sequence=sequence, content=None)

    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="evidence") as pool:
        for start in range(0, len(sequences), BATCH):
            yield from pool.map(read, sequences[start : start + BATCH])


def _against_receipts(chain: ChainCheck, receipts: Iterable[Head]) -> Iterator[Finding]:
    for receipt in receipts:
        found = chain.digests.get(receipt.sequence)
        if found is None:
            yield Finding(sequence=receipt.sequence, what="is missing, and its receipt is there")
        elif found != receipt.sha256:
            yield Finding(sequence=receipt.sequence, what="was changed: its receipt has another hash")


def _overwritten(store: ObjectStore, source: str) -> Iterator[Finding]:
    """Yield what a versioned bucket remembers: records are written once and never deleted."""
    for key, count in store.rewritten(records_prefix(source)):
        yield Finding(sequence=0, what=f"{key} has {count} versions or delete markers: it was overwritten or deleted")
