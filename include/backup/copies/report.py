"""Count the copies of a source's data: pure, from what was found out elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from include.backup.records import from_json, to_json
from include.backup.supabase.daily import DailyCheck, DailyState

FORMAT_VERSION = 1
SUPABASE = "Supabase"
COPIES_WANTED, KINDS_WANTED, OFF_SITE_WANTED = 3, 2, 1
# The strategy's "maximum data loss" is a day; a run itself takes its time.
FRESH = timedelta(hours=26)


class Place(StrEnum):
    """Where a copy is."""

    PRODUCTION = "production"
    SUPABASE = "Supabase's own backups"
    STORE = "backup store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy. It counts only when ``problem`` is None; ``proof`` says how it is known to be good.

    ``kind`` is whose storage it is: a project and Supabase's backups of it are both Supabase's. Records of before have
    none, and then each ``storage`` was a kind of its own.
    """

    place: Place
    storage: str
    off_site: bool
    newest: datetime | None
    proof: str
    problem: str | None = None
    kind: str = ""

    @property
    def counts(self) -> bool:
        return self.problem is None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """What the store holds: the newest backup and the newest that is proven, each with the time of its data."""

    where: str
    storage: str
    off_site: bool
    newest_id: str | None = None
    newest: datetime | None = None
    proven_id: str | None = None
    proven: datetime | None = None
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesReport:
    """The copies of one source at one time."""

    source: str
    at: datetime
    copies: tuple[Copy, ...]
    supabase: DailyCheck

    @property
    def counted(self) -> int:
        return sum(copy.counts for copy in self.copies)

    @property
    def kinds(self) -> int:
        return len({copy.kind or copy.storage for copy in self.copies if copy.counts})

    @property
    def off_site(self) -> int:
        return sum(copy.counts and copy.off_site for copy in self.copies)

    @property
    def met(self) -> bool:
        return not self.lacking()

    def figures(self) -> tuple[tuple[str, int, int], ...]:
        """Return what the rule counts: its name, how many there are, how many there have to be."""
        return (
            ("copies", self.counted, COPIES_WANTED),
            ("kinds of storage", self.kinds, KINDS_WANTED),
            ("off-site", self.off_site, OFF_SITE_WANTED),
        )

    def lacking(self) -> tuple[tuple[str, int, int], ...]:
        """Return of these what there is too little of."""
        return tuple(one for one in self.figures() if one[1] < one[2])

    def problems(self) -> dict[str, str]:
        """Return what keeps the rule from being met, in words, by a name that stays as long as it is the same thing.

        A source that is not hosted has a copy fewer for good, which is the audit's matter; of its backups that are old
        or not proven, those tell that know when one is due.
        """
        if self.met:
            return {}
        uncounted = {copy.place.value: f"{copy.place}: {copy.problem}" for copy in self.copies if copy.problem}
        lacking = {name: f"{count} of {wanted} {name}" for name, count, wanted in self.lacking()}
        if self.supabase.state is DailyState.NOT_HOSTED:
            lacking.pop("copies", None)
            return {} if uncounted else lacking
        return uncounted or lacking

    def line(self) -> str:
        """Return one line of evidence."""
        counts = ", ".join(f"{count} of {wanted} {name}" for name, count, wanted in self.figures())
        return f"3-2-1 {'met' if self.met else 'NOT met'}: {counts}"

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the table's rows, for a log or a terminal."""
        for copy in self.copies:
            newest = "-" if copy.newest is None else f"{copy.newest:%Y-%m-%d %H:%M}"
            yield (
                copy.place.value,
                copy.storage,
                "yes" if copy.off_site else "no",
                newest,
                "yes" if copy.counts else "NO",
                copy.problem or copy.proof,
            )

    def to_json(self) -> bytes:
        """Return the report as it is stored."""
        return to_json(self, format_version=FORMAT_VERSION)

    def to_document(self) -> dict[str, Any]:
        """Return the counts, for the command line and for XCom."""
        return {
            "met": self.met,
            "copies": self.counted,
            "kinds_of_storage": self.kinds,
            "off_site": self.off_site,
            "supabase": self.supabase.state.value,
        }


HEADER = ("copy", "storage", "off-site", "newest (UTC)", "counts", "proof, or why it does not count")


def read_report(content: bytes, *, name: str) -> CopiesReport:
    """Read a stored report."""
    return from_json(CopiesReport, content, format_version=FORMAT_VERSION, name=name)


def make_report(*, source: str, at: datetime, production: str, store: StoreFacts, supabase: DailyCheck) -> CopiesReport:
    """Return the report. Nothing counts that is old, unproven, or only said to be there by somebody else's silence."""
    hosted = supabase.state is not DailyState.NOT_HOSTED
    copies = [_production(production, store, hosted=hosted), *_supabase(supabase), _store(store, at)]
    return CopiesReport(source=source, at=at, copies=tuple(copies), supabase=supabase)


def shown_path(source: str, moment: datetime) -> str:
    """Return the key of a report: one for each run, so that none is ever overwritten."""
    return f"audit/{source}/copies/{moment:%Y%m%dT%H%M%SZ}.json"


def _production(storage: str, store: StoreFacts, *, hosted: bool) -> Copy:
    kind = SUPABASE if hosted else storage
    if store.newest is None:
        return Copy(
            place=Place.PRODUCTION,
            storage=storage,
            off_site=False,
            newest=None,
            proof="",
            problem="no backup has read it yet",
            kind=kind,
        )
    return Copy(
        place=Place.PRODUCTION,
        storage=storage,
        off_site=False,
        newest=store.newest,
        proof=f"the original; last read whole by {store.newest_id}",
        kind=kind,
    )


def _supabase(check: DailyCheck) -> Sequence[Copy]:
    if check.state is DailyState.NOT_HOSTED:
        return ()
    return (
        Copy(
            place=Place.SUPABASE,
            storage="Supabase managed storage",
            off_site=False,
            newest=check.newest,
            proof=f"{check.text}; by Supabase's word alone, it cannot be restored elsewhere to be compared",
            problem=None if check.good else f"{check.state.value}: {check.text}",
            kind=SUPABASE,
        ),
    )


def _store(store: StoreFacts, at: datetime) -> Copy:
    return Copy(
        place=Place.STORE,
        storage=store.storage,
        off_site=store.off_site,
        newest=store.proven or store.newest,
        proof=f"{store.where}: {store.proven_id}, {store.proof}",
        problem=_store_problem(store, at),
        kind=store.storage,
    )


def _store_problem(store: StoreFacts, at: datetime) -> str | None:
    if store.newest is None:
        return f"{store.where} holds no backup"
    if store.proven is None:
        return f"no backup in {store.where} is proven; the newest is {store.newest_id}"
    if at - store.proven > FRESH:
        return f"the newest proven backup in {store.where} is {_hours(at - store.proven)} old ({store.proven_id})"
    return None


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.0f} h"
