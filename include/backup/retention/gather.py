"""What the store holds of a source, as the retention plan asks: read only where something may have expired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from include.backup.attachments.record import KIND as ATTACHMENTS
from include.backup.backup_id import BackupId, parse_backup_id
from include.backup.catalog import Catalog, ListedBackup
from include.backup.errors import ArchiveError, BackupMissingError
from include.backup.inventory import Standing, standing_of
from include.backup.manifest import Manifest, read_manifest
from include.backup.policy import SourcePolicy
from include.backup.retention.plan import Candidate, TierRule, stands_for_all

CONCURRENCY = 8
# Backups of these tiers refer to earlier ones: attachments that did not change, and incremental base backups.
DEPENDENT_TIERS = frozenset({"monthly", "yearly", "incremental"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Whole backups as candidates, and those of which one object is missing."""

    candidates: tuple[Candidate, ...]
    without_manifest: tuple[ListedBackup, ...]
    without_archive: tuple[ListedBackup, ...]
    prefixes: Mapping[str, str]


def rules_of(source: SourcePolicy) -> dict[str, TierRule]:
    """Return what the policy says of each tier."""
    return {tier.name: TierRule(keep=tier.keep, thinning=tier.thinning) for tier in source.tiers.values()}


def gather(catalog: Catalog, rules: Mapping[str, TierRule], *, now: datetime) -> Gathered:
    """List the backups, and read manifests and proofs where the plan depends on them.

    A backup's data is never older than the time its run was due, so the id alone shows what cannot have expired.
    Its proof is asked for from the newest on until one is proven: older ones change nothing.
    """
    listed = catalog.list()
    whole = [item for item in listed if item.archive is not None and item.manifest is not None]
    estimates = [_estimate(item, parse_backup_id(item.backup_id)) for item in whole]
    suspects = {one.backup_id for one in estimates if may_have_expired(one, rules.get(one.tier), now)}
    wanted = {one.backup_id for one in estimates if one.backup_id in suspects or _may_depend(one)}
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="gather") as pool:
        read = dict(pool.map(lambda one: (one.backup_id, _read(catalog, one)), _chosen(estimates, wanted)))
        candidates = [read.get(one.backup_id, one) for one in estimates]
        thinned = [one for one in candidates if one.backup_id in suspects and _thins(rules.get(one.tier))]
        proven = {one.backup_id for one, is_proven in pool.map(_with_proof(catalog), thinned) if is_proven}
    proven |= _newest_proven(catalog, candidates, suspects, rules)
    return Gathered(
        candidates=tuple(replace(one, proven=one.backup_id in proven) for one in candidates),
        without_manifest=tuple(item for item in listed if item.manifest is None),
        without_archive=tuple(item for item in listed if item.archive is None),
        prefixes={item.backup_id: item.prefix for item in listed},
    )


def may_have_expired(one: Candidate, rule: TierRule | None, now: datetime) -> bool:
    """Say whether a backup whose data is at least as young as ``snapshot_time`` can have expired or be thinned out."""
    if rule is None:
        return False
    if rule.keep.after(one.snapshot_time) <= now:
        return True
    return rule.thinning is not None and now - one.snapshot_time > rule.thinning.after


def needs_of(manifest: Manifest) -> frozenset[str]:
    """Return the backups without which this one cannot be restored."""
    parent = None if manifest.base is None else manifest.base.parent
    return frozenset(manifest.depends_on) | (frozenset() if parent is None else frozenset({parent}))


def _may_depend(one: Candidate) -> bool:
    """Say whether a backup can need others however young it is."""
    return one.tier in DEPENDENT_TIERS or one.kind == ATTACHMENTS


def _estimate(item: ListedBackup, parsed: BackupId) -> Candidate:
    size = 0 if item.archive is None else item.archive.size
    return Candidate(
        backup_id=item.backup_id, tier=parsed.tier, kind=parsed.kind, snapshot_time=parsed.run_after, size=size
    )


def _chosen(candidates: Iterable[Candidate], ids: set[str]) -> Sequence[Candidate]:
    return [one for one in candidates if one.backup_id in ids]


def _read(catalog: Catalog, one: Candidate) -> Candidate:
    """Return the candidate as its manifest has it; one that cannot be read cannot be judged."""
    try:
        manifest = read_manifest(catalog.manifest_bytes(one.backup_id), name=one.backup_id)
    except (ArchiveError, BackupMissingError) as error:
        return replace(one, unknown=f"its manifest cannot be read: {error}")
    if manifest.backup_id != one.backup_id:
        return replace(one, unknown=f"its manifest is that of {manifest.backup_id}")
    return replace(one, snapshot_time=manifest.dump.snapshot.time, needs=needs_of(manifest))


def _thins(rule: TierRule | None) -> bool:
    return rule is not None and rule.thinning is not None


def newest_proven_full(
    catalog: Catalog, candidates: Iterable[Candidate], rules: Mapping[str, TierRule]
) -> Candidate | None:
    """Return the newest full backup of the policy's tiers that is proven."""
    return _first_proven(catalog, [one for one in candidates if stands_for_all(one, rules)])


def _newest_proven(
    catalog: Catalog, candidates: Sequence[Candidate], suspects: set[str], rules: Mapping[str, TierRule]
) -> set[str]:
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for one in candidates:
        groups.setdefault((one.tier, one.kind), []).append(one)
    found: set[str] = set()
    for (tier, _), group in groups.items():
        if not any(one.backup_id in suspects for one in group):
            continue
        newest = (
            newest_proven_full(catalog, candidates, rules)
            if rules[tier].proven_elsewhere
            else _first_proven(catalog, group)
        )
        if newest is not None:
            found.add(newest.backup_id)
    return found


def _first_proven(catalog: Catalog, group: Iterable[Candidate]) -> Candidate | None:
    is_proven = _with_proof(catalog)
    newest_first = sorted(group, key=lambda one: (one.snapshot_time, one.backup_id), reverse=True)
    return next((one for one in newest_first if one.unknown is None and is_proven(one)[1]), None)


def _with_proof(catalog: Catalog) -> Callable[[Candidate], tuple[Candidate, bool]]:
    def look(one: Candidate) -> tuple[Candidate, bool]:
        try:
            standing = standing_of(catalog.manifest_bytes(one.backup_id), catalog.proofs(one.backup_id))
        except (ArchiveError, BackupMissingError):
            return one, False
        return one, standing is Standing.PROVEN

    return look
