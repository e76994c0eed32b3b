"""Gather what a report is built from: the listings, each manifest and newest proof, the ledger since the
month before, the log's runs.

Nothing is asked about an object one by one but the newest of each tier, a sample, and what is about to expire.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from include.backup.audit.facts import Asked, AuditFacts, BackupFact, CopiesFacts, LedgerFacts, TrendPoint, Use
from include.backup.audit.fleet import gather_fleet
from include.backup.audit.keep import MONTHS_BACK, earlier_trend
from include.backup.audit.ledger import read_ledger
from include.backup.audit.log import WAL, log_objects, sizes, wal_runs
from include.backup.audit.month import Month
from include.backup.audit.storage import add_up, held_at
from include.backup.audit.stored import list_proofs, read_backups
from include.backup.backup_id import parse_backup_id
from include.backup.base.stored import base_prefix, clusters
from include.backup.catalog import ListedBackup, archive_key
from include.backup.connections import StoreConnection
from include.backup.copies.report import read_report
from include.backup.errors import ArchiveError, ObjectMissingError, StoreError
from include.backup.evidence import Event, Ledger
from include.backup.evidence.policy_record import policies_until
from include.backup.health.board import Board
from include.backup.inventory import Standing
from include.backup.policy import Policy, SourcePolicy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.retention.bases import count_from_the_next
from include.backup.retention.cleanup import BASE_TIER, cleanup_rules, decide, guards_of
from include.backup.retention.plan import Candidate, Decision
from include.backup.steps.context import SAFETY_PREFIX, encryption_of, open_catalog
from include.backup.store import Encryption, ObjectStore

# What could be restored when a month began may have expired since, so that only the ledger still knows of it: a month,
# which is the longest between two backups and the most that a policy promises to lose, and the time that a proof takes.
LOOK_BACK = timedelta(days=35)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditContext:
    """Whom to ask. ``open_source`` opens the store of another source, for the fleet's table.

    ``key_arn`` is what the policy's key is now, where it names one and KMS answers.
    """

    policy: Policy
    source: SourcePolicy
    store: ObjectStore
    store_connection: StoreConnection
    open_source: Callable[[SourcePolicy], ObjectStore]
    month: Month
    made_by: str
    now: datetime
    key_arn: str | None = None


def policy_key(source: SourcePolicy, store: ObjectStore) -> str | None:
    """Return the ARN of the policy's key; None where it names none, or where KMS does not say: then it is not shown."""
    try:
        return encryption_of(source, store).kms_key_arn
    except StoreError as error:
        logger.warning("which key the policy's is cannot be shown: %s", error)
        return None


def gather(ctx: AuditContext) -> AuditFacts:
    """Return the facts; raises StoreError when the source's own store does not answer."""
    source, store, month = ctx.source, ctx.store, ctx.month
    known = earlier_trend(store, source.name, month)
    wanted = _wanted_months(known, month)
    ledger = read_ledger(store, source.name, since=min(month.begin - LOOK_BACK, wanted[0].end))
    bases = [base_prefix(cluster) for cluster in clusters(store)]
    listed = open_catalog(source, store, also=[*bases, SAFETY_PREFIX]).list()
    proofs = list_proofs(store, source.name)
    prefixes = {item.backup_id: item.prefix for item in listed}
    backups = _asked(ctx, read_backups(store, listed, proofs.keys), prefixes)
    until = min(month.end, ctx.now)
    log, log_then = sizes(log_objects(source, store), at=until)
    # Who is only to read this needs no key to write with.
    board = Board(store, source=source.name, encryption=Encryption(algorithm=None))
    return AuditFacts(
        source=source.name,
        month=month,
        made_at=ctx.now,
        made_by=ctx.made_by,
        backups=backups,
        incomplete=tuple(_incomplete(item) for item in listed if item.archive is None or item.manifest is None),
        decisions=_decisions(ctx, backups, prefixes),
        uses=(
            *_archive_uses(listed),
            *_log_uses(log),
            *add_up(("proofs", item.storage_class, item.size) for item in proofs.infos),
        ),
        trend=_trend(ctx, wanted, known, backups, ledger, _log_uses(log_then)),
        wal_runs=() if source.incremental is None else wal_runs(store, source.name, month),
        ledger=ledger,
        policies=_policies(ctx),
        open_alerts=board.open_alerts(),
        copies=_copies(store, source.name, month),
        fleet=gather_fleet(ctx.policy, lambda other: store if other.name == source.name else ctx.open_source(other)),
        rejected_sources={name: str(error) for name, error in ctx.policy.rejected.items()},
        object_lock=store.has_object_lock(),
        key_arn=ctx.key_arn,
        store_tls=not (ctx.store_connection.endpoint_url or "https:").startswith("http:"),
    )


def _policies(ctx: AuditContext) -> tuple[Event, ...]:
    """Return the policies on record from the one in force at the month's begin on; nothing is written."""
    nothing = Encryption(algorithm=None)
    ledger = Ledger(ctx.store, source=ctx.source.name, encryption=nothing, policy=EvidencePolicy())
    return tuple(policies_until(ledger, ctx.month.begin))


