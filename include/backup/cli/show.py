"""show: one backup, as its manifest and its proofs describe it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from include.backup.base.record import BaseFacts
from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.inventory import Standing, standing_of
from include.backup.manifest import Manifest
from include.backup.proof.record import Proof
from include.backup.restore.progress import size_text

SHOWN_TABLES = 20
SHOWN_FILES = 10


def run(session: Session) -> int:
    """Print what a backup holds; a manifest whose archive is gone or short is an error."""
    catalog, backup_id = session.catalog, session.backup_id
    manifest, content = catalog.read(backup_id)
    proofs = catalog.proofs(backup_id)
    standing = standing_of(content, proofs)
    document = {
        "source": session.source.name,
        "backup_id": backup_id,
        "standing": standing.value,
        "url": session.store.url(manifest.archive.key),
        "tables": manifest.tables,
        "rows": manifest.rows,
        "archive_bytes": manifest.archive.size,
        "uncompressed_bytes": manifest.uncompressed_bytes,
        "left_out": manifest.left_out,
        "attachments": None if manifest.attachments is None else manifest.attachments.summary(),
        "manifest": json.loads(content),
        "proofs": [_proof(proof) for proof in proofs],
    }
    lines = _lines(session.store.url(manifest.archive.key), manifest, proofs, standing)
    session.output.result("show", document, lines)
    return 0


def _holds(manifest: Manifest) -> Iterator[str]:
    if manifest.base is not None:
        yield from _base(manifest.base)
    elif manifest.attachments is None:
        yield f"holds        {manifest.tables} tables, {manifest.rows} rows, {manifest.toc_entries} objects"
    if manifest.left_out:
        yield f"             {manifest.left_out.upper()[:7]}{manifest.left_out[7:]}"
    yield from _files(manifest)


def _base(base: BaseFacts) -> Iterator[str]:
    """Yield what a base backup holds, and what it needs to be started from."""
    yield f"holds        {base.files} files of the cluster {base.system_identifier}, {size_text(base.bytes)}"
    yield f"             timeline {base.timeline}, LSN {base.start_lsn} to {base.stop_lsn}"
    if base.parent is not None:
        yield f"builds on    {base.parent}"
    yield f"why          {base.why}"


def _proof(proof: Proof) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(proof.to_json())
    return content


def _lines(url: str, manifest: Manifest, proofs: tuple[Proof, ...], standing: Standing) -> Iterator[str]:
    server, archive, dump = manifest.dump.server, manifest.archive, manifest.dump
    yield f"backup       {manifest.backup_id}"
    yield f"data as of   {dump.snapshot.time:%Y-%m-%d %H:%M:%S} UTC, LSN {dump.snapshot.lsn_before}"
    yield f"source       {server.database} on PostgreSQL {server.version}, dumped by {dump.pg_dump_version}"
    yield f"run          {manifest.run.dag_id} {manifest.run.run_id}"
    if manifest.release is not None:
        yield f"release      {manifest.release.name} ({manifest.release.git_sha})"
    yield f"archive      {url}"
    yield (
        f"             {size_text(archive.size)} ({size_text(manifest.uncompressed_bytes)} uncompressed), "
        f"{archive.storage_class}, encryption {archive.encryption}"
    )
    yield from _holds(manifest)
    if manifest.copy_of is not None:
        yield f"copy of      {manifest.copy_of.backup_id}, checked by {manifest.copy_of.checked_by}"
    for backup_id in manifest.depends_on:
        yield f"needs        {backup_id}"
    if manifest.attachments is None:
        majors = ", ".join(str(major) for major in manifest.fits.server_majors)
        yield f"fits         PostgreSQL {majors}; pg_restore {manifest.fits.pg_restore_minimum} or newer"
    yield f"took         {', '.join(f'{name} {seconds:.1f} s' for name, seconds in manifest.durations.items())}"
    yield f"proof        {standing.value}"
    for proof in proofs:
        yield from _proof_lines(proof, of_files=manifest.attachments is not None)
    if manifest.attachments is None:  # what a dump does not carry is said with the backup of the database
        yield from (f"not carried  {item.what} ({item.why}): {item.to_do}" for item in dump.not_carried)
    if manifest.table_data:
        yield ""
        yield from _tables(manifest)


def _proof_lines(proof: Proof, *, of_files: bool) -> Iterator[str]:
    seconds = (proof.finished_at - proof.started_at).total_seconds()
    tables = proof.tables if proof.base is None else proof.base.tables
    seen = "; ".join(check.detail for check in proof.checks) if of_files else f"{len(tables)} tables, {proof.rows} rows"
    yield (
        f"             {proof.finished_at:%Y-%m-%d %H:%M} UTC {proof.result.value} ({proof.level.value}): "
        f"{seen} in {seconds:.1f} s"
    )
    for difference in proof.differences:
        yield f"               {' '.join(str(difference).split())}"


def _files(manifest: Manifest) -> Iterator[str]:
    """Yield what an archive of attachments holds, and where files and database differ."""
    facts = manifest.attachments
    if facts is None:
        return
    yield f"files        {facts.summary()}"
    yield f"             of {', '.join(facts.buckets)}, {size_text(facts.bytes)}; database in {facts.recovery_point}"
    for name in ("missing", "extra", "changed", "troubled"):
        notes = getattr(facts, name)
        yield from (f"  {name:<11}{note}" for note in notes[:SHOWN_FILES])
        if len(notes) > SHOWN_FILES:
            yield f"  {name:<11}and {len(notes) - SHOWN_FILES} more (--json shows all)"


def _tables(manifest: Manifest) -> Iterator[str]:
    members = sorted(
        (member for member in manifest.members if member.table_data is not None), key=lambda member: -member.length
    )
    rows = [
        (f"{member.table_data.schema}.{member.table_data.table}", str(member.table_data.rows), size_text(member.length))
        for member in members[:SHOWN_TABLES]
        if member.table_data is not None
    ]
    yield from columns(("table", "rows", "size"), rows)
    if len(members) > SHOWN_TABLES:
        yield f"and {len(members) - SHOWN_TABLES} smaller ones (--json shows all)"
