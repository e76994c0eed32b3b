"""Gather what the rules look at: from the store's listing, the newest backups, the log, and Supabase.

The store is listed once. Only the newest backups of each tier are read, with the newest one of the last look, and the
proofs of those that a listed proof calls failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog, ListedBackup
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.copies.look import look_at_copies
from include.backup.errors import ArchiveError, BackupError, StoreError, SupabaseError, WalRefusedError
from include.backup.every_backup import every_backup
from include.backup.health.board import Board, Heartbeat, read_heartbeat
from include.backup.health.facts import AirflowFacts, BackupFact, DiskFact, HealthFacts, WalFacts
from include.backup.health.finding import RowsBefore
from include.backup.health.objects import archive_problem, evidence_problems
from include.backup.health.use import Use, grows_per_day
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest, read_manifest
from include.backup.policy import Policy, SourcePolicy
from include.backup.policy.health import HealthPolicy
from include.backup.proof.times import NewestProof, newest_proofs
from include.backup.store import Encryption, ObjectStore
from include.backup.supabase.project import SupabaseProject
from include.backup.wal.provider import Mode, check_watchable, mode_of, watch
from include.backup.wal.release import left_sources
from include.backup.wal.status import read_standing as read_wal

# What is compared with what was before it.
READ_PER_TIER = 2
# Their sizes come with the listing; those of the log and of old versions would take one of their own.
BUDGET = "the store's budget (archives, without WAL and old versions)"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherContext:
    """Whom to ask. ``airflow`` was gathered by who can reach Airflow."""

    policy: Policy
    source: SourcePolicy
    store: ObjectStore
    store_connection: StoreConnection
    database: DatabaseConnection
    open_project: Callable[[], SupabaseProject | None]
    now: datetime
    airflow: AirflowFacts = field(default_factory=AirflowFacts)
    unreachable: Mapping[str, str] = field(default_factory=dict)


def gather(ctx: GatherContext) -> HealthFacts:
    """Return the facts; what cannot be asked is a fact as well. Raises StoreError when the store does not answer."""
    catalog = every_backup(ctx.source, ctx.store)
    listed = [item for item in catalog.list() if item.archive and item.manifest]
    board = Board(ctx.store, source=ctx.source.name, encryption=Encryption(algorithm=None))
    beat = read_heartbeat(ctx.store, ctx.source.name)
    problems: dict[str, str] = {}
    proofs = newest_proofs(ctx.store, ctx.source.name)
    backups = tuple(
        _with_proof(one, proofs.get(one.backup_id), catalog) for one in _backups(ctx, catalog, listed, problems, beat)
    )
    unreachable = dict(ctx.unreachable)
    return HealthFacts(
        source=ctx.source.name,
        now=ctx.now,
        backups=backups,
        rows_before=_rows_before(board),
        airflow=ctx.airflow,
        wal=_wal(ctx, unreachable),
        disks=tuple(_disks(ctx, board.uses(), listed, unreachable)),
        unreachable=unreachable,
        copies_missing=_copies(ctx, catalog),
        object_problems={**problems, **evidence_problems(ctx.store, ctx.source)},
        rejected_sources={name: str(error) for name, error in ctx.policy.rejected.items()},
        ping_failure=_ping_failure(ctx, beat),
        left_slots={left.source: left.line() for left in left_sources(ctx.store, kept=_streaming(ctx.policy))},
    )


def _rows_before(board: Board) -> Mapping[str, RowsBefore]:
    """Return what tables had before they lost rows, of the open alerts that nobody has acknowledged."""
    found: dict[str, RowsBefore] = {}
    for alert in board.open_alerts():
        lost = {f"{alert.subject}:{table}": before for table, before in alert.gone.items()}
        if alert.rows_before is not None:
            lost[alert.subject] = alert.rows_before
        if lost and not any(said.knows(alert) for said in board.acknowledgements((alert,))):
            found.update(lost)
    return found


def _ping_failure(ctx: GatherContext, beat: Heartbeat | None) -> str | None:
    """Return why the last look's request did not arrive; none is asked for any more when the policy has no ping."""
    wanted = ctx.source.health is not None and ctx.source.health.ping is not None
    return beat.ping_failure if beat is not None and wanted else None


def _streaming(policy: Policy) -> set[str]:
    """Return the sources whose slots are needed; of one that is left out of the policy nobody knows, so it counts."""
    return {source.name for source in policy.sources.values() if source.incremental is not None} | set(policy.rejected)


def _backups(
    ctx: GatherContext, catalog: Catalog, listed: list[ListedBackup], problems: dict[str, str], beat: Heartbeat | None
) -> Iterator[BackupFact]:
    by_tier: dict[str, list[ListedBackup]] = {}
    for item in listed:
        parsed = parse_backup_id(item.backup_id)
        tier = ctx.source.tiers.get(parsed.tier)
        # The schema beside a weekly backup is none of the tier's own.
        if tier is None or tier.kind == parsed.kind:
            by_tier.setdefault(parsed.tier, []).append(item)
    for tier_name, items in by_tier.items():
        seen = [index for index, item in enumerate(items) if beat is not None and _stored_by(item, beat.at)]
        read = {*range(len(items))[-READ_PER_TIER:], *seen[-1:]}
        for index, item in enumerate(items):
            about = problems if index == len(items) - 1 else None
            yield _backup(ctx, catalog, tier_name, item, about, read=index in read)


