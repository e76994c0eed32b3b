"""Prove an archive of attachments: read back every byte as it is stored, and compare each file's hash."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from include.backup.attachments.record import AttachedFile
from include.backup.catalog import Catalog
from include.backup.errors import ArchiveError, StoreError, StoreUnreachableError
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest, Member, fingerprint
from include.backup.multipart_calls import composite
from include.backup.proof.record import CheckResult, Difference, Isolation, Level, Proof, Result
from include.backup.store import ObjectStore

NOT_NEEDED = "not needed: nothing of the archive is run"


def prove_attachments(
    store: ObjectStore, catalog: Catalog, manifest: Manifest, content: bytes, *, clock: Callable[[], datetime]
) -> Proof:
    """Return the proof, passed or failed; a damaged archive is a finding."""
    started_at, started = clock(), time.monotonic()
    differences = [*_own_bytes(store, manifest), *_referenced(catalog, manifest)]
    facts = manifest.attachments
    count, size = (0, 0) if facts is None else (len(facts.files), facts.bytes)
    earlier = f", {len(manifest.depends_on)} earlier archives looked at" if manifest.depends_on else ""
    detail = f"{count} files, {size} bytes; {manifest.archive.size} bytes read back{earlier}"
    return Proof(
        proof_id=f"{started_at:%Y%m%dT%H%M%SZ}_{secrets.token_hex(3)}",
        backup_id=manifest.backup_id,
        manifest_sha256=fingerprint(content),
        result=Result.FAILED if differences else Result.PASSED,
        level=Level.COMPLETE,
        level_needed=Level(manifest.proof_level),
        started_at=started_at,
        finished_at=clock(),
        durations={"read_back": round(time.monotonic() - started, 3)},
        server_version="",
        pg_restore_version="",
        isolation=Isolation(network=NOT_NEEDED, uid=NOT_NEEDED, processes=NOT_NEEDED),
        tables=(),
        sequences=0,
        large_objects=0,
        schema_lines=0,
        checks=(CheckResult(name="attachments/every_file", passed=not differences, detail=detail),),
        not_proven=(),
        differences=tuple(differences),
    )


def _own_bytes(store: ObjectStore, manifest: Manifest) -> list[Difference]:
    """Read the archive once; compare each member, and the whole."""
    try:
        reading = _Reading(manifest)
        for chunk in store.read(manifest.archive.key, 0, manifest.archive.size):
            reading.take(chunk)
    except StoreUnreachableError:
        raise
    except StoreError as error:
        return [Difference(what="archive", name=manifest.backup_id, detail=str(error))]
    return list(reading.differences())


class _Reading:
    """Hashes of parts and members of one stream, each byte looked at once."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._part = hashlib.sha256()
        self._parts: list[bytes] = []
        self._in_part = self._position = self._index = 0
        self._member = hashlib.sha256()
        self._wrong: list[Member] = []

    def take(self, chunk: bytes) -> None:
        self._take_parts(chunk)
        begin = self._position
        self._position += len(chunk)
        while self._index < len(self._manifest.members):
            member = self._manifest.members[self._index]
            end = member.offset + member.stored_length
            first, last = max(member.offset, begin), min(end, self._position)
            if first < last:
                self._member.update(memoryview(chunk)[first - begin : last - begin])
            if end > self._position:
                return
            self._close()

    def differences(self) -> Iterator[Difference]:
        for member in [*self._wrong, *self._manifest.members[self._index :]]:
            yield Difference(what="file", name=member.name, detail="its bytes differ from what the manifest recorded")
        parts = [*self._parts, self._part.digest()] if self._in_part else self._parts
        found = composite(parts)
        if found != self._manifest.archive.checksum:
            detail = f"has the checksum {found} and its manifest says {self._manifest.archive.checksum}"
            yield Difference(what="archive", name=self._manifest.backup_id, detail=detail)

    def _take_parts(self, chunk: bytes) -> None:
        view, part_size = memoryview(chunk), self._manifest.archive.part_size
        while view:
            step = min(len(view), part_size - self._in_part)
            self._part.update(view[:step])
            self._in_part += step
            view = view[step:]
            if self._in_part == part_size:
                self._parts.append(self._part.digest())
                self._part, self._in_part = hashlib.sha256(), 0

    def _close(self) -> None:
        member = self._manifest.members[self._index]
        if self._member.hexdigest() != member.stored_sha256:
            self._wrong.append(member)
        self._member = hashlib.sha256()
        self._index += 1


def _referenced(catalog: Catalog, manifest: Manifest) -> list[Difference]:
    """Check files whose bytes are in earlier archives: those are there, proven, and hold exactly these bytes."""
    facts = manifest.attachments
    wanted: dict[str, list[AttachedFile]] = {}
    for file in () if facts is None else facts.files:
        if file.archive is not None:
            wanted.setdefault(file.archive, []).append(file)
    found = []
    for backup_id, files in sorted(wanted.items()):
        try:
            earlier = catalog.manifest(backup_id)
            standing = read_standing(catalog, backup_id)
        except StoreUnreachableError:
            raise
        except (ArchiveError, StoreError) as error:
            found.append(Difference(what="earlier archive", name=backup_id, detail=str(error)))
            continue
        if standing is not Standing.PROVEN:
            found.append(Difference(what="earlier archive", name=backup_id, detail=f"is {standing.value}"))
        members = {member.name: member for member in earlier.members}
        found += [
            Difference(what="file", name=f"{file.bucket}/{file.key}", detail=f"is not in {backup_id} as it was")
            for file in files
            if not _holds(members.get(file.member), file)
        ]
    return found


def _holds(member: Member | None, file: AttachedFile) -> bool:
    return member is not None and (member.sha256, member.length) == (file.sha256, file.size)
