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
from include.backup.inventory import Standing, standing_by
from include.backup.manifest import Manifest, fingerprint, read_manifest
from include.backup.policy import SourcePolicy
from include.backup.retention.plan import Candidate, TierRule, stands_for_all
from include.backup.store import SMALL_READS

BASE = "base"
IsProven = Callable[[Candidate], bool]
# Backups of these tiers refer to earlier ones: attachments that did not change, and incremental base backups.
DEPENDENT_TIERS = frozenset({"monthly", "yearly", "incremental"})
DEPENDENT_KINDS = frozenset({ATTACHMENTS, BASE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Whole backups as candidates, and those of which one object is missing."""

    candidates: tuple[Candidate, ...]
    without_manifest: tuple[ListedBackup, ...]
    without_archive: tuple[ListedBackup, ...]
    listed: tuple[ListedBackup, ...]
    whole: Mapping[str, ListedBackup]


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
    places = {item.backup_id: item for item in whole}
    estimates = [_estimate(item, parse_backup_id(item.backup_id)) for item in whole]
    suspects = {one.backup_id for one in estimates if may_have_expired(one, rules.get(one.tier), now)}
    wanted = {one.backup_id for one in estimates if one.backup_id in suspects or _may_depend(one)}
    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="gather") as pool:
        read = {
            one.backup_id: (one, digest)
            for one, digest in pool.map(_reader(catalog, places, listed), _chosen(estimates, wanted))
        }
        candidates = [read.get(one.backup_id, (one, None))[0] for one in estimates]
        digests = {name: digest for name, (_, digest) in read.items() if digest is not None}
        is_proven = _prover(catalog, places, digests)
        thinned = [one for one in candidates if one.backup_id in suspects and _thins(rules.get(one.tier))]
        proven = {one.backup_id for one, found in zip(thinned, pool.map(is_proven, thinned), strict=True) if found}
    proven |= _newest_proven(is_proven, candidates, suspects, rules)
    return Gathered(
        candidates=tuple(replace(one, proven=one.backup_id in proven) for one in candidates),
        without_manifest=tuple(item for item in listed if item.manifest is None),
        without_archive=tuple(item for item in listed if item.archive is None),
        listed=listed,
        whole=places,
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


def cannot_be_judged(item: ListedBackup, why: str, listed: Iterable[ListedBackup]) -> Candidate:
    """Return a backup as a candidate that nobody can judge, and that therefore keeps whatever it may need."""
    return _unknown(item, _estimate(item, parse_backup_id(item.backup_id)), why, listed)


def _unknown(item: ListedBackup, one: Candidate, why: str, listed: Iterable[ListedBackup]) -> Candidate:
    return replace(one, unknown=why, needs=_may_need(item, one.kind, listed))


def _may_need(item: ListedBackup, kind: str, listed: Iterable[ListedBackup]) -> frozenset[str]:
    """Return all that a backup may need which does not say what it needs: whatever was due before it was stored."""
    there = item.manifest or item.archive
    if kind not in DEPENDENT_KINDS or there is None:
        return frozenset()
    # A base backup builds on those of its cluster.
    inside = [other for other in listed if other is not item and (kind != BASE or other.prefix == item.prefix)]
    others = ((other.backup_id, parse_backup_id(other.backup_id)) for other in inside)
    return frozenset(name for name, other in others if other.kind == kind and other.run_after <= there.modified)


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


def _reader(
    catalog: Catalog, places: Mapping[str, ListedBackup], listed: Sequence[ListedBackup]
) -> Callable[[Candidate], tuple[Candidate, str | None]]:
    """Return what reads a candidate's manifest: the candidate as it has it, and the manifest's fingerprint.

    One that cannot be read cannot be judged.
    """

    def read(one: Candidate) -> tuple[Candidate, str | None]:
        item = places[one.backup_id]
        try:
            content = catalog.manifest_of(item)
            manifest = read_manifest(content, name=one.backup_id)
        except (ArchiveError, BackupMissingError) as error:
            return _unknown(item, one, f"its manifest cannot be read: {error}", listed), None
        if manifest.backup_id != one.backup_id:
            return _unknown(item, one, f"its manifest is that of {manifest.backup_id}", listed), None
        known = replace(one, snapshot_time=manifest.dump.snapshot.time, needs=needs_of(manifest))
        return known, fingerprint(content)

    return read


def _thins(rule: TierRule | None) -> bool:
    return rule is not None and rule.thinning is not None


def newest_proven_full(catalog: Catalog, gathered: Gathered, rules: Mapping[str, TierRule]) -> Candidate | None:
    """Return the newest full backup of the policy's tiers that is proven."""
    is_proven = _prover(catalog, gathered.whole, {})
    return _first_proven(is_proven, [one for one in gathered.candidates if stands_for_all(one, rules)])


def _newest_proven(
    is_proven: IsProven, candidates: Sequence[Candidate], suspects: set[str], rules: Mapping[str, TierRule]
) -> set[str]:
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for one in candidates:
        groups.setdefault((one.tier, one.kind), []).append(one)
    found: set[str] = set()
    for (tier, _), group in groups.items():
        if not any(one.backup_id in suspects for one in group):
            continue
        newest = (
            _first_proven(is_proven, [one for one in candidates if stands_for_all(one, rules)])
            if rules[tier].proven_elsewhere
            else _first_proven(is_proven, group)
        )
        if newest is not None:
            found.add(newest.backup_id)
    return found


def _first_proven(is_proven: IsProven, group: Iterable[Candidate]) -> Candidate | None:
    newest_first = sorted(group, key=lambda one: (one.snapshot_time, one.backup_id), reverse=True)
    return next((one for one in newest_first if one.unknown is None and is_proven(one)), None)


def _prover(catalog: Catalog, places: Mapping[str, ListedBackup], digests: Mapping[str, str]) -> IsProven:
    """Return what says whether a candidate is proven; ``digests`` are the fingerprints of manifests that were read."""

    def is_proven(one: Candidate) -> bool:
        listed = places[one.backup_id]
        try:
            proofs = catalog.proofs_of(listed)
            if not proofs:
                return False
            digest = digests.get(one.backup_id) or fingerprint(catalog.manifest_of(listed))
            standing = standing_by(digest, proofs)
        except (ArchiveError, BackupMissingError):
            return False
        return standing is Standing.PROVEN

    return is_proven
