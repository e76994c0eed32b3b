"""Prove what is due: the work list is read from the store, so that an event that was lost loses nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import ListedBackup
from include.backup.errors import (
    ArchiveError,
    BackupError,
    BackupMissingError,
    ManifestWithoutArchiveError,
    ObjectShortError,
    ProofFailedError,
    ScratchError,
    WalSegmentMissingError,
)
from include.backup.every_backup import every_backup
from include.backup.in_use import backups_in_use
from include.backup.policy import SourcePolicy
from include.backup.policy.verification import VerificationPolicy
from include.backup.process import Runner
from include.backup.proof.record import Result
from include.backup.proof.times import NewestProof, newest_proofs
from include.backup.records import to_json
from include.backup.restore.thaw import FROZEN_CLASSES, Thawing, thaw, thaw_state
from include.backup.retention.cleanup import BASE_TIER
from include.backup.steps.context import encryption_of, utc_now
from include.backup.steps.restore_test import StoredBackup, prove_stored
from include.backup.store import ObjectStore
from include.backup.verification.work import Stored, Work, WorkList, plan_work

FORMAT_VERSION = 1
# The strategy's testing schedule: backup verification, daily, five minutes.
TARGET_SECONDS = 300
# The log that a base backup needs is stored by other runs; after that time it will not come any more.
WAL_MAY_FOLLOW = timedelta(days=1)
NOT_MADE = "not made"
# Nothing was found out: the machine or the store did not allow the test, so that a retry may.
IMPEDED = "impeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationContext:
    """What a verification of one source is given."""

    source: SourcePolicy
    policy: VerificationPolicy
    store: ObjectStore
    scratch_root: Path
    runner: Runner
    log: logging.Logger
    actor: str
    seed: str
    clock: Callable[[], datetime] = utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """One proof of this run; ``result`` is passed, failed, not made, or impeded."""

    backup_id: str
    why: str
    result: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationReport:
    """What was proven, and how long it took against the strategy's five minutes."""

    source: str
    started_at: datetime
    seconds: float
    target_seconds: int
    proofs: tuple[Proven, ...]
    left: tuple[Work, ...] = field(default_factory=tuple)

    @property
    def failed(self) -> tuple[Proven, ...]:
        return tuple(one for one in self.proofs if one.result != Result.PASSED.value)

    def to_dict(self) -> dict[str, Any]:
        """Return ids and numbers."""
        return {
            "source": self.source,
            "passed": sum(one.result == Result.PASSED.value for one in self.proofs),
            "failed": [one.backup_id for one in self.failed],
            "left": len(self.left),
            "seconds": self.seconds,
            "within_target": self.seconds <= self.target_seconds,
            "line": self.line(),
        }

    def line(self) -> str:
        """Return one line of evidence."""
        passed = sum(one.result == Result.PASSED.value for one in self.proofs)
        target = f"{self.seconds:.1f} s of the strategy's {self.target_seconds} s"
        text = f"{self.source}: {passed} backups proven, {len(self.left)} left, {target}"
        return text + (f"; {len(self.failed)} NOT proven: {_named(self.failed)}" if self.failed else "")


def work_list(ctx: VerificationContext) -> WorkList:
    """List the backups and say which are to be proven; nothing is read of any archive."""
    now = ctx.clock()
    in_use = backups_in_use(ctx.store, ctx.source.name, now)
    proofs = newest_proofs(ctx.store, ctx.source.name)
    stored = [
        _stored(ctx.source, item, proofs, in_use)
        for item in every_backup(ctx.source, ctx.store).list()
        if item.archive is not None and item.manifest is not None
    ]
    return plan_work(stored, reprove_after=ctx.policy.reprove_after, seed=ctx.seed, now=now)


def verify(ctx: VerificationContext) -> VerificationReport:
    """Prove what is due, one after the other; one that fails ends nothing else.

    Raises ProofFailedError when any is not proven, after all were tried and the report was kept; ScratchError when all
    that stands in the way are tests that could not be made; at once, and without a report, what ends a killed run.
    """
    started_at, started = ctx.clock(), time.monotonic()
    plan = work_list(ctx)
    left, proofs = list(plan.left), list[Proven]()
    for work in plan.work:
        why_not = _not_readable(ctx, work)
        if why_not is not None:
            left.append(Work(backup_id=work.backup_id, why=why_not))
            ctx.log.info("%s is not proven now: %s", work.backup_id, why_not)
            continue
        outcome = _prove(ctx, work)
        if isinstance(outcome, Proven):
            proofs.append(outcome)
        elif outcome is not None:
            left.append(outcome)
    report = VerificationReport(
        source=ctx.source.name,
        started_at=started_at,
        seconds=round(time.monotonic() - started, 3),
        target_seconds=TARGET_SECONDS,
        proofs=tuple(proofs),
        left=tuple(left),
    )
    _keep(ctx, report)
    impeded = tuple(one for one in report.failed if one.result == IMPEDED)
    bad = tuple(one for one in report.failed if one.result != IMPEDED)
    if bad:
        raise ProofFailedError(
            f"{_named(bad)}. Do not rely on it; look at its proof with `python -m include.backup show "
            f"{ctx.source.name} {bad[0].backup_id}`, and start a new backup"
            + (f"; not tested: {_named(impeded)}" if impeded else "")
        )
    if impeded:
        raise ScratchError(f"nothing is known of {_named(impeded)}; mend what stands in the way, and retry")
    return report


