"""Compare large objects: each one's bytes with its member. Owners and grants are compared with the schema."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import psycopg

from include.backup.manifest import Manifest
from include.backup.proof.record import Difference

_MEMBER = re.compile(r"^dump/blob_(?P<oid>\d+)\.dat(?:\.zst)?$")
CHUNK_BYTES = 1 << 20
INV_READ = 0x40000


def compare_large_objects(
    connection: psycopg.Connection[dict[str, Any]], manifest: Manifest
) -> tuple[int, tuple[Difference, ...]]:
    """Return how many were compared, and those that are missing, added or differ."""
    wanted = {
        int(match["oid"]): member.sha256
        for member in manifest.members
        if (match := _MEMBER.match(member.name)) is not None
    }
    rows = connection.execute("SELECT oid::bigint AS oid FROM pg_catalog.pg_largeobject_metadata").fetchall()
    there = {int(row["oid"]) for row in rows}
    return len(wanted), tuple(_differences(connection, wanted, there))


def _differences(
    connection: psycopg.Connection[dict[str, Any]], wanted: dict[int, str], there: set[int]
) -> Iterator[Difference]:
    for oid in sorted(there ^ set(wanted)):
        detail = "is not there after the restore" if oid in wanted else "is there but not in the archive"
        yield Difference(what="large object", name=str(oid), detail=detail)
    for oid in sorted(there & set(wanted)):
        if _sha256(connection, oid) != wanted[oid]:
            yield Difference(what="large object", name=str(oid), detail="has other bytes after the restore")


def _sha256(connection: psycopg.Connection[dict[str, Any]], oid: int) -> str:
    digest = hashlib.sha256()
    with connection.transaction():
        row = connection.execute("SELECT lo_open(%s::bigint::oid, %s) AS handle", (oid, INV_READ)).fetchone()
        handle = row["handle"] if row else None
        while True:
            piece = connection.execute("SELECT loread(%s, %s) AS data", (handle, CHUNK_BYTES)).fetchone()
            if not piece or not piece["data"]:
                return digest.hexdigest()
            digest.update(piece["data"])
