"""upload: compress what was received, store it once, and compare what the store says of it with what was sent."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backports import zstd

from include.backup.errors import ObjectDiffersError, WalDiffersError
from include.backup.records import from_json, to_json
from include.backup.staging import full_disk_named
from include.backup.store import ObjectInfo
from include.backup.wal.context import KIND, TIER, WalContext
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.plan import WalPlan, read_plan
from include.backup.wal.receive import FOLDER, read_received
from include.backup.wal.segments import Segment

STORED_FILE = "stored.json"
FORMAT_VERSION = 1
CHUNK_BYTES = 1 << 20
LENGTH, SHA256 = "length", "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWal:
    """What all passes of a run have stored; sizes in bytes."""

    segments: int
    content_bytes: int
    stored_bytes: int
    already: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        there = f", {self.already} of them were there" if self.already else ""
        return (
            f"stored and verified {self.segments} segments{there}: {self.content_bytes} bytes, compressed "
            f"{self.stored_bytes}, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file on its way to the store."""

    path: Path
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    length: int
    stored: int
    already: bool


def run(ctx: WalContext) -> StoredWal:
    """Store and verify everything that lies in staging.

    Raises WalDiffersError when the store has other content under such a name: two servers write one timeline.
    """
    started = time.monotonic()
    with ctx.staging.locked():
        plan, received = read_plan(ctx), read_received(ctx)
        keys = ClusterKeys(system_identifier=plan.system_identifier)
        folder = ctx.staging.path / FOLDER
        for name in received.histories:
            key = f"{keys.histories}{name}"
            ctx.store.put_if_absent(key, (folder / name).read_bytes(), encryption=ctx.encryption, tags=_tags(ctx))
        files = [_complete(folder, name, keys, plan) for name in received.segments]
        if received.partial is not None and received.partial_end is not None:
            segment = Segment.parse(received.partial, size=plan.segment_size)
            key = keys.partial(segment, parse_lsn(received.partial_end))
            files.append(_File(path=folder / f"{received.partial}.partial", key=key))
        sent = _store_all(ctx, files)
        before = read_stored(ctx)
        stored = StoredWal(
            segments=before.segments + len(received.segments),
            content_bytes=before.content_bytes + sum(one.length for one in sent),
            stored_bytes=before.stored_bytes + sum(one.stored for one in sent),
            already=before.already + sum(one.already for one in sent),
            seconds=round(before.seconds + time.monotonic() - started, 3),
        )
        ctx.staging.write(STORED_FILE, to_json(stored, format_version=FORMAT_VERSION))
    return stored


def read_stored(ctx: WalContext) -> StoredWal:
    """Return what the passes so far have stored; nothing before the first."""
    content = ctx.staging.read(STORED_FILE)
    if content is None:
        return StoredWal(segments=0, content_bytes=0, stored_bytes=0, already=0, seconds=0.0)
    return from_json(StoredWal, content, format_version=FORMAT_VERSION, name=STORED_FILE)


def verified_segments(ctx: WalContext, keys: ClusterKeys, segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return the segments that are stored whole, as far as there is none missing; the store alone is asked."""
    wanted = list(segments)
    with ThreadPoolExecutor(ctx.source.store.concurrency, thread_name_prefix="verify") as pool:
        found = pool.map(lambda segment: ctx.store.head(keys.segment(segment)), wanted)
        verified = []
        for segment, info in zip(wanted, found, strict=True):
            if info is None:
                break
            _check_stored(ctx, info, length=segment.size)
            verified.append(segment)
    return tuple(verified)


def _complete(folder: Path, name: str, keys: ClusterKeys, plan: WalPlan) -> _File:
    return _File(path=folder / name, key=keys.segment(Segment.parse(name, size=plan.segment_size)))


def _store_all(ctx: WalContext, files: Sequence[_File]) -> list[_Sent]:
    encryption = ctx.encryption  # asks KMS once, and not in each thread
    ctx.log.debug("%d files go to %s, encryption %s", len(files), ctx.store.bucket, encryption.algorithm)
    with ThreadPoolExecutor(ctx.source.store.concurrency, thread_name_prefix="wal") as pool:
        return list(pool.map(lambda file: _store(ctx, file), files))


def _store(ctx: WalContext, file: _File) -> _Sent:
    packed = file.path.with_name(f"{file.path.name}.zst")
    with full_disk_named(ctx.staging.path):
        length, content, stored, checksum = _compress(file.path, packed, level=ctx.policy.compression_level)
    metadata = {LENGTH: str(length), SHA256: content}
    new = ctx.store.put_file(
        file.key,
        packed,
        sha256=checksum,
        metadata=metadata,
        storage_class=ctx.policy.storage_class,
        encryption=ctx.encryption,
        tags=_tags(ctx),
    )
    info = ctx.store.head(file.key)
    if info is None:
        raise ObjectDiffersError(f"{ctx.store.url(file.key)} is not there right after it was written; retry")
    if not new and info.metadata.get(SHA256) != content:
        raise WalDiffersError(
            f"{ctx.store.url(file.key)} is stored already with other content; it was left as it is. Two servers write "
            "the same timeline of one cluster: find the one that is not the source (a copy that was started without "
            "a new timeline), and take a base backup"
        )
    if new and (info.size != stored or info.checksum not in (None, base64.b64encode(checksum).decode())):
        raise ObjectDiffersError(f"{ctx.store.url(file.key)} has other bytes than were sent; retry the task")
    _check_stored(ctx, info, length=length)
    packed.unlink()
    return _Sent(length=length, stored=info.size, already=not new)


def _check_stored(ctx: WalContext, info: ObjectInfo, *, length: int) -> None:
    """Raise ObjectDiffersError unless an object is what a run stores: whole, described, and encrypted as asked."""
    wanted = ctx.encryption
    for wrong, what in (
        (info.size == 0, "is empty"),
        (info.metadata.get(LENGTH) != str(length), f"does not say that it holds {length} bytes"),
        (len(info.metadata.get(SHA256, "")) != 64, "does not say which SHA-256 its content has"),
        (
            wanted.algorithm is not None and info.encryption != wanted.algorithm,
            f"is encrypted with {info.encryption} instead of {wanted.algorithm}",
        ),
        (
            wanted.kms_key_arn is not None and info.kms_key_id != wanted.kms_key_arn,
            f"is encrypted with the key {info.kms_key_id} instead of {wanted.kms_key_arn}",
        ),
    ):
        if wrong:
            raise ObjectDiffersError(
                f"{ctx.store.url(info.key)} {what}; the source keeps its log. Find out who wrote it, then run again"
            )


def _compress(path: Path, packed: Path, *, level: int) -> tuple[int, str, int, bytes]:
    """Write one zstd frame with a checksum; return length and SHA-256 of the content (hex) and of the frame (raw)."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    content, frame = hashlib.sha256(), hashlib.sha256()
    compressor = zstd.ZstdCompressor(options=options)
    length = stored = 0
    with path.open("rb") as source, packed.open("wb") as target:
        while True:
            chunk = source.read(CHUNK_BYTES)
            content.update(chunk)
            length += len(chunk)
            data = compressor.compress(chunk) if chunk else compressor.flush()
            frame.update(data)
            stored += len(data)
            target.write(data)
            if not chunk:
                return length, content.hexdigest(), stored, frame.digest()


def _tags(ctx: WalContext) -> dict[str, str]:
    return {"source": ctx.source.name, "tier": TIER, "kind": KIND}
