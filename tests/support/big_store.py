"""A bucket with a million segments of the log that nobody holds, and as many backups as a test wants."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from include.backup.backup_id import make_backup_id
from include.backup.base.stored import base_prefix
from include.backup.catalog import archive_key, manifest_key
from include.backup.manifest import SnapshotFacts, fingerprint
from include.backup.proof.record import Result
from include.backup.store import ObjectInfo
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment
from tests.support.bases import make_stored_base
from tests.support.builders import make_archive, make_dump, make_manifest, make_proof
from tests.support.memory_store import MemoryStore

NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)
BACKUPS, SEGMENTS = 10_000, 1_000_000
SECONDS, MEGABYTES = 30.0, 300
CLUSTER, SIZE = "7401", 16 << 20
KEYS = ClusterKeys(system_identifier=CLUSTER)
TIMELINE = KEYS.timeline(1)


class BigStore(MemoryStore):
    """Has a million segments without holding them, and counts the pages and requests that a real one would take."""

    def __init__(self, objects: dict[str, bytes], *, segments: int) -> None:
        super().__init__(objects)
        self.segments = segments
        self.listed = 0
        self._ordered = sorted(objects)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        self.calls.append(f"list {prefix}")
        if prefix == TIMELINE:
            for number in range(1, self.segments + 1):
                self.listed += 1
                yield self._info(KEYS.segment(Segment(timeline=1, number=number)), b"")
            return
        for place in range(bisect_left(self._ordered, max(prefix, start_after)), len(self._ordered)):
            key = self._ordered[place]
            if not key.startswith(prefix):
                return
            self.listed += 1
            yield self._info(key, self.objects[key])

    def keys(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        if prefix == TIMELINE:
            for number in range(1, self.segments + 1):
                self.listed += 1
                yield KEYS.segment(Segment(timeline=1, number=number))
            return
        yield from super().keys(prefix, start_after=start_after)

    def page(self, prefix: str, *, start_after: str, limit: int) -> tuple[str, ...]:
        return tuple(item.key for item in islice(self.list(prefix, start_after=f"{start_after}\0"), limit))

    def folders(self, prefix: str) -> Iterator[str]:
        found = set(super().folders(prefix))
        yield from sorted(found | ({"00000001"} if prefix == f"{KEYS.prefix}wal/" else set()))

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        return iter(())

    def requests(self, kind: str) -> int:
        return sum(call.startswith(kind) for call in self.calls)


def filled(backups: int, segments: int) -> BigStore:
    """Hourly backups, one of ten expired; daily base backups of a month, the oldest of which need the old log."""
    objects: dict[str, bytes] = {}
    for number in range(backups):
        taken = NOW - timedelta(minutes=number * 9 * 24 * 60 * 10 / 9 / backups)
        backup_id = make_backup_id(
            source="pulse_messages", tier="hourly", kind="tables", run_after=taken, dag_id="d", run_id=str(number)
        )
        content = make_manifest(
            backup_id=backup_id,
            tier="hourly",
            kind="tables",
            dump=make_dump(snapshot=SnapshotFacts(time=taken, lsn_before="0/1", lsn_after="0/2")),
            archive=make_archive(key=archive_key("tables", backup_id)),
        ).to_json()
        proof = make_proof(
            backup_id=backup_id, manifest_sha256=fingerprint(content), result=Result.PASSED, finished_at=taken
        )
        objects[archive_key("tables", backup_id)] = b""
        objects[manifest_key("tables", backup_id)] = content
        objects[f"proofs/{backup_id}/{taken:%Y%m%dT%H%M%SZ}_abcdef.json"] = proof.to_json()
    for day in range(30):
        first = segments - day * segments // 30
        base = make_stored_base(NOW - timedelta(days=day), start_lsn=_lsn(first), stop_lsn=_lsn(first + 1))
        content = base.manifest.to_json()
        prefix = base_prefix(CLUSTER)
        proof = make_proof(backup_id=base.backup_id, manifest_sha256=fingerprint(content), result=Result.PASSED)
        objects[f"{prefix}{base.backup_id}.tar"] = b""
        objects[f"{prefix}{base.backup_id}.manifest.json"] = content
        objects[f"proofs/{base.backup_id}/20260511T021000Z_abcdef.json"] = proof.to_json()
    return BigStore(objects, segments=segments)


def _lsn(segment: int) -> str:
    high, low = divmod(segment * SIZE + 40, 1 << 32)
    return f"{high:X}/{low:X}"
