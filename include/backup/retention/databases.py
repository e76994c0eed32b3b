"""Databases that restores left beside others, as the cleanup sees them: which may be dropped, and why others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from include.backup.backup_id import BackupId, parse_backup_id
from include.backup.errors import BackupError, RestoreRefusedError
from include.backup.restore.context import RestoreContext
from include.backup.restore.kept import BESIDE, KeptDatabase, kept_databases, look_at
from include.backup.restore.safety import TIER as SAFETY
from include.backup.restore.survey import DatabaseFacts
from include.backup.store import ObjectStore


class Fate(StrEnum):
    """What becomes of a database that was kept. All but the first two leave it where it is."""

    DROPPED = "dropped"
    GONE = "gone already"
    WITHIN = "within its time"
    KEPT = "kept"
    UNKNOWN = "cannot be looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDecision:
    """What becomes of one kept database, and why; ``name`` is that of its record, ``bytes`` its size on disk."""

    name: str
    kept: KeptDatabase
    fate: Fate
    why: str
    bytes: int = 0

    def line(self) -> str:
        """Return one line of a report."""
        return f"database {self.kept.database} on {self.kept.server} {self.fate.value}: {self.why}"


def plan_databases(
    restores: Callable[[], RestoreContext],
    store: ObjectStore,
    source: str,
    *,
    held: Mapping[str, str],
    newest_proven: Callable[[], datetime | None],
    now: datetime,
) -> tuple[KeptDecision, ...]:
    """Decide about each database that restores of a source have kept; servers are asked about those that are due.

    ``newest_proven`` says when the data of the newest proven full backup was read.
    """
    found = list(kept_databases(store, source))
    return tuple(_decisions(restores(), found, held, newest_proven, now)) if found else ()


def judge(
    name: str,
    kept: KeptDatabase,
    facts: DatabaseFacts | None,
    *,
    held: Mapping[str, str],
    newest_proven: datetime | None,
) -> KeptDecision:
    """Decide about a database whose time is over; ``facts`` None: nothing of that name is there.

    A hold on the safety copy of a restore keeps the database that was copied as well.
    """
    if facts is None or facts.oid != kept.oid:
        why = "nothing of that name is there" if facts is None else f"oid {facts.oid} of that name is another one"
        return KeptDecision(name=name, kept=kept, fate=Fate.GONE, why=why)
    why = _reason_to_keep(name, kept, facts, held, newest_proven)
    ended = f"{kept.what}, kept until {kept.drop_after:%Y-%m-%d %H:%M} UTC"
    return KeptDecision(
        name=name, kept=kept, fate=Fate.KEPT if why else Fate.DROPPED, why=why or ended, bytes=facts.bytes
    )


def safety_copy_of(kept: KeptDatabase) -> BackupId | None:
    """Return the id of the backup that a restore took of what it was about to replace; None for no restore's id.

    >>> from datetime import UTC
    >>> one = KeptDatabase(restore_id="20250119T020000Z_3fa9c1", source="shop", server="source", database="shop_old",
    ...     oid=1, replaced_by="shop", what="replaced", drop_after=datetime(2025, 1, 26, tzinfo=UTC))
    >>> str(safety_copy_of(one))
    'shop_safety_full_20250119T020000Z_3fa9c1'
    """
    return parse_backup_id(f"{kept.source}_{SAFETY}_full_{kept.restore_id}", strict=False)


def _decisions(
    ctx: RestoreContext,
    found: Iterable[tuple[str, KeptDatabase]],
    held: Mapping[str, str],
    newest_proven: Callable[[], datetime | None],
    now: datetime,
) -> Iterator[KeptDecision]:
    for name, kept in found:
        if now < kept.drop_after:
            until = f"{kept.what}, until {kept.drop_after:%Y-%m-%d %H:%M} UTC"
            yield KeptDecision(name=name, kept=kept, fate=Fate.WITHIN, why=until)
            continue
        try:
            facts = look_at(ctx, kept)
        except RestoreRefusedError as error:
            yield KeptDecision(name=name, kept=kept, fate=Fate.KEPT, why=str(error))
        except BackupError as error:
            yield KeptDecision(name=name, kept=kept, fate=Fate.UNKNOWN, why=str(error))
        else:
            yield judge(name, kept, facts, held=held, newest_proven=newest_proven())


def _reason_to_keep(
    name: str, kept: KeptDatabase, facts: DatabaseFacts, held: Mapping[str, str], newest_proven: datetime | None
) -> str:
    copy = safety_copy_of(kept)
    if copy is None:
        return f"{kept.restore_id} is no restore's id"
    if str(copy) in held:
        return f"{held[str(copy)]} ({copy})"
    # What was only loaded beside is a copy of a backup; what was replaced may hold what no proven backup holds.
    if name != BESIDE and (newest_proven is None or newest_proven <= copy.run_after):
        return "no full backup of later than that restore is proven"
    if facts.sessions:
        return f"{len(facts.sessions)} sessions are in it ({', '.join(facts.sessions[:3])})"
    return ""