def _stored_by(item: ListedBackup, at: datetime) -> bool:
    return item.manifest is not None and item.manifest.modified <= at


def _with_proof(backup: BackupFact, proof: NewestProof | None, catalog: Catalog) -> BackupFact:
    """Add when a backup was proven last; where that failed, read what its proofs say, however old it is."""
    if proof is None:
        return backup
    looked = backup.standing
    if looked is None and proof.failed:
        looked = read_standing(catalog, backup.backup_id)
    return replace(backup, proven_at=proof.made_at, standing=looked)


def _backup(
    ctx: GatherContext,
    catalog: Catalog,
    tier: str,
    item: ListedBackup,
    problems: dict[str, str] | None,
    *,
    read: bool,
) -> BackupFact:
    archive = item.archive
    if archive is None:
        raise StoreError(f"{item.backup_id} has lost its archive while health was looked at; look again")
    standing: Standing | None = None
    rows: dict[str, int] | None = None
    builds_on_another = False
    if read:
        standing = read_standing(catalog, item.backup_id) if item.proofs else Standing.UNPROVEN
        try:
            manifest = read_manifest(catalog.manifest_bytes(item.backup_id), name=item.backup_id)
        except (ArchiveError, BackupError):
            standing = Standing.UNREADABLE
        else:
            rows = rows_of(manifest)
            builds_on_another = manifest.base is not None and manifest.base.incremental
            if problems is not None:
                found = archive_problem(ctx.store, manifest, ctx.source)
                problems.update({} if found is None else {item.backup_id: found})
    return BackupFact(
        backup_id=item.backup_id,
        tier=tier,
        run_after=parse_backup_id(item.backup_id).run_after,
        stored_at=archive.modified,
        size=archive.size,
        proofs=item.proofs,
        standing=standing,
        rows=rows,
        storage_class=archive.storage_class,
        builds_on_another=builds_on_another,
    )


def rows_of(manifest: Manifest) -> dict[str, int]:
    """Return the rows of each table; the parts of a partitioned one count together under their own names."""
    found: dict[str, int] = {}
    for data in manifest.table_data:
        name = f"{data.schema}.{data.table}"
        found[name] = found.get(name, 0) + data.rows
    return found


def _wal(ctx: GatherContext, unreachable: dict[str, str]) -> WalFacts | None:
    if ctx.source.incremental is None:
        return None
    if mode_of(ctx.database) is Mode.PROVIDER:
        return _provider_wal(ctx, unreachable)
    standing = read_wal(ctx.source, ctx.store, ctx.database, now=ctx.now)
    if standing.unreachable is not None:
        unreachable["source"] = standing.unreachable
    return WalFacts(
        rpo_seconds=standing.rpo_seconds,
        gaps={gap.first.name: gap.line() for gap in standing.lost},
        problems=tuple(text for text in standing.problems if standing.unreachable is None or "answer" not in text),
    )


def _provider_wal(ctx: GatherContext, unreachable: dict[str, str]) -> WalFacts | None:
    """Return that the provider cannot recover, and None where it can: none of that log is stored here.

    Its latest time says nothing of what would be lost, since it stays where it is while nobody writes.
    """
    try:
        check_watchable(ctx.source)
        project = ctx.open_project()
        if project is not None:
            with project:
                watch(ctx.source, project, now=ctx.now)
    except WalRefusedError as error:
        return WalFacts(rpo_seconds=None, gaps={}, problems=(str(error),))
    except SupabaseError as error:
        unreachable["Supabase's Management API"] = str(error)
    return None


def _disks(
    ctx: GatherContext, uses: Sequence[Use], listed: list[ListedBackup], unreachable: dict[str, str]
) -> Iterator[DiskFact]:
    """Yield how full the budget is, and the source's disk where Supabase says it; no other source tells."""

    def disk(name: str, used: int, size: int) -> DiskFact:
        return DiskFact(name=name, used=used, size=size, grows_per_day=grows_per_day(uses, name, used, now=ctx.now))

    budget = (ctx.source.health or HealthPolicy()).budget_bytes
    if budget is not None:
        yield disk(BUDGET, sum(item.archive.size for item in listed if item.archive), budget)
    try:
        project = ctx.open_project()
        if project is None:
            return
        with project:
            use = project.disk_use()
    except SupabaseError as error:
        unreachable["Supabase's Management API"] = str(error)
        return
    yield disk("the source's disk", use.used, use.size)


def _copies(ctx: GatherContext, catalog: Catalog) -> dict[str, str]:
    """Return which copies do not count, or what else 3-2-1 lacks."""
    report = look_at_copies(
        source=ctx.source,
        catalog=catalog,
        connection=ctx.store_connection,
        open_project=ctx.open_project,
        now=ctx.now,
    )
    return report.problems()
