"""Builders of base backups as the store has them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from include.backup.backup_id import make_backup_id
from include.backup.base.record import BaseFacts
from include.backup.base.stored import StoredBase
from include.backup.inventory import Standing
from tests.support.builders import make_manifest


def make_base_facts(stopped_at: datetime, **overrides: Any) -> BaseFacts:
    values: dict[str, Any] = {
        "system_identifier": "7401",
        "timeline": 1,
        "start_lsn": "0/3000028",
        "stop_lsn": "0/3000120",
        "started_at": stopped_at - timedelta(minutes=5),
        "stopped_at": stopped_at,
        "wal_segment_bytes": 16 << 20,
        "data_checksums": True,
        "parent": None,
        "why": "a full one was asked for",
        "files": 10,
        "bytes": 1000,
        "superuser": "postgres",
        "databases": ("postgres", "pulse_messages"),
        "tablespaces": (),
        "unlogged": (),
        "settings": (),
        "hba": (),
    }
    return BaseFacts(**{**values, **overrides})


def make_stored_base(
    stopped_at: datetime,
    *,
    standing: Standing = Standing.PROVEN,
    source: str = "pulse_messages",
    took: timedelta = timedelta(),
    **overrides: Any,
) -> StoredBase:
    """Return a base backup that ended at that time, ``took`` after its run was due, under an id of its own."""
    facts = make_base_facts(stopped_at, **overrides)
    backup_id = make_backup_id(
        source=source,
        tier="incremental",
        kind="base",
        run_after=stopped_at - took,
        dag_id="base_backup",
        run_id=f"{stopped_at} {facts.timeline} {facts.system_identifier} {facts.start_lsn}",
    )
    manifest = make_manifest(backup_id=backup_id, source=source, tier="incremental", kind="base", base=facts)
    return StoredBase(manifest=manifest, base=facts, standing=standing)
