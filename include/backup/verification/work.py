"""What is to be proven now, and why: a pure function of what the store holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

# A run that proves its own backup begins with that soon after the backup is stored.
OWN_RUN = timedelta(minutes=15)
# An archive of files refers to earlier ones, which have to be proven before it.
OLDEST_FIRST = frozenset({"attachments"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A whole backup as listings show it. ``proven_at`` is when its newest proof was made, whatever it said."""

    backup_id: str
    tier: str
    kind: str
    run_after: datetime
    stored_at: datetime
    size: int
    storage_class: str
    proven_at: datetime | None
    in_chain: bool = False
    in_use: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One backup to be proven."""

    backup_id: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """What is proven in this run, in this order, and what is not although it has no proof, or is due."""

    work: tuple[Work, ...]
    left: tuple[Work, ...] = ()


def plan_work(
    backups: Iterable[Stored], *, reprove_after: Callable[[str], timedelta], seed: str, now: datetime
) -> WorkList:
    """Return everything without a proof, and of each tier one that is due again, chosen by chance.

    What has no proof goes first, the newest before the others. ``reprove_after`` says for a tier how old a proof may
    be; ``seed`` is the same for each try of a run, and so is the choice.
    """
    everything = sorted(backups, key=lambda one: (one.run_after, one.backup_id), reverse=True)
    left = [Work(backup_id=one.backup_id, why=why) for one in everything if (why := _left(one, now))]
    skipped = {one.backup_id for one in left}
    able = [one for one in everything if one.backup_id not in skipped]
    new = [Work(backup_id=one.backup_id, why="it has no proof") for one in able if one.proven_at is None]
    kinds = {one.backup_id: one.kind for one in able}
    late = [work for work in reversed(new) if kinds[work.backup_id] in OLDEST_FIRST]
    first = [work for work in new if kinds[work.backup_id] not in OLDEST_FIRST]
    return WorkList(work=(*first, *late, *_due(able, reprove_after, seed, now)), left=tuple(left))


def _left(one: Stored, now: datetime) -> str | None:
    if one.proven_at is None and one.in_chain and now - one.stored_at < OWN_RUN:
        return "its own run proves it"
    if one.proven_at is None and one.in_use:
        return "it is being read, perhaps by its own proof"
    return None


def _due(able: Iterable[Stored], reprove_after: Callable[[str], timedelta], seed: str, now: datetime) -> Iterator[Work]:
    tiers: dict[str, list[Stored]] = {}
    for one in able:
        if one.proven_at is not None and now - one.proven_at >= reprove_after(one.tier):
            tiers.setdefault(one.tier, []).append(one)
    for tier, due in sorted(tiers.items()):
        chosen = random.Random(f"{seed} {tier}").choice(sorted(due, key=lambda one: one.backup_id))  # noqa: S311
        days = (now - (chosen.proven_at or now)).days
        yield Work(backup_id=chosen.backup_id, why=f"its proof is {days} days old, and {len(due)} of {tier} are due")


def control_is_due(last: datetime | None, *, every: timedelta, now: datetime) -> bool:
    """Say whether the verifier itself is to be tested again.

    >>> from datetime import UTC
    >>> control_is_due(None, every=timedelta(days=7), now=datetime(2026, 1, 1, tzinfo=UTC))
    True
    """
    return last is None or now - last >= every
