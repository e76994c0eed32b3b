"""Find out where the copies of a source are: in the store, and at Supabase."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog
from include.backup.connections import StoreConnection
from include.backup.copies.report import CopiesReport, StoreFacts, make_report
from include.backup.errors import ArchiveError, ConnectionDefinitionError, StoreError, SupabaseError
from include.backup.http_address import is_loopback
from include.backup.inventory import FULL, Standing, standing_of
from include.backup.manifest import Manifest, read_manifest
from include.backup.policy import SourcePolicy
from include.backup.proof.record import Proof
from include.backup.supabase.daily import DailyCheck, DailyState, check_daily
from include.backup.supabase.project import SupabaseProject

# Older ones can only be older than what the report calls fresh.
LOOKED_AT = 30


def look_at_copies(
    *,
    source: SourcePolicy,
    catalog: Catalog,
    connection: StoreConnection,
    open_project: Callable[[], SupabaseProject | None],
    now: datetime,
) -> CopiesReport:
    """Return the report; what cannot be asked is in it as such, and does not count."""
    facts = _store_facts(source, catalog, connection)
    supabase = ask_supabase(source, open_project, now)
    production = "PostgreSQL at Supabase" if source.supabase is not None else "PostgreSQL server"
    return make_report(source=source.name, at=now, production=production, store=facts, supabase=supabase)


def ask_supabase(source: SourcePolicy, open_project: Callable[[], SupabaseProject | None], now: datetime) -> DailyCheck:
    """Return what Supabase says of its own daily backup."""
    hosted = source.supabase
    if hosted is None:
        return DailyCheck(state=DailyState.NOT_HOSTED, text="the policy names no Supabase project for this source")
    try:
        project = open_project()
        if project is None:
            return DailyCheck(state=DailyState.NOT_ASKED, text="no connection to Supabase's Management API")
        with project:
            return check_daily(project, now=now, grace=hosted.daily_backup_grace)
    except (SupabaseError, ConnectionDefinitionError) as error:
        return DailyCheck(state=DailyState.NOT_ASKED, text=" ".join(str(error).split()))


def _store_facts(source: SourcePolicy, catalog: Catalog, connection: StoreConnection) -> StoreFacts:
    host = urlsplit(connection.endpoint_url or "").hostname
    facts = StoreFacts(
        where=f"s3://{source.store.bucket}",
        storage=f"S3 ({host or connection.region})",
        off_site=not _is_near(host),
    )
    listed = [item for item in catalog.list() if item.manifest and item.archive]
    full = [item for item in listed if parse_backup_id(item.backup_id).kind == FULL]
    for item in reversed(full[-LOOKED_AT:]):
        read = _read(catalog, item.backup_id)
        if read is None:
            continue
        manifest, content = read
        moment = manifest.dump.snapshot.time
        if facts.newest is None:
            facts = replace(facts, newest_id=item.backup_id, newest=moment)
        proof = _passed(catalog, item.backup_id, content) if item.proofs else None
        if proof is not None:
            text = f"restored and compared {proof.finished_at:%Y-%m-%d %H:%M} UTC ({proof.level}), {proof.rows} rows"
            text += f"; {manifest.left_out}" if manifest.left_out else ""
            return replace(facts, proven_id=item.backup_id, proven=moment, proof=text)
    return facts


def _read(catalog: Catalog, backup_id: str) -> tuple[Manifest, bytes] | None:
    try:
        content = catalog.manifest_bytes(backup_id)
        return read_manifest(content, name=backup_id), content
    except (ArchiveError, StoreError):
        return None


def _passed(catalog: Catalog, backup_id: str, content: bytes) -> Proof | None:
    try:
        proofs = catalog.proofs(backup_id)
    except ArchiveError:
        return None
    if standing_of(content, proofs) is not Standing.PROVEN:
        return None
    return max(proofs, key=lambda proof: proof.finished_at)


def _is_near(host: str | None) -> bool:
    """Say whether a store is on this machine or in a private network; AWS itself has no endpoint of its own here."""
    if host is None:
        return False
    if is_loopback(host):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))
