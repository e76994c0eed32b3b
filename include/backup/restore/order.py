"""What exactly a restore is to do: written down once, shown to people, and read again by each step that does it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from include.backup.approval import Question
from include.backup.records import to_json
from include.backup.restore.sealed import FORMAT_VERSION, NO_REASON, PREFIX
from include.backup.restore.survey import TableChange
from include.backup.restore.target import LONGEST_NAME_BYTES
from include.backup.text import labelled, markdown_table, plain_markdown

_TIME = "%Y%m%dT%H%M%SZ"
SHOWN_CHANGES = 15
LABEL_WIDTH = 12


class Strategy(StrEnum):
    """How a restore comes to its place: as a new database, by a swap of names, or into the one that is there."""

    NEW = "new"
    SWAP = "swap"
    IN_PLACE = "in place"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetBefore:
    """The database that is replaced, as the preview saw it; sizes in bytes."""

    oid: int
    fingerprint: str
    bytes: int
    rows: int
    sessions: int
    slots: tuple[str, ...]
    subscriptions: tuple[str, ...]
    publications: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """One restore. ``database`` is where it ends, ``beside`` where it is loaded; for a new one they are the same.

    ``connection`` is the policy's, never an address: who may write where is decided by the policy at each step.
    """

    restore_id: str
    source: str
    backup_id: str
    manifest_sha256: str
    snapshot_time: datetime
    standing: str
    connection: str
    server: str
    address: str
    database: str
    beside: str
    kept: str
    strategy: Strategy
    production: bool
    dry_run: bool
    unproven: bool
    with_roles: bool
    requested_by: str
    reason: str
    created_at: datetime
    target: TargetBefore | None
    backup_rows: int
    backup_tables: int
    archive_bytes: int
    uncompressed_bytes: int
    estimated_seconds: float
    estimate_basis: str
    erased_subjects: tuple[str, ...]
    changes: tuple[TableChange, ...]
    warnings: tuple[str, ...]
    schemas: tuple[str, ...] = ()
    # What is written once the safety backup of a restore in place has begun, which no copy has.
    gives_up_writes: bool = False
    ends_sessions: bool = False

    @property
    def replaces(self) -> bool:
        """Whether something that is there now will not be there under its name afterwards."""
        return self.strategy is not Strategy.NEW

    @property
    def needs_approval(self) -> bool:
        return self.replaces and self.production and not self.dry_run

    def to_json(self) -> bytes:
        """Return the order as JSON."""
        return to_json(self, format_version=FORMAT_VERSION)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what a person needs to know before saying yes, but for the rows of each table."""
        yield "backup", f"{self.backup_id} ({self.standing})"
        yield "data as of", f"{self.snapshot_time:%Y-%m-%d %H:%M:%S} UTC"
        yield "loads", f"{self.backup_tables} tables, {self.backup_rows} rows, {self.archive_bytes} bytes stored"
        yield "into", f"{self.database} on {self.address}" + (" (PRODUCTION)" if self.production else "")
        yield "how", self._how()
        yield "takes", f"about {self.estimated_seconds / 60:.1f} minutes ({self.estimate_basis})"
        if self.target is not None:
            target = self.target
            yield "replaces", target.fingerprint
            yield "holds now", f"{target.rows} rows, {target.bytes} bytes, {target.sessions} sessions"
            if self.strategy is Strategy.SWAP:
                yield (
                    "ends",
                    "whoever is connected then" if self.ends_sessions else "nobody: one who is connected stops it",
                )
            yield "slots", ", ".join(target.slots) or "none"
            yield "subscribes", ", ".join(target.subscriptions) or "to nothing"
            yield "publishes", ", ".join(target.publications) or "nothing"
        yield "erased", ", ".join(self.erased_subjects) or "nobody has to be erased again"
        for warning in self.warnings:
            yield "warning", warning

    def lines(self) -> Iterator[str]:
        """Yield the same for a log."""
        return labelled(self.facts(), width=LABEL_WIDTH)

    def line(self) -> str:
        """Return one line of what would be done."""
        where = f"{self.database} on {self.address}" + (" (PRODUCTION)" if self.production else "")
        what = "replaced by" if self.replaces else "made from"
        return f"{where} would be {what} {self.backup_id}; nothing was changed yet"

    def question(self) -> Question:
        """Return what a person is asked; the whole order is what the yes is about."""
        changes = [(change.table, _number(change.now), _number(change.then)) for change in self.changes[:SHOWN_CHANGES]]
        who, reason = plain_markdown(self.requested_by), plain_markdown(self.reason or NO_REASON)
        body = [
            f"**{who}** asks to replace **{plain_markdown(self.database)}** on {self.address}: {reason}",
            "",
            *markdown_table(self.facts()),
            "",
            *markdown_table([("table", "rows now", "rows then"), *changes]),
        ]
        return Question(
            subject=f"Replace {self.database} by {self.backup_id}?", body="\n".join(body), content=self.to_json()
        )

    def _how(self) -> str:
        if self.strategy is Strategy.NEW:
            return "as a new database; nothing that is there is touched"
        if self.strategy is Strategy.IN_PLACE:
            return f"in place, in one transaction: the schemas {', '.join(self.schemas)} are dropped and made anew"
        return f"beside it as {self.beside}, compared, then swapped by name; the old one stays as {self.kept}"


def _number(rows: int | None) -> str:
    return "not there" if rows is None else str(rows)


def make_restore_id(*, run_after: datetime, dag_id: str, run_id: str) -> str:
    """Return the id of the restore that a run does; the same for every try.

    >>> make_restore_id(run_after=datetime(2025, 1, 19, 2, tzinfo=UTC), dag_id="d", run_id="r")
    '20250119T020000Z_205ca2'
    """
    digest = hashlib.sha256(f"{dag_id}\0{run_id}".encode()).hexdigest()[:6]
    return f"{run_after.astimezone(UTC):{_TIME}}_{digest}"


def name_beside(database: str, word: str, restore_id: str) -> str:
    """Return the name of a database beside another; cut so that PostgreSQL does not cut it.

    >>> name_beside("shop", "old", "20250119T020000Z_3fa9c1")
    'shop_old_20250119T020000Z_3fa9c1'
    """
    end = f"_{word}_{restore_id}"
    room = LONGEST_NAME_BYTES - len(end.encode())
    return database.encode()[:room].decode(errors="ignore") + end


def record_key(restore_id: str, name: str) -> str:
    """Return where what became of a restore lies in the store."""
    return f"{PREFIX}/{restore_id}/{name}.json"
