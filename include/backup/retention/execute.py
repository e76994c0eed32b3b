"""Carry out a cleanup plan: record, delete, read back. What fails is reported and left for the next run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from include.backup.catalog import manifest_key
from include.backup.deletion import MARKER_MEANS, Gone, Outcome, delete_objects
from include.backup.errors import BackupError, RestoreRefusedError, StoreError, TargetBusyError
from include.backup.evidence import EventKind
from include.backup.proof.scratch_lease import reap_scratch
from include.backup.records import to_json
from include.backup.restore.kept import drop_kept
from include.backup.retention.bases import WalExpiry, expired_segments
from include.backup.retention.cleanup import CleanupContext, CleanupPlan, deletion_name, guards_of, keys_of
from include.backup.retention.databases import Fate, KeptDecision, safety_copy_of
from include.backup.retention.leftovers import remove_staging
from include.backup.retention.plan import Decision

FORMAT_VERSION = 1
WAL_BATCH = 5000
SCRATCH_HOURS = 12
SHOWN = 15
LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What became of one thing; ``objects`` are keys, ``failed`` says what is still there, and why."""

    what: str
    name: str
    reason: str
    size: int = 0
    objects: int = 0
    hidden: int = 0
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupReport:
    """What a cleanup did, or would do."""

    source: str
    made_at: datetime
    dry_run: bool
    kept: Mapping[str, int]
    decisions: tuple[str, ...]
    removed: tuple[Removed, ...]
    lost: tuple[str, ...] = ()
    skipped: tuple[str, ...] = field(default_factory=tuple)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(text for one in self.removed for text in one.failed)

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.removed if not one.failed)

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and names, without the decisions: small enough to be handed on."""
        counts: dict[str, int] = {}
        for one in self.removed:
            if one.failed:
                continue
            counts[one.what] = counts.get(one.what, 0) + 1
        return {
            "source": self.source,
            "dry_run": self.dry_run,
            "kept": dict(self.kept),
            "removed": counts,
            "bytes": self.bytes,
            "hidden": sum(one.hidden for one in self.removed),
            "failures": list(self.failures)[:SHOWN],
            "lost": list(self.lost)[:SHOWN],
            "skipped": list(self.skipped)[:SHOWN],
        }

    def line(self) -> str:
        """Return one line of evidence."""
        verb = "would remove" if self.dry_run else "removed"
        removed = dict(self.to_dict()["removed"])
        size = f"{self.bytes} bytes"
        if removed.pop(LOG, None) is not None:
            removed["segments of WAL"] = sum(one.objects for one in self.removed if one.what == LOG)
            size += " besides WAL"
        counts = ", ".join(f"{count} {what}" for what, count in removed.items()) or "nothing"
        text = f"{self.source}: {verb} {counts} ({size}), kept {sum(self.kept.values())} backups"
        if self.failures:
            text += f"; {len(self.failures)} objects could NOT be removed"
        if self.lost:
            lost = ", ".join(self.lost[:SHOWN])
            text += f"; archive or manifest of {lost} is LOST: look for another version or a copy"
        hidden = sum(one.hidden for one in self.removed)
        return text + (f"; {hidden} objects are {MARKER_MEANS}" if hidden else "")


def dry_run(ctx: CleanupContext, plan: CleanupPlan) -> CleanupReport:
    """Return what carrying out the plan would do."""
    removed = [
        *(_backup(decision) for decision in plan.expiring),
        *(
            Removed(what="orphan", name=one.backup_id, reason=f"no manifest since {one.since:%Y-%m-%d}", size=one.size)
            for one in plan.orphans
        ),
        *(Removed(what="manifest", name=name, reason="its deletion had begun") for name in plan.half_deleted),
        *(
            Removed(what="unfinished upload", name=one.key, reason=f"since {one.since:%Y-%m-%d}")
            for one in plan.unfinished
        ),
        *(
            Removed(
                what=LOG,
                name=_wal_name(one),
                reason=one.why,
                objects=sum(1 for _ in expired_segments(ctx.store, one)),
            )
            for one in plan.wal
        ),
        *(Removed(what="proof", name=key, reason="its backup is gone, and its time is over") for key in plan.proofs),
        *(Removed(what="mark", name=key, reason="its reader died") for key in plan.marks),
        *(Removed(what="staging", name=path.name, reason="left by a dead run") for path in plan.staging),
        *(_database(decision) for decision in plan.dropped),
        *_not_looked_at(plan),
    ]
    return _report(plan, removed, dry=True)


def execute(ctx: CleanupContext, plan: CleanupPlan) -> CleanupReport:
    """Carry the plan out. Holds and readers are looked at again before each backup; failures end nothing else."""
    removed: list[Removed] = []
    skipped: list[str] = []
    for decision in plan.expiring:
        backup_id = decision.backup.backup_id
        found = _kept_now(ctx, plan).get(backup_id)
        if found is not None:
            skipped.append(f"{backup_id} is kept after all: {found}")
            ctx.log.info("%s", skipped[-1])
            continue
        removed.append(_delete_backup(ctx, plan, decision))
    kept_after_all = bool(skipped)
    removed += [*_delete_orphans(ctx, plan, skipped), *_delete_leftovers(ctx, plan)]
    removed += [*_drop_databases(ctx, plan, skipped), *_not_looked_at(plan)]
    # What a skipped base backup needs is found out anew by the next run.
    removed += [] if kept_after_all else [_delete_wal(ctx, expiry) for expiry in plan.wal]
    report = _report(plan, removed, dry=False, skipped=skipped)
    _keep_report(ctx, report)
    return report


def _kept_now(ctx: CleanupContext, plan: CleanupPlan) -> Mapping[str, str]:
    """Return what is held or read right now, and whatever that needs, each with why."""
    guards = guards_of(ctx.store, ctx.source.name, ctx.clock())
    found = {**guards.in_use, **guards.held}
    needs = {decision.backup.backup_id: decision.backup.needs for decision in plan.decisions}
    waiting = list(found)
    while waiting:
        keeper = waiting.pop()
        for needed in needs.get(keeper, frozenset()) - found.keys():
            found[needed] = f"needed by {keeper}, {found[keeper]}"
            waiting.append(needed)
    return found


def _delete_backup(ctx: CleanupContext, plan: CleanupPlan, decision: Decision) -> Removed:
    backup = decision.backup
    archive, manifest = keys_of(plan.prefixes[backup.backup_id], backup.backup_id)
    _record(
        ctx,
        backup.backup_id,
        {
            "reason": decision.reason.value,
            "detail": decision.detail,
            "bytes": backup.size,
            "snapshot_time": backup.snapshot_time,
            "key": archive,
        },
    )
    outcomes = list(delete_objects(ctx.store, [archive]))
    if outcomes[0].gone is not Gone.LEFT:
        outcomes += delete_objects(ctx.store, [manifest])
    ctx.log.info("%s", decision.line())
    return _removed(_backup(decision), outcomes)


def _delete_orphans(ctx: CleanupContext, plan: CleanupPlan, skipped: list[str]) -> Iterator[Removed]:
    """Delete archives without manifest; a run that was cleared may have finished one since the plan was made."""
    for orphan in plan.orphans:
        if ctx.store.head(manifest_key(plan.prefixes[orphan.backup_id], orphan.backup_id)) is not None:
            skipped.append(f"{orphan.backup_id} is kept after all: it has a manifest now")
            continue
        _record(ctx, orphan.backup_id, {"reason": "archive without manifest", "bytes": orphan.size, "key": orphan.key})
        made = Removed(
            what="orphan", name=orphan.backup_id, reason=f"no manifest since {orphan.since:%Y-%m-%d}", size=orphan.size
        )
        yield _removed(made, delete_objects(ctx.store, [orphan.key]))


def _delete_leftovers(ctx: CleanupContext, plan: CleanupPlan) -> list[Removed]:
    found = []
    for backup_id in plan.half_deleted:
        made = Removed(what="manifest", name=backup_id, reason="its deletion had begun")
        key = manifest_key(plan.prefixes[backup_id], backup_id)
        found.append(_removed(made, delete_objects(ctx.store, [key])))
    found += [_abort(ctx, key=one.key, upload_id=one.upload_id, since=one.since) for one in plan.unfinished]
    for what, keys in (("proof", plan.proofs), ("mark", plan.marks)):
        if keys:
            made = Removed(what=what, name=f"{len(keys)} below {keys[0].split('/')[0]}/", reason="its time is over")
            found.append(_removed(made, delete_objects(ctx.store, keys)))
    for path in plan.staging:
        made = Removed(what="staging", name=path.name, reason="left by a dead run")
        try:
            if remove_staging(path):
                found.append(made)
        except OSError as error:
            found.append(replace(made, failed=(f"{path}: {error.strerror}",)))
    if ctx.scratch_root is not None:
        reaped = reap_scratch(ctx.scratch_root, older_than_seconds=SCRATCH_HOURS * 3600, now=ctx.clock())
        found += [Removed(what="scratch server", name=name, reason="its holder is dead") for name in reaped]
    return found


def _drop_databases(ctx: CleanupContext, plan: CleanupPlan, skipped: list[str]) -> Iterator[Removed]:
    """Drop what restores have kept; holds are looked at again, and so is each database, by whoever drops it."""
    due = [decision for decision in plan.databases if decision.fate in (Fate.DROPPED, Fate.GONE)]
    if not due or ctx.restores is None:
        return
    restores = ctx.restores()
    for decision in due:
        held = guards_of(ctx.store, ctx.source.name, ctx.clock()).held.get(str(safety_copy_of(decision.kept)))
        if held is not None:
            skipped.append(f"database {decision.kept.database} is kept after all: {held}")
            continue
        try:
            there = drop_kept(restores, decision.kept, name=decision.name)
        except (RestoreRefusedError, TargetBusyError) as error:
            skipped.append(f"database {decision.kept.database} is kept after all: {error}")
        except BackupError as error:
            yield replace(_database(decision), failed=(str(error),))
        else:
            if there:
                ctx.log.info("%s", decision.line())
                yield _database(decision)


def _not_looked_at(plan: CleanupPlan) -> Iterator[Removed]:
    """Yield the databases whose server does not answer: they would stay for ever, and nobody would know."""
    for decision in plan.databases:
        if decision.fate is Fate.UNKNOWN:
            yield replace(_database(decision), failed=(decision.line(),))


def _database(decision: KeptDecision) -> Removed:
    return Removed(what="database", name=decision.kept.database, reason=decision.why, size=decision.bytes)


def _abort(ctx: CleanupContext, *, key: str, upload_id: str, since: datetime) -> Removed:
    made = Removed(what="unfinished upload", name=key, reason=f"since {since:%Y-%m-%d}")
    try:
        ctx.store.abort(key, upload_id)
    except StoreError as error:
        return Removed(what=made.what, name=key, reason=made.reason, failed=(str(error),))
    left = [one for one in ctx.store.unfinished(key) if one[1] == upload_id]
    failed = (f"{key}: the store said that the upload was aborted, and it is there",) if left else ()
    return Removed(what=made.what, name=key, reason=made.reason, objects=1, failed=failed)


def _delete_wal(ctx: CleanupContext, expiry: WalExpiry) -> Removed:
    count, hidden, failed = 0, 0, []
    keys = list(expired_segments(ctx.store, expiry))
    name = _wal_name(expiry)
    if keys:
        facts = {"reason": expiry.why, "first": keys[0], "last": keys[-1], "objects": len(keys)}
        _record(ctx, name, facts, once=f"deletion:{keys[0]}:{keys[-1]}")
    for start in range(0, len(keys), WAL_BATCH):
        outcomes = delete_objects(ctx.store, keys[start : start + WAL_BATCH])
        count += sum(one.gone is not Gone.LEFT for one in outcomes)
        hidden += sum(one.gone is Gone.HIDDEN for one in outcomes)
        failed += [f"{one.key}: {one.error}" for one in outcomes if one.gone is Gone.LEFT]
    return Removed(what=LOG, name=name, reason=expiry.why, objects=count, hidden=hidden, failed=tuple(failed))


def _wal_name(expiry: WalExpiry) -> str:
    return f"cluster {expiry.cluster}, timeline {expiry.timeline}"


def _backup(decision: Decision) -> Removed:
    return Removed(
        what="backup",
        name=decision.backup.backup_id,
        reason=f"{decision.reason.value}, {decision.detail}",
        size=decision.backup.size,
    )


def _removed(made: Removed, outcomes: Iterable[Outcome]) -> Removed:
    found = list(outcomes)
    return Removed(
        what=made.what,
        name=made.name,
        reason=made.reason,
        size=made.size,
        objects=sum(one.gone is not Gone.LEFT for one in found),
        hidden=sum(one.gone is Gone.HIDDEN for one in found),
        failed=tuple(f"{one.key}: {one.error}" for one in found if one.gone is Gone.LEFT),
    )


def _record(ctx: CleanupContext, subject: str, facts: Mapping[str, Any], *, once: str | None = None) -> None:
    """Leave the evidence before anything is deleted: what is gone without it was deleted by somebody else."""
    ctx.ledger.append(
        EventKind.DELETION, subject=subject, actor=ctx.actor, facts=facts, once=once or deletion_name(subject)
    )


def _report(plan: CleanupPlan, removed: Sequence[Removed], *, dry: bool, skipped: Sequence[str] = ()) -> CleanupReport:
    return CleanupReport(
        source=plan.source,
        made_at=plan.made_at,
        dry_run=dry,
        kept=plan.kept,
        decisions=(*(one.line() for one in plan.decisions), *(one.line() for one in plan.databases)),
        removed=tuple(removed),
        lost=plan.lost,
        skipped=(*(decision.line() for decision in plan.stuck), *skipped),
    )


def _keep_report(ctx: CleanupContext, report: CleanupReport) -> None:
    """Keep what was decided and done for the audit."""
    key = f"audit/{report.source}/cleanup/{report.made_at:%Y/%m/%d/%Y%m%dT%H%M%S_%f}.json"
    ctx.store.put_if_absent(key, to_json(report, format_version=FORMAT_VERSION), encryption=ctx.encryption)