def _wanted_months(known: Sequence[TrendPoint], month: Month) -> list[Month]:
    """Return the months whose use is to be found out now: this one, and those that no earlier report knows."""
    after = Month.parse(known[-1].month) if known else month.plus(-MONTHS_BACK)
    wanted = [month.plus(-back) for back in range(MONTHS_BACK - 1, -1, -1)]
    return [one for one in wanted if one > after] or [month]


def _trend(
    ctx: AuditContext,
    wanted: Sequence[Month],
    known: Sequence[TrendPoint],
    backups: Sequence[BackupFact],
    ledger: LedgerFacts,
    log: Sequence[Use],
) -> tuple[TrendPoint, ...]:
    """Return what earlier reports had, and what manifests and the ledger say of the months since."""
    classes = {tier.name: tier.storage_class for tier in ctx.source.tiers.values()}
    points = [replace(point, from_report=True) for point in known if point.month not in map(str, wanted)]
    for month in wanted:
        at = min(month.end, ctx.now)
        uses = held_at(at, backups, ledger.events, classes)
        if month == ctx.month:
            points.append(TrendPoint(month=str(month), at=at, uses=(*uses, *log), wal_known=True))
        elif uses:
            points.append(TrendPoint(month=str(month), at=at, uses=uses, wal_known=False))
    return tuple(points[-MONTHS_BACK:])


def _archive_uses(listed: Iterable[ListedBackup]) -> tuple[Use, ...]:
    return add_up(
        (parse_backup_id(item.backup_id).tier, info.storage_class, info.size)
        for item in listed
        for info in (item.archive, item.manifest)
        if info is not None
    )


def _log_uses(counts: dict[str, list[int]]) -> tuple[Use, ...]:
    return tuple(
        Use(tier=WAL, storage_class=name, objects=found[0], size=found[1]) for name, found in sorted(counts.items())
    )


def _incomplete(item: ListedBackup) -> str:
    return f"{item.backup_id} ({'no archive' if item.archive is None else 'no manifest'})"


def _decisions(ctx: AuditContext, backups: Sequence[BackupFact], prefixes: dict[str, str]) -> tuple[Decision, ...]:
    """Decide as the cleanup would, from what was read already; locks are asked for where something would expire."""
    candidates = [_candidate(one) for one in backups]
    ordinary = [one for one in candidates if one.tier != BASE_TIER]
    bases = count_from_the_next([one for one in candidates if one.tier == BASE_TIER])
    guards = guards_of(ctx.store, ctx.source.name, ctx.now)
    rules = cleanup_rules(ctx.source)
    return decide((*ordinary, *bases), rules, guards, store=ctx.store, prefixes=prefixes, now=ctx.now)


def _candidate(one: BackupFact) -> Candidate:
    return Candidate(
        backup_id=one.backup_id,
        tier=one.tier,
        kind=one.kind,
        snapshot_time=one.snapshot_time or one.run_after,
        proven=one.standing is Standing.PROVEN,
        size=one.size,
        needs=frozenset(one.needs),
        unknown=one.problem if one.snapshot_time is None else None,
    )


def _asked(ctx: AuditContext, backups: Sequence[BackupFact], prefixes: dict[str, str]) -> tuple[BackupFact, ...]:
    """Ask the store about the newest archive of each tier and kind, and about a sample that is the same for a month."""
    newest = {(one.tier, one.kind): one.backup_id for one in backups}
    chance = random.Random(f"{ctx.source.name} {ctx.month}")  # noqa: S311 - a fair choice, and the same for each try
    ids = sorted(one.backup_id for one in backups)
    chosen = {*newest.values(), *chance.sample(ids, min(ctx.source.audit.sample, len(ids)))}
    return tuple(
        replace(one, asked=_ask(ctx.store, archive_key(prefixes[one.backup_id], one.backup_id), one))
        if one.backup_id in chosen
        else one
        for one in backups
    )


def _ask(store: ObjectStore, key: str, one: BackupFact) -> Asked:
    info = store.head(key)
    if info is None:
        return Asked(lock=None, differences=("the archive is gone",))
    differences = []
    if info.size != one.size:
        differences.append(f"it has {info.size} bytes")
    if one.encryption not in (None, "none", info.encryption):
        differences.append(f"the store says that it is encrypted with {info.encryption or 'nothing'}")
    elif one.kms_key is not None and info.kms_key_id != one.kms_key:
        differences.append(f"the store says that its key is {info.kms_key_id or 'none'}")
    return Asked(lock=store.lock_of(key) if store.has_object_lock() else None, differences=tuple(differences))


def _copies(store: ObjectStore, source: str, month: Month) -> CopiesFacts:
    """Read the 3-2-1 reports of the month; one that cannot be read counts as not met."""
    keys = [item.key for item in store.list(f"audit/{source}/copies/{month.year}{month.month:02}")]
    found = CopiesFacts(reports=len(keys))
    for key in keys:
        try:
            report = read_report(store.get(key), name=key)
        except (ArchiveError, ObjectMissingError):
            continue
        met = found.met + report.met
        found = replace(found, met=met, newest=report.line(), newest_at=report.at, off_site=report.off_site)
    return found
