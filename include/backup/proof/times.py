"""When backups were proven, as the names of their proofs say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from include.backup.store import ObjectStore

_PROOF_TIME = "%Y%m%dT%H%M%SZ"


def newest_proofs(store: ObjectStore, source: str) -> Mapping[str, datetime]:
    """Return when the newest proof of each backup was made, from the proofs' names alone."""
    found: dict[str, datetime] = {}
    for key in store.keys(f"proofs/{source}_"):
        _, backup_id, name = key.split("/", 2)
        try:
            made = datetime.strptime(name.partition("_")[0], _PROOF_TIME).replace(tzinfo=UTC)
        except ValueError:
            continue
        found[backup_id] = max(made, found.get(backup_id, made))
    return found
