"""Which backups are kept and which have expired, and why: a pure function of what is known of them and of the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from include.backup.retention.duration import Retention
from include.backup.retention.thinning import Dated, Thinning, thinned_out


class Reason(StrEnum):
    """Why a backup is kept or has expired. All but the last two keep it."""

    UNKNOWN = "cannot be judged"
    HELD = "on hold"
    IN_USE = "in use"
    WITHIN = "within its retention"
    NEWEST_PROVEN = "newest proven of its tier"
    NO_NEWER_PROVEN = "no newer one is proven"
    NEEDED = "needed by one that is kept"
    LOCKED = "under Object Lock"
    THINNED = "thinned out"
    EXPIRED = "expired"


EXPIRING = frozenset({Reason.THINNED, Reason.EXPIRED})
# The group of the full backups of all tiers, beside those of each tier and kind.
ANY_FULL = ("", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backup as the retention sees it. ``unknown`` says why it cannot be judged; ``needs`` are other backups.

    ``counts_from`` is when its retention begins, if that is not when its data was read: a base backup is needed for
    every point in time up to the next one.
    """

    backup_id: str
    tier: str
    kind: str
    snapshot_time: datetime
    proven: bool = False
    size: int = 0
    needs: frozenset[str] = frozenset()
    unknown: str | None = None
    counts_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRule:
    """What the policy says of a tier; copies that nobody proves wait for a newer proven full backup of any other."""

    keep: Retention
    thinning: Thinning | None = None
    proven_elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Backups that somebody or something keeps, each with the reason in words."""

    held: Mapping[str, str] = field(default_factory=dict)
    in_use: Mapping[str, str] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one backup."""

    backup: Candidate
    reason: Reason
    detail: str

    @property
    def expires(self) -> bool:
        return self.reason in EXPIRING

    def line(self) -> str:
        """Return one line of a report."""
        verb = "expires" if self.expires else "kept"
        return f"{self.backup.backup_id} {verb}: {self.reason.value}" + (f" ({self.detail})" if self.detail else "")


def plan_backups(
    backups: Iterable[Candidate], rules: Mapping[str, TierRule], guards: Guards, *, now: datetime
) -> tuple[Decision, ...]:
    """Decide about each backup, oldest first.

    Floors beat policy, and unknown means keep: what is held, in use, locked or needed by something that is kept
    stays, and so does every expired backup of a tier while no newer one of its kind there is proven.
    """
    ordered = sorted(backups, key=lambda backup: (backup.snapshot_time, backup.backup_id))
    newest = _newest_proven(ordered, rules)
    thinned = _thinned(ordered, rules, now)
    first = [_judge(backup, rules, guards, newest, backup.backup_id in thinned, now) for backup in ordered]
    return _with_what_is_needed(first)


def _judge(
    backup: Candidate,
    rules: Mapping[str, TierRule],
    guards: Guards,
    newest: Mapping[tuple[str, str], Candidate],
    thinned: bool,
    now: datetime,
) -> Decision:
    rule = rules.get(backup.tier)
    if backup.unknown is not None or rule is None:
        return _decide(backup, Reason.UNKNOWN, backup.unknown or f"the policy has no tier {backup.tier}")
    end = rule.keep.after(backup.counts_from or backup.snapshot_time)
    if now < end and not thinned:
        return _decide(backup, Reason.WITHIN, f"{rule.keep}, until {end:%Y-%m-%d %H:%M} UTC")
    floor = _floor(backup, newest.get(ANY_FULL if rule.proven_elsewhere else (backup.tier, backup.kind)))
    for reason, texts in ((Reason.HELD, guards.held), (Reason.IN_USE, guards.in_use)):
        if backup.backup_id in texts:
            return _decide(backup, reason, texts[backup.backup_id])
    if floor is not None:
        return floor
    if backup.backup_id in guards.locked:
        return _decide(backup, Reason.LOCKED, guards.locked[backup.backup_id])
    if now < end:
        return _decide(backup, Reason.THINNED, "another of its day is kept")
    return _decide(backup, Reason.EXPIRED, f"{rule.keep} ended {end:%Y-%m-%d %H:%M} UTC")


def _floor(backup: Candidate, newest: Candidate | None) -> Decision | None:
    if newest is None:
        return _decide(backup, Reason.NO_NEWER_PROVEN, "none is proven")
    if newest.backup_id == backup.backup_id:
        return _decide(backup, Reason.NEWEST_PROVEN, "")
    if newest.snapshot_time <= backup.snapshot_time:
        return _decide(backup, Reason.NO_NEWER_PROVEN, f"the newest proven one is {newest.backup_id}")
    return None


def _newest_proven(ordered: Sequence[Candidate], rules: Mapping[str, TierRule]) -> dict[tuple[str, str], Candidate]:
    found = {}
    for backup in ordered:
        if backup.proven and backup.unknown is None:
            found[backup.tier, backup.kind] = backup
            if stands_for_all(backup, rules):
                found[ANY_FULL] = backup
    return found


def stands_for_all(backup: Candidate, rules: Mapping[str, TierRule]) -> bool:
    """Say whether a proven backup lets copies go that nobody proves: a full one of a tier of the policy."""
    rule = rules.get(backup.tier)
    return backup.kind == ANY_FULL[1] and rule is not None and not rule.proven_elsewhere


def _thinned(ordered: Sequence[Candidate], rules: Mapping[str, TierRule], now: datetime) -> frozenset[str]:
    found: set[str] = set()
    groups: dict[tuple[str, str], list[Dated]] = {}
    for backup in ordered:
        if backup.unknown is None:
            dated = Dated(backup_id=backup.backup_id, snapshot_time=backup.snapshot_time, proven=backup.proven)
            groups.setdefault((backup.tier, backup.kind), []).append(dated)
    for (tier, _), group in groups.items():
        rule = rules.get(tier)
        if rule is not None and rule.thinning is not None:
            found |= thinned_out(group, rule.thinning, now=now)
    return frozenset(found)


def _with_what_is_needed(decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """Keep what anything needs that is kept, and what that needs in turn."""
    by_id = {decision.backup.backup_id: decision for decision in decisions}
    waiting = [decision.backup for decision in decisions if not decision.expires]
    while waiting:
        keeper = waiting.pop()
        for needed in keeper.needs:
            found = by_id.get(needed)
            if found is not None and found.expires:
                by_id[needed] = _decide(found.backup, Reason.NEEDED, f"by {keeper.backup_id}")
                waiting.append(found.backup)
    return tuple(by_id[decision.backup.backup_id] for decision in decisions)


def _decide(backup: Candidate, reason: Reason, detail: str) -> Decision:
    return Decision(backup=backup, reason=reason, detail=detail)