def _stored(
    source: SourcePolicy, item: ListedBackup, proofs: Mapping[str, NewestProof], in_use: Mapping[str, str]
) -> Stored:
    parsed = parse_backup_id(item.backup_id)
    proof = proofs.get(item.backup_id)
    if item.archive is None or item.manifest is None:
        raise ArchiveError(f"{item.backup_id} is not whole")
    return Stored(
        backup_id=item.backup_id,
        tier=parsed.tier,
        kind=parsed.kind,
        run_after=parsed.run_after,
        stored_at=item.manifest.modified,
        size=item.archive.size,
        storage_class=item.archive.storage_class,
        proven_at=None if proof is None else proof.made_at,
        in_chain=_proven_in_chain(source, parsed.tier),
        in_use=item.backup_id in in_use,
    )


def _proven_in_chain(source: SourcePolicy, tier: str) -> bool:
    if tier == BASE_TIER:
        return source.base_backup is not None and source.base_backup.prove == "in_chain"
    return tier in source.tiers and source.tiers[tier].prove == "in_chain"


def _not_readable(ctx: VerificationContext, work: Work) -> str | None:
    """Return why an archive cannot be read now; where the policy allows it, its thaw is asked for."""
    try:
        manifest = every_backup(ctx.source, ctx.store).manifest(work.backup_id)
    except BackupError:
        # It is damaged, or was just deleted: the proof says which.
        return None
    if manifest.archive.storage_class not in FROZEN_CLASSES:
        return None
    state, storage_class = thaw_state(ctx.store, manifest)
    if state is Thawing.READABLE:
        return None
    restore = ctx.source.restore
    if not ctx.policy.thaw or restore is None:
        return f"it is in {storage_class}, and the policy does not allow a verification to thaw it"
    return thaw(ctx.store, manifest, restore.thaw, asked_at=ctx.clock()).line()


def _prove(ctx: VerificationContext, work: Work) -> Proven | Work | None:
    """Prove one backup; returns why it is left for a later run, and None when it was deleted meanwhile."""
    started = time.monotonic()
    ctx.log.info("proving %s: %s", work.backup_id, work.why)
    stored = StoredBackup(
        backup_id=work.backup_id,
        source=ctx.source,
        store=ctx.store,
        catalog=every_backup(ctx.source, ctx.store),
        scratch_root=ctx.scratch_root,
        actor=ctx.actor,
    )
    try:
        proof = prove_stored(stored, runner=ctx.runner, log=ctx.log, clock=ctx.clock)
        result, detail = proof.result.value, "; ".join(str(one) for one in proof.differences[:3])
    except WalSegmentMissingError as error:
        if ctx.clock() - parse_backup_id(work.backup_id).run_after < WAL_MAY_FOLLOW:
            ctx.log.info("%s is not proven now: %s", work.backup_id, error)
            return Work(backup_id=work.backup_id, why=str(error))
        result, detail = NOT_MADE, str(error)
    except BackupMissingError as error:
        ctx.log.info("%s was deleted meanwhile: %s", work.backup_id, error)
        return None
    except (ArchiveError, ManifestWithoutArchiveError, ObjectShortError) as error:
        result, detail = Result.FAILED.value, str(error)
    except BackupError as error:
        if ctx.runner.killed:
            # Every other test would end like this one, which says nothing of its backup.
            raise
        ctx.log.warning("%s could not be tested: %s", work.backup_id, error)
        result, detail = IMPEDED, str(error)
    seconds = round(time.monotonic() - started, 3)
    ctx.log.info("%s: %s in %.1f s", work.backup_id, result, seconds)
    return Proven(backup_id=work.backup_id, why=work.why, result=result, seconds=seconds, detail=detail)


def _named(proofs: tuple[Proven, ...]) -> str:
    return "; ".join(f"{one.backup_id} ({one.detail})" for one in proofs)


def _keep(ctx: VerificationContext, report: VerificationReport) -> None:
    """Keep durations and results for the audit; a run without work leaves nothing."""
    if report.proofs:
        key = f"audit/{report.source}/verification/{report.started_at:%Y/%m/%d/%Y%m%dT%H%M%S_%f}.json"
        content = to_json(report, format_version=FORMAT_VERSION)
        ctx.store.put_if_absent(key, content, encryption=encryption_of(ctx.source, ctx.store))
