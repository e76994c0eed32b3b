"""Cleanup of one source: make the plan, say what it is, carry it out, and look whether it was done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path

from include.backup.base.stored import base_catalog, base_prefix
from include.backup.catalog import ListedBackup, manifest_key
from include.backup.evidence import Ledger
from include.backup.evidence.record import backup_name, once_key
from include.backup.holds import held_backups, list_holds
from include.backup.in_use import backups_in_use, stale_marks
from include.backup.policy import SourcePolicy
from include.backup.policy.cleanup import CleanupPolicy
from include.backup.restore.context import RestoreContext
from include.backup.restore.safety import TIER as SAFETY_TIER
from include.backup.restore.safety import safety_keep
from include.backup.retention.bases import WalExpiry, base_candidates, clusters_of, expired_segments, wal_expiries
from include.backup.retention.databases import Fate, KeptDecision, plan_databases
from include.backup.retention.former import former_logs
from include.backup.retention.gather import cannot_be_judged, gather, newest_proven_full, rules_of
from include.backup.retention.leftovers import (
    Orphan,
    Unfinished,
    dead_staging,
    grace_of,
    old_proofs,
    orphans,
    unfinished_uploads,
)
from include.backup.retention.plan import Candidate, Decision, Guards, TierRule, plan_backups
from include.backup.steps.context import SAFETY_PREFIX, open_catalog, utc_now
from include.backup.store import Encryption, ObjectStore

BASE_TIER = "incremental"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupContext:
    """What a cleanup of one source is given. Without folders, those of this machine are left alone.

    Without ``restores``, so are the databases that restores have kept.
    """

    source: SourcePolicy
    store: ObjectStore
    ledger: Ledger
    encryption: Encryption
    actor: str
    log: logging.Logger
    staging_root: Path | None = None
    scratch_root: Path | None = None
    restores: Callable[[], RestoreContext] | None = None
    clock: Callable[[], datetime] = utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPlan:
    """What is kept and what goes, each with its reason; made without changing anything."""

    source: str
    made_at: datetime
    decisions: tuple[Decision, ...]
    prefixes: Mapping[str, str] = field(default_factory=dict)
    orphans: tuple[Orphan, ...] = ()
    half_deleted: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    wal: tuple[WalExpiry, ...] = ()
    proofs: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    staging: tuple[Path, ...] = ()
    databases: tuple[KeptDecision, ...] = ()

    @property
    def dropped(self) -> tuple[KeptDecision, ...]:
        """The databases that go."""
        return tuple(decision for decision in self.databases if decision.fate is Fate.DROPPED)

    @property
    def stuck(self) -> tuple[KeptDecision, ...]:
        """The databases whose time is over and that stay all the same."""
        return tuple(decision for decision in self.databases if decision.fate is Fate.KEPT)

    @property
    def expiring(self) -> tuple[Decision, ...]:
        return tuple(decision for decision in self.decisions if decision.expires)

    @property
    def kept(self) -> Mapping[str, int]:
        """How many backups are kept for which reason."""
        counts: dict[str, int] = {}
        for decision in self.decisions:
            if not decision.expires:
                counts[decision.reason.value] = counts.get(decision.reason.value, 0) + 1
        return counts

    @property
    def nothing_to_do(self) -> bool:
        found = (self.orphans, self.half_deleted, self.unfinished, self.wal, self.proofs, self.marks, self.staging)
        return not self.expiring and not self.dropped and not any(found)


def plan_cleanup(ctx: CleanupContext) -> CleanupPlan:
    """Read what the store holds, and decide; nothing is changed."""
    now = ctx.clock()
    source, store = ctx.source, ctx.store
    catalog = open_catalog(source, store, also=(SAFETY_PREFIX,))
    rules = cleanup_rules(source)
    gathered = gather(catalog, rules, now=now)
    listed_bases = base_catalog(source, store).list()
    bases = base_candidates(source, store, listed_bases)
    listed = (*gathered.listed, *listed_bases)
    prefixes = {item.backup_id: item.prefix for item in listed}
    half_deleted, lost = _without_archive(ctx, [item for item in listed if item.archive is None])
    never_finished, without = _without_manifest(ctx, [item for item in listed if item.manifest is None])
    lost += without
    unknown = [_lost(item, listed) for item in lost]
    guards = guards_of(store, source.name, now)
    candidates = (*gathered.candidates, *bases, *unknown)
    decisions = decide(candidates, rules, guards, store=store, prefixes=prefixes, now=now)
    grace = grace_of(source)
    places = {SAFETY_PREFIX, *(tier.prefix for tier in source.tiers.values()), *prefixes.values()}
    policy = source.cleanup or CleanupPolicy()
    existing = frozenset(prefixes)
    kept = {**guards.held, **guards.in_use}
    return CleanupPlan(
        source=source.name,
        made_at=now,
        decisions=decisions,
        prefixes=prefixes,
        orphans=orphans(never_finished, grace=grace, kept=kept, now=now),
        half_deleted=tuple(item.backup_id for item in half_deleted),
        lost=tuple(item.backup_id for item in lost),
        unfinished=unfinished_uploads(store, source.name, places, grace=grace, now=now),
        wal=_wal(ctx, decisions, lost),
        proofs=old_proofs(store, source.name, existing=existing, keep=policy.keep_proofs, now=now),
        marks=stale_marks(store, source.name, now),
        staging=() if ctx.staging_root is None else dead_staging(ctx.staging_root, source, now=now),
        databases=_databases(ctx, guards, lambda: newest_proven_full(catalog, gathered, rules), now),
    )


def _databases(
    ctx: CleanupContext, guards: Guards, newest: Callable[[], Candidate | None], now: datetime
) -> tuple[KeptDecision, ...]:
    if ctx.restores is None or ctx.source.restore is None:
        return ()
    proven = cache(lambda: None if (found := newest()) is None else found.snapshot_time)
    return plan_databases(ctx.restores, ctx.store, ctx.source.name, held=guards.held, newest_proven=proven, now=now)


def cleanup_rules(source: SourcePolicy) -> dict[str, TierRule]:
    """Return the rules of all tiers, base backups and the copies of what restores have replaced included."""
    rules = rules_of(source)
    if source.base_backup is not None:
        rules[BASE_TIER] = TierRule(keep=source.base_backup.keep)
    if source.restore is not None:
        rules[SAFETY_TIER] = TierRule(keep=safety_keep(source.restore), proven_elsewhere=True)
    return rules


def guards_of(store: ObjectStore, source: str, now: datetime) -> Guards:
    """Return what people hold, and what is being read, right now."""
    return Guards(held=held_backups(list_holds(store, source), now), in_use=backups_in_use(store, source, now))


def decide(
    candidates: Iterable[Candidate],
    rules: Mapping[str, TierRule],
    guards: Guards,
    *,
    store: ObjectStore,
    prefixes: Mapping[str, str],
    now: datetime,
) -> tuple[Decision, ...]:
    """Decide, then ask for the locks of what would expire, and decide again."""
    backups = tuple(candidates)
    decisions = plan_backups(backups, rules, guards, now=now)
    if not store.has_object_lock():
        return decisions
    locked = {}
    for decision in decisions:
        if decision.expires:
            backup_id = decision.backup.backup_id
            for key in keys_of(prefixes[backup_id], backup_id):
                text = store.lock_of(key)
                if text is not None:
                    locked[backup_id] = text
    return plan_backups(backups, rules, replace(guards, locked=locked), now=now)


def keys_of(prefix: str, backup_id: str) -> tuple[str, str]:
    """Return the keys of a backup in the order in which they are deleted: the archive, then the manifest."""
    manifest = manifest_key(prefix, backup_id)
    return f"{manifest.removesuffix('.manifest.json')}.tar", manifest


def _without_archive(
    ctx: CleanupContext, listed: Iterable[ListedBackup]
) -> tuple[list[ListedBackup], list[ListedBackup]]:
    """Part manifests without archive into those whose deletion had begun, and those whose archive was lost."""
    begun: list[ListedBackup] = []
    lost: list[ListedBackup] = []
    for item in listed:
        (begun if _is_recorded(ctx, deletion_name(item.backup_id)) else lost).append(item)
    return begun, lost


def _without_manifest(
    ctx: CleanupContext, listed: Iterable[ListedBackup]
) -> tuple[list[ListedBackup], list[ListedBackup]]:
    """Part archives without manifest into those that were never finished, and those whose manifest was lost.

    Evidence or a proof says that there was a backup: then somebody deleted its manifest, which may be undone.
    """
    never: list[ListedBackup] = []
    lost: list[ListedBackup] = []
    for item in listed:
        was_backup = item.proofs > 0 or _is_recorded(ctx, backup_name(item.backup_id))
        if not was_backup:
            never.append(item)
        elif ctx.store.head(manifest_key(item.prefix, item.backup_id)) is None:
            lost.append(item)
    return never, lost


def _is_recorded(ctx: CleanupContext, name: str) -> bool:
    return ctx.store.head(once_key(ctx.source.name, name)) is not None


def _lost(item: ListedBackup, listed: Iterable[ListedBackup]) -> Candidate:
    """Return a backup of which one object is lost: it may come back, and then needs what it needed before."""
    what = "archive" if item.archive is None else "manifest"
    return cannot_be_judged(item, f"its {what} is lost", listed)


def deletion_name(backup_id: str) -> str:
    """Return the name under which the deletion of a backup is recorded once."""
    return f"deletion:{backup_id}"


def _wal(ctx: CleanupContext, decisions: Iterable[Decision], lost: Iterable[ListedBackup]) -> tuple[WalExpiry, ...]:
    """Return what of the log goes; where a base backup has lost its manifest, nobody knows from where it is needed."""
    expiring = frozenset(decision.backup.backup_id for decision in decisions if decision.expires)
    unclear = {item.prefix for item in lost if item.manifest is None}
    only = [name for name in clusters_of(ctx.source, ctx.store) if base_prefix(name).rstrip("/") not in unclear]
    found = (
        *wal_expiries(ctx.store, expiring=expiring, only=only),
        *former_logs(ctx.source, ctx.store, now=ctx.clock()),
    )
    return tuple(expiry for expiry in found if any_expired(ctx.store, expiry))


def any_expired(store: ObjectStore, expiry: WalExpiry) -> bool:
    """Say whether there is anything of this log to delete."""
    return next(iter(expired_segments(store, expiry)), None) is not None
