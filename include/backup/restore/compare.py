"""Compare a restored database with its manifest: rows, sequences, filled views, large objects."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from include.backup.archive.reader import ArchiveReader
from include.backup.errors import RestoreError
from include.backup.manifest import Manifest
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest
from include.backup.proof.large_objects import archived_large_objects, differing_large_objects
from include.backup.proof.record import Difference, TableProof
from include.backup.proof.rows import RowComparer
from include.backup.proof.sequences import compare_sequences, compare_views
from include.backup.restore.progress import Counter, Progress
from include.backup.restore.target import Target

CHUNK_BYTES = 1 << 23


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what differs."""

    tables: int
    rows: int
    sequences: int
    large_objects: int
    differences: tuple[Difference, ...]


class RestoreComparer:
    """Reads a restored database back, with the rights of whoever restored it."""

    def __init__(
        self,
        *,
        target: Target,
        manifest: Manifest,
        toc: Toc,
        reader: ArchiveReader,
        tools: PostgresTools,
        jobs: int,
        without: Collection[tuple[str, str]] = (),
        loaded: Mapping[str, MultisetDigest] | None = None,
    ) -> None:
        self._target = target
        self._manifest = _without(manifest, without)
        self._toc = toc
        self._reader = reader
        self._tools = tools
        self._jobs = jobs
        self._loaded = loaded or {}

    def compare(self, *, runner: Runner, progress: Progress) -> Comparison:
        """Compare everything; raises RestoreError when something cannot be read back."""
        counter = Counter(progress)

        def told(table: TableProof) -> None:
            counter.add(table.rows_restored)

        rows = RowComparer(
            runner=runner,
            tools=self._tools,
            endpoint=self._target.endpoint,
            manifest=self._manifest,
            content=self._reader.content,
            jobs=self._jobs,
            digests=self._loaded,
        )
        tables, differences = rows.compare(log=lambda _: None, on_table=told)
        found = list(differences)
        try:
            with connect(self._target.endpoint) as session:
                sequences, differences = compare_sequences(session, self._toc)
                found.extend(differences)
                found.extend(compare_views(session, self._toc))
                archived = archived_large_objects(self._manifest)
                found.extend(differing_large_objects(archived, _large_objects(session)))
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            raise RestoreError(f"{self._target.describe()} cannot be read back: {text}; use another role") from error
        return Comparison(
            tables=len(tables),
            rows=sum(table.rows_restored for table in tables),
            sequences=sequences,
            large_objects=len(archived),
            differences=tuple(found),
        )


def _without(manifest: Manifest, tables: Collection[tuple[str, str]]) -> Manifest:
    """Return the manifest without the rows of these tables, each a schema and a name."""
    members = tuple(
        member
        for member in manifest.members
        if member.table_data is None or (member.table_data.schema, member.table_data.table) not in tables
    )
    return replace(manifest, members=members)


def _large_objects(session: psycopg.Connection[dict[str, Any]]) -> dict[int, str]:
    rows = session.execute("SELECT oid::bigint AS oid FROM pg_catalog.pg_largeobject_metadata").fetchall()
    return {row["oid"]: _hash(session, row["oid"]) for row in rows}


def _hash(session: psycopg.Connection[dict[str, Any]], oid: int) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(session, oid):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(session: psycopg.Connection[dict[str, Any]], oid: int) -> Iterator[bytes]:
    """Yield a large object's bytes; in pieces, since it may be larger than any value."""
    offset = 0
    while True:
        row = session.execute(
            "SELECT pg_catalog.lo_get(%s::oid, %s, %s) AS data", (oid, offset, CHUNK_BYTES), binary=True
        ).fetchone()
        data = bytes(row["data"]) if row else b""
        yield data
        offset += len(data)
        if len(data) < CHUNK_BYTES:
            return
