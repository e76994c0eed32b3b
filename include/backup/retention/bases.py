"""Base backups and the log after them: kept as far back as any point in time is to be recovered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from include.backup.backup_id import parse_backup_id
from include.backup.base.record import BaseFacts
from include.backup.base.stored import StoredBase, base_prefix, clusters, stored_bases
from include.backup.catalog import MANIFEST_SUFFIX, ListedBackup
from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.inventory import Standing
from include.backup.manifest import read_manifest
from include.backup.policy import SourcePolicy
from include.backup.retention.gather import cannot_be_judged
from include.backup.retention.plan import Candidate
from include.backup.store import ObjectStore
from include.backup.wal.keys import ClusterKeys, partial_of_key
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.segments import Segment
from include.backup.wal.stored import stored_segments, stored_timelines


@dataclass(frozen=True, slots=True, kw_only=True)
class WalExpiry:
    """The log of one timeline that no kept base backup needs: every segment before ``before``, or all of them."""

    cluster: str
    timeline: int
    size: int
    before: int | None
    why: str

    def covers(self, segment: Segment) -> bool:
        """Say whether a segment has expired."""
        return self.before is None or segment.number < self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """From where on a kept base backup needs the log."""

    backup_id: str
    timeline: int
    first: int
    size: int


def base_candidates(source: SourcePolicy, store: ObjectStore, listed: Sequence[ListedBackup]) -> tuple[Candidate, ...]:
    """Return the base backups of a source as candidates; one that cannot be read keeps all that it may build on."""
    readable = [_candidate(one) for one in stored_bases(source, store)]
    known = {one.backup_id for one in readable}
    unknown = [
        cannot_be_judged(item, "its manifest cannot be read", listed)
        for item in listed
        if item.archive is not None and item.manifest is not None and item.backup_id not in known
    ]
    return (*count_from_the_next(readable), *unknown)


def count_from_the_next(bases: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Let the retention of each base backup begin when the next proven one was finished.

    A time shortly before that can only be reached from this one.
    """
    ordered = sorted(bases, key=lambda one: (one.snapshot_time, one.backup_id))
    found = []
    following = None
    for one in reversed(ordered):
        found.append(replace(one, counts_from=following or one.snapshot_time))
        if one.proven:
            following = one.snapshot_time
    return tuple(reversed(found))


def plan_wal(needed: Iterable[Needed], timelines: Iterable[int], *, cluster: str) -> tuple[WalExpiry, ...]:
    """Decide from where on the log of each timeline is needed. Without any base backup everything is kept.

    A base backup needs its own timeline and those that branched off later, from its first segment on.
    """
    points = list(needed)
    if not points:
        return ()
    size = points[0].size
    if any(point.size != size for point in points):
        return ()
    found = []
    for timeline in sorted(set(timelines)):
        users = [point for point in points if point.timeline <= timeline]
        first = min(users, key=lambda point: point.first, default=None)
        why = "no kept base backup is on it" if first is None else f"{first.backup_id} is the oldest that is kept"
        before = None if first is None else first.first
        found.append(WalExpiry(cluster=cluster, timeline=timeline, size=size, before=before, why=why))
    return tuple(found)


def wal_expiries(store: ObjectStore, *, expiring: frozenset[str], only: Iterable[str]) -> tuple[WalExpiry, ...]:
    """Return what of the stored log has expired, once these base backups are gone.

    Every base backup of a cluster counts, whichever source took it; one that cannot be read keeps all of its log.
    """
    found: list[WalExpiry] = []
    for cluster in sorted(set(only) & set(clusters(store))):
        points = _kept_points(store, cluster, expiring)
        if points is not None:
            keys = ClusterKeys(system_identifier=cluster)
            found.extend(plan_wal(points, stored_timelines(store, keys), cluster=cluster))
    return tuple(found)


def clusters_of(source: SourcePolicy, store: ObjectStore) -> frozenset[str]:
    """Return the clusters of which a source has base backups."""
    found = set()
    for cluster in clusters(store):
        page = store.page(f"{base_prefix(cluster)}{source.name}_", start_after="", limit=10)
        names = (parse_backup_id(key.rpartition("/")[2].partition(".")[0], strict=False) for key in page)
        if any(parsed is not None and parsed.source == source.name for parsed in names):
            found.add(cluster)
    return frozenset(found)


def expired_segments(store: ObjectStore, expiry: WalExpiry) -> Iterator[str]:
    """Yield the keys of the log that has expired, in order; stops listing at the first that has not."""
    keys = ClusterKeys(system_identifier=expiry.cluster)
    for segment in stored_segments(store, keys, expiry.timeline, size=expiry.size):
        if not expiry.covers(segment):
            break
        yield keys.segment(segment)
    # Of one segment there may be many beginnings: one of each run of a role that may not switch.
    for key in store.keys(keys.partials(expiry.timeline)):
        partial = partial_of_key(key, size=expiry.size)
        if partial is not None and expiry.covers(partial[0]):
            yield key


def _kept_points(store: ObjectStore, cluster: str, expiring: frozenset[str]) -> list[Needed] | None:
    points = []
    for item in store.list(base_prefix(cluster)):
        backup_id = item.key.rpartition("/")[2].removesuffix(MANIFEST_SUFFIX)
        if not item.key.endswith(MANIFEST_SUFFIX) or backup_id in expiring:
            continue
        try:
            base = read_manifest(store.get(item.key), name=item.key).base
        except (ArchiveError, ObjectMissingError):
            return None
        if base is None:
            return None
        points.append(_needed(backup_id, base))
    return points


def _needed(backup_id: str, base: BaseFacts) -> Needed:
    first = Segment.at(parse_lsn(base.start_lsn), timeline=base.timeline, size=base.wal_segment_bytes)
    return Needed(backup_id=backup_id, timeline=base.timeline, first=first.number, size=base.wal_segment_bytes)


def _candidate(one: StoredBase) -> Candidate:
    parsed = parse_backup_id(one.backup_id)
    return Candidate(
        backup_id=one.backup_id,
        tier=parsed.tier,
        kind=parsed.kind,
        snapshot_time=one.stopped_at,
        proven=one.standing is Standing.PROVEN,
        size=one.manifest.archive.size,
        needs=frozenset() if one.base.parent is None else frozenset({one.base.parent}),
    )
