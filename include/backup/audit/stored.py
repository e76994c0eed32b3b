"""The backups of a source as an audit lists them: of each its manifest and its newest proof, and no request more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from include.backup import manifest as manifests
from include.backup.audit.event_values import moment_of
from include.backup.audit.facts import BackupFact
from include.backup.backup_id import parse_backup_id
from include.backup.catalog import ListedBackup, manifest_key, proof_prefix
from include.backup.errors import BackupError
from include.backup.inventory import Standing
from include.backup.manifest import fingerprint
from include.backup.partial import partial_text
from include.backup.proof import record as proofs
from include.backup.proof.record import Result
from include.backup.store import SMALL_READS, ObjectInfo, ObjectStore

_PROOF_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedProofs:
    """The proofs of all backups of a source, by backup, oldest first, as their listing has them."""

    keys: Mapping[str, tuple[str, ...]]
    infos: tuple[ObjectInfo, ...]


def list_proofs(store: ObjectStore, source: str) -> ListedProofs:
    """List the proofs of a source; another source's name may begin in the same way."""
    keys: dict[str, list[str]] = {}
    infos = []
    for item in store.list(f"proofs/{source}_"):
        parsed = parse_backup_id(item.key.split("/")[1], strict=False)
        if parsed is not None and parsed.source == source:
            infos.append(item)
            keys.setdefault(str(parsed), []).append(item.key)
    return ListedProofs(keys={name: tuple(sorted(found)) for name, found in keys.items()}, infos=tuple(infos))


def read_backups(
    store: ObjectStore, listed: Iterable[ListedBackup], proofs: Mapping[str, Sequence[str]]
) -> tuple[BackupFact, ...]:
    """Return what is known of each whole backup, oldest first."""
    whole = [item for item in listed if item.archive is not None and item.manifest is not None]
    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="audit") as pool:
        return tuple(pool.map(lambda item: _read(store, item, proofs.get(item.backup_id, ())), whole))


def _read(store: ObjectStore, item: ListedBackup, keys: Sequence[str]) -> BackupFact:
    fact = _listed(item, keys)
    try:
        content = store.get(manifest_key(item.prefix, item.backup_id))
        fact = _with_manifest(fact, content)
    except (BackupError, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, BackupError) else repr(error)
        return replace(fact, problem=f"its manifest cannot be read: {why}", standing=Standing.UNREADABLE)
    try:
        return _with_proof(fact, fingerprint(content), store, keys)
    except (BackupError, KeyError, TypeError, ValueError, AttributeError):
        return replace(fact, standing=Standing.UNREADABLE)


def _listed(item: ListedBackup, keys: Sequence[str]) -> BackupFact:
    parsed = parse_backup_id(item.backup_id)
    if item.archive is None or item.manifest is None:
        raise ValueError(f"{item.backup_id} is not whole")
    return BackupFact(
        backup_id=item.backup_id,
        tier=parsed.tier,
        kind=parsed.kind,
        run_after=parsed.run_after,
        stored_at=item.manifest.modified,
        size=item.archive.size,
        storage_class=item.archive.storage_class,
        standing=Standing.UNPROVEN,
        proofs=len(keys),
        first_proof_at=_made_at(keys[0]) if keys else None,
    )


def _with_manifest(fact: BackupFact, content: bytes) -> BackupFact:
    """Add what the manifest says; the members, most of it, are only counted: a restore checks them."""
    data = _document(content, manifests.FORMAT_VERSION)
    if data["backup_id"] != fact.backup_id:
        raise ValueError(f"it is that of {data['backup_id']}")
    archive, base = data["archive"], data.get("base")
    problem = None
    if archive["size"] != fact.size:
        problem = f"the archive has {fact.size} bytes, and its manifest says {archive['size']}"
    parent = None if base is None else base.get("parent")
    moment = moment_of(data["dump"]["snapshot"]["time"] if base is None else base["stopped_at"])
    if moment is None:
        raise ValueError("it says no time of its data")
    files = data.get("attachments") or {}
    return replace(
        fact,
        snapshot_time=moment,
        rows=sum(member["table_data"]["rows"] for member in data["members"] if member.get("table_data") is not None),
        encryption=archive["encryption"],
        kms_key=archive.get("kms_key_arn"),
        recorded_class=archive["storage_class"],
        left_out=partial_text(data["excluded_schemas"], data["excluded_tables"], files.get("other_buckets", ())),
        needs=(*data.get("depends_on", ()), *(() if parent is None else (parent,))),
        problem=problem,
    )


def _with_proof(fact: BackupFact, manifest_sha256: str, store: ObjectStore, keys: Sequence[str]) -> BackupFact:
    """Add what the newest proof of exactly this manifest says; a proof of other content counts for nothing."""
    for key in reversed(keys):
        data = _document(store.get(key), proofs.FORMAT_VERSION)
        if data["manifest_sha256"] != manifest_sha256:
            continue
        finished, started = moment_of(data["finished_at"]), moment_of(data["started_at"])
        if data["backup_id"] != fact.backup_id or finished is None or started is None:
            raise ValueError(f"{key} is no proof of {fact.backup_id}")
        return replace(
            fact,
            standing=Standing.PROVEN if Result(data["result"]) is Result.PASSED else Standing.FAILED,
            proven_at=finished,
            proof_level=str(data["level"]),
            proof_seconds=(finished - started).total_seconds(),
        )
    return fact


def _document(content: bytes, version: int) -> dict[str, Any]:
    data = json.loads(content)
    if not isinstance(data, dict) or data.get("format_version") != version:
        raise ValueError("it has a format that this version does not read")
    return data


def _made_at(key: str) -> datetime | None:
    name = key.removeprefix(proof_prefix(key.split("/")[1]))
    try:
        return datetime.strptime(name.partition("_")[0], _PROOF_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
