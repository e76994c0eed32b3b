"""restore_test: restore the archive as it is stored, compare all of it, write the proof."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from include.backup.attachments.prove import prove_attachments
from include.backup.attachments.record import KIND as ATTACHMENTS
from include.backup.backup_id import parse_backup_id
from include.backup.base.prove import BaseProofRequest, prove_base
from include.backup.catalog import Catalog, proof_prefix
from include.backup.errors import ProofFailedError
from include.backup.evidence import EventKind, open_ledger
from include.backup.in_use import reading
from include.backup.manifest import Manifest
from include.backup.point_in_time.stored import read_stored
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.proof.prove import ProofRequest, prove
from include.backup.proof.record import FAILED_ENDING, Level, Proof, Result
from include.backup.steps.context import StepContext, encryption_of, utc_now
from include.backup.steps.dump import SCHEMA_KIND
from include.backup.store import ObjectStore

SHOWN = 10
BASE_KIND = "base"
_NOTES = {SCHEMA_KIND: "schema archive proven", BASE_KIND: "base backup started, every table, page and index read"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreTestReport:
    """What the proof showed."""

    backup_id: str
    proof_id: str
    result: str
    level: str
    tables: int
    rows: int
    sequences: int
    large_objects: int
    not_proven: int
    seconds: float
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        kind = parse_backup_id(self.backup_id).kind
        if kind == ATTACHMENTS:
            return (
                f"{self.backup_id} proven ({self.level}): {self.note}, every byte read back and identical; "
                f"{self.seconds:.1f} s, proof {self.proof_id}"
            )
        if kind == SCHEMA_KIND:
            return (
                f"{self.backup_id} proven ({self.level}): the whole schema equal, without data as it was dumped; "
                f"{self.seconds:.1f} s, proof {self.proof_id}"
            )
        if parse_backup_id(self.backup_id).kind == BASE_KIND:
            return (
                f"{self.backup_id} proven ({self.level}): started and recovered to where it is consistent; "
                f"{self.tables} tables read whole, {self.rows} rows, every file, page and index sound; "
                f"{self.seconds:.1f} s, proof {self.proof_id}"
            )
        return (
            f"{self.backup_id} proven ({self.level}): {self.tables} tables, {self.rows} rows, every row identical; "
            f"{self.sequences} sequences, {self.large_objects} large objects and the whole schema equal; "
            f"{self.seconds:.1f} s, proof {self.proof_id}"
        )


def run(ctx: StepContext) -> RestoreTestReport:
    """Prove this run's backup.

    Raises ProofFailedError naming what differs; the proof is written either way.
    """
    stored = StoredBackup(
        backup_id=ctx.backup_id,
        source=ctx.source,
        store=ctx.store,
        catalog=ctx.catalog,
        scratch_root=ctx.scratch_root,
        actor=ctx.run.actor,
    )
    proof = prove_stored(stored, runner=ctx.runner, log=ctx.log, clock=ctx.clock)
    check_passed(proof)
    return report(proof)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBackup:
    """A backup in the store that is to be proven, whichever run took it."""

    backup_id: str
    source: SourcePolicy
    store: ObjectStore
    catalog: Catalog
    scratch_root: Path
    actor: str = "command_line"


def prove_stored(
    stored: StoredBackup, *, runner: Runner, log: logging.Logger, clock: Callable[[], datetime] = utc_now
) -> Proof:
    """Prove a stored backup and write the proof, passed or failed, beside it."""
    encryption = encryption_of(stored.source, stored.store)
    manifest, content = stored.catalog.read(stored.backup_id)
    ledger = open_ledger(stored.source, stored.store, clock=clock)
    with reading(stored.store, manifest, what="a restore test", clock=clock):
        made = _prove(stored, manifest, content, runner, log, clock)
        proof_id = made.proof_id if made.result is Result.PASSED else f"{made.proof_id}{FAILED_ENDING}"
        proof = replace(made, proof_id=proof_id, evidence_head=str(ledger.head()))
    key = f"{proof_prefix(stored.backup_id)}{proof.proof_id}.json"
    stored.store.put_if_absent(key, proof.to_json(), encryption=encryption)
    ledger.append(
        EventKind.PROOF,
        subject=proof.backup_id,
        actor=stored.actor,
        facts=_facts(proof),
        once=f"proof:{proof.proof_id}",
    )
    for text in proof.not_proven:
        log.info("not proven: %s", text)
    return proof


def _prove(
    stored: StoredBackup,
    manifest: Manifest,
    content: bytes,
    runner: Runner,
    log: logging.Logger,
    clock: Callable[[], datetime],
) -> Proof:
    if manifest.attachments is not None:
        return prove_attachments(stored.store, stored.catalog, manifest, content, clock=clock)
    if manifest.base is not None:
        base_request = BaseProofRequest(
            store=stored.store,
            stored=read_stored(stored.source, stored.store, system_identifier=manifest.base.system_identifier),
            manifest=manifest,
            manifest_bytes=content,
            scratch_root=stored.scratch_root,
            jobs=os.cpu_count() or 1,
        )
        return prove_base(base_request, runner=runner, log=log, clock=clock)
    request = ProofRequest(
        store=stored.store,
        manifest=manifest,
        manifest_bytes=content,
        scratch_root=stored.scratch_root,
        jobs=os.cpu_count() or 1,
        level_needed=Level(manifest.proof_level),
        allowed_gaps=tuple(stored.source.proof.allowed_gaps),
    )
    return prove(request, runner=runner, log=log, clock=clock)


def _facts(proof: Proof) -> dict[str, Any]:
    return {
        "proof_id": proof.proof_id,
        "result": proof.result,
        "level": proof.level,
        "level_needed": proof.level_needed,
        "manifest_sha256": proof.manifest_sha256,
        "tables": len(proof.tables if proof.base is None else proof.base.tables),
        "rows": proof.rows if proof.base is None else proof.base.rows,
        "differences": len(proof.differences),
        "not_proven": len(proof.not_proven),
        "seconds": round((proof.finished_at - proof.started_at).total_seconds(), 3),
    }


def report(proof: Proof) -> RestoreTestReport:
    """Return the short form of a proof."""
    return RestoreTestReport(
        note=_note(proof),
        backup_id=proof.backup_id,
        proof_id=proof.proof_id,
        result=proof.result.value,
        level=proof.level.value,
        tables=len(proof.tables if proof.base is None else proof.base.tables),
        rows=proof.rows if proof.base is None else proof.base.rows,
        sequences=proof.sequences,
        large_objects=proof.large_objects,
        not_proven=len(proof.not_proven),
        seconds=round((proof.finished_at - proof.started_at).total_seconds(), 3),
    )


def _note(proof: Proof) -> str:
    kind = parse_backup_id(proof.backup_id).kind
    return "; ".join(check.detail for check in proof.checks) if kind == ATTACHMENTS else _NOTES.get(kind, "")


def check_passed(proof: Proof) -> None:
    """Raise ProofFailedError unless the proof passed."""
    if proof.result is Result.PASSED:
        return
    shown = "\n".join(f"  {difference}" for difference in proof.differences[:SHOWN])
    raise ProofFailedError(
        f"backup {proof.backup_id} does not restore to what was dumped, {len(proof.differences)} differences:\n"
        f"{shown}\nDo not rely on it: start a new run, keep this one for the investigation "
        f"(proof {proof.proof_id})"
    )
