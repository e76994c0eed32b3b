"""Compare large objects: each one's bytes with its member. Owners and grants are compared with the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from include.backup.archive.members import Compression, chunks_of, inspect
from include.backup.manifest import Manifest
from include.backup.proof.record import Difference

_MEMBER = re.compile(r"^(?:dump/)?blob_(?P<oid>\d+)\.dat(?P<zstd>\.zst)?$")


def compare_large_objects(manifest: Manifest, restored: Path) -> tuple[int, tuple[Difference, ...]]:
    """Compare with a new dump of the copy; return how many there are, and those that differ."""
    wanted = archived_large_objects(manifest)
    return len(wanted), tuple(differing_large_objects(wanted, _contents(restored)))


def archived_large_objects(manifest: Manifest) -> dict[int, str]:
    """Return the SHA-256 of each large object in the archive, by oid."""
    return {
        int(match["oid"]): member.sha256
        for member in manifest.members
        if (match := _MEMBER.match(member.name)) is not None
    }


def differing_large_objects(wanted: dict[int, str], found: dict[int, str]) -> Iterator[Difference]:
    """Yield the large objects whose SHA-256 differs, or that are on one side only."""
    for oid in sorted({**wanted, **found}):
        if oid not in found:
            detail = "is not there after the restore"
        elif oid not in wanted:
            detail = "is there after the restore but not in the archive"
        elif wanted[oid] != found[oid]:
            detail = "has other bytes after the restore"
        else:
            continue
        yield Difference(what="large object", name=str(oid), detail=detail)


def _contents(folder: Path) -> dict[int, str]:
    found = {}
    for path in folder.iterdir():
        match = _MEMBER.match(path.name)
        if match is not None:
            compression = Compression.ZSTD if match["zstd"] else Compression.NONE
            with path.open("rb") as file:
                facts = inspect(chunks_of(file), name=path.name, compression=compression, table_data=False)
            found[int(match["oid"])] = facts.sha256
    return found
