"""The negative control: damage a copy on purpose, and see that the verifier says so."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.backup.deletion import delete_objects
from include.backup.errors import StoreError, VerifierBrokenError
from include.backup.evidence import EventKind, Ledger
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.proof.prove import ProofRequest, prove
from include.backup.proof.record import Level, Proof, Result
from include.backup.records import to_json
from include.backup.steps.context import open_catalog, utc_now
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
# Kinds whose rows and bytes a copy can be damaged in.
DAMAGEABLE = frozenset({"full", "schema", "tables"})
PART_BYTES = 16 << 20
FLIPPED, ROWS = "a flipped byte", "other rows"
WRONG_SHA256 = "0" * 64
_TIME = "%Y%m%dT%H%M%SZ"

Prover = Callable[[ProofRequest], Proof]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One test of the verifier. ``found`` maps each damage to what the verifier said of it."""

    source: str
    backup_id: str
    made_at: datetime
    found: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return names and texts."""
        return {"source": self.source, "backup_id": self.backup_id, "found": dict(self.found), "line": self.line()}

    def line(self) -> str:
        """Return one line of evidence."""
        said = "; ".join(f"{damage}: {text}" for damage, text in self.found.items())
        return f"{self.source}: the verifier saw every damage in a copy of {self.backup_id} ({said})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlContext:
    """What a control is given. ``prover`` is the verifier that is tested."""

    source: SourcePolicy
    store: ObjectStore
    ledger: Ledger
    encryption: Encryption
    scratch_root: Path
    log: logging.Logger
    actor: str
    prover: Prover
    clock: Callable[[], datetime] = utc_now


def real_prover(runner: Runner, log: logging.Logger, clock: Callable[[], datetime] = utc_now) -> Prover:
    """Return the verifier that proves every backup."""
    return lambda request: prove(request, runner=runner, log=log, clock=clock)


def last_control(store: ObjectStore, source: str) -> datetime | None:
    """Return when the verifier was tested last."""
    names = (item.key.rpartition("/")[2] for item in store.list(control_prefix(source)) if item.key.endswith(".json"))
    times = [found for name in names if (found := _time(name)) is not None]
    return max(times, default=None)


def control_prefix(source: str) -> str:
    """Return where the results of the controls lie; the damaged copies lie below it while they are needed."""
    return f"control/{source}/"


def smallest_proven(source: SourcePolicy, store: ObjectStore) -> str | None:
    """Return the smallest proven backup that has rows, since the copy costs its size; None without any."""
    catalog = open_catalog(source, store)
    whole = [item for item in catalog.list() if item.archive is not None and item.manifest is not None and item.proofs]
    for item in sorted(whole, key=lambda item: (item.archive.size if item.archive else 0, item.backup_id)):
        if any(f"_{kind}_" in item.backup_id for kind in DAMAGEABLE):
            manifest = catalog.manifest(item.backup_id)
            if manifest.rows and read_standing(catalog, item.backup_id) is Standing.PROVEN:
                return item.backup_id
    return None


def negative_control(ctx: ControlContext, backup_id: str) -> Control:
    """Plant damaged copies, let the verifier prove them, and remove them.

    Raises VerifierBrokenError when it passes one: then no proof that it made can be relied on.
    """
    now = ctx.clock()
    manifest = open_catalog(ctx.source, ctx.store).manifest(backup_id)
    planted = f"{control_prefix(ctx.source.name)}planted/{now:{_TIME}}.tar"
    found: dict[str, str] = {}
    try:
        _plant(ctx, manifest, planted)
        flipped = replace(manifest, archive=replace(manifest.archive, key=planted))
        for damage, damaged in ((FLIPPED, flipped), (ROWS, _with_other_rows(manifest))):
            found[damage] = _judge(ctx, damage, damaged)
    finally:
        with suppress(StoreError):
            delete_objects(ctx.store, [planted])
    control = Control(source=ctx.source.name, backup_id=backup_id, made_at=now, found=found)
    content = to_json(control, format_version=FORMAT_VERSION)
    ctx.store.put_if_absent(f"{control_prefix(ctx.source.name)}{now:{_TIME}}.json", content, encryption=ctx.encryption)
    ctx.ledger.append(EventKind.CONTROL, subject=backup_id, actor=ctx.actor, facts={"found": found})
    return control


def _judge(ctx: ControlContext, damage: str, damaged: Manifest) -> str:
    """Return what the verifier said of a damaged copy; the proof is written nowhere."""
    proof = ctx.prover(
        ProofRequest(
            store=ctx.store,
            manifest=damaged,
            manifest_bytes=damaged.to_json(),
            scratch_root=ctx.scratch_root,
            jobs=os.cpu_count() or 1,
            level_needed=Level(damaged.proof_level),
            allowed_gaps=tuple(ctx.source.proof.allowed_gaps),
        )
    )
    if proof.result is Result.PASSED:
        ctx.ledger.append(
            EventKind.CONTROL, subject=damaged.backup_id, actor=ctx.actor, facts={"passed": damage, "broken": True}
        )
        raise VerifierBrokenError(
            f"the verifier passed a copy of {damaged.backup_id} with {damage}: no proof since the last good control "
            "can be relied on. Find out what was changed in it, and prove the backups anew"
        )
    ctx.log.info("a copy of %s with %s was refused, as it must be", damaged.backup_id, damage)
    return str(proof.differences[0])


def _with_other_rows(manifest: Manifest) -> Manifest:
    """Return a manifest that says that the dump had read other rows than the archive holds."""
    chosen = min(
        (member for member in manifest.members if member.table_data is not None and member.table_data.rows),
        key=lambda member: member.stored_length,
    )
    if chosen.table_data is None:
        raise VerifierBrokenError(f"{manifest.backup_id} has no table with rows; choose another for the control")
    other = replace(chosen, table_data=replace(chosen.table_data, content_sha256=WRONG_SHA256))
    members = tuple(other if member is chosen else member for member in manifest.members)
    return replace(manifest, members=members)


def _plant(ctx: ControlContext, manifest: Manifest, key: str) -> None:
    """Copy the archive part by part, with one byte of its largest member of data changed."""
    member = max(
        (member for member in manifest.members if member.table_data is not None),
        key=lambda member: member.stored_length,
    )
    place = member.offset + member.stored_length // 2
    store = ctx.store
    parts: list[Any] = []
    with store.errors(key, "plant a damaged copy at"):
        begun = store.s3.create_multipart_upload(Bucket=store.bucket, Key=key, **ctx.encryption.arguments())
        named: dict[str, Any] = {"Bucket": store.bucket, "Key": key, "UploadId": begun["UploadId"]}
        try:
            for number, start in enumerate(range(0, manifest.archive.size, PART_BYTES), 1):
                length = min(PART_BYTES, manifest.archive.size - start)
                body = bytearray(b"".join(store.read(manifest.archive.key, start, length)))
                if start <= place < start + length:
                    body[place - start] ^= 0xFF
                answer = store.s3.upload_part(**named, PartNumber=number, Body=bytes(body))
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            store.s3.complete_multipart_upload(**named, MultipartUpload={"Parts": parts})
        except BaseException:
            store.abort(key, begun["UploadId"])
            raise


def _time(name: str) -> datetime | None:
    try:
        return datetime.strptime(name.removesuffix(".json"), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
