"""When backups were proven, and whether that failed, as the names of their proofs say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from include.backup.proof.record import FAILED_ENDING
from include.backup.store import ObjectStore

_PROOF_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestProof:
    """When the newest proof of a backup was made, and whether its name says that it failed; old names never do."""

    made_at: datetime
    failed: bool


def newest_proofs(store: ObjectStore, source: str) -> Mapping[str, NewestProof]:
    """Return the newest proof of each backup, from the proofs' names alone."""
    found: dict[str, NewestProof] = {}
    for key in store.keys(f"proofs/{source}_"):
        _, backup_id, name = key.split("/", 2)
        try:
            made_at = datetime.strptime(name.partition("_")[0], _PROOF_TIME).replace(tzinfo=UTC)
        except ValueError:
            continue
        known = found.get(backup_id)
        if known is None or made_at >= known.made_at:
            found[backup_id] = NewestProof(made_at=made_at, failed=name.endswith(f"{FAILED_ENDING}.json"))
    return found
