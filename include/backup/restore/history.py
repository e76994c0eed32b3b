"""How long a restore will take, from what restore tests of this source were measured to take."""

from __future__ import annotations

from collections.abc import Sequence

from include.backup.errors import ArchiveError
from include.backup.manifest import Manifest
from include.backup.proof.record import Proof, read_proof
from include.backup.restore.plan import Estimate, estimate
from include.backup.store import ObjectStore

MOST_PROOFS = 5
STEPS = ("fetch", "restore", "compare")


def history_estimate(store: ObjectStore, manifest: Manifest, proofs: Sequence[Proof], *, replaces: bool) -> Estimate:
    """Return the time of restore and comparison; with the safety backup when something is replaced."""
    own = estimate(manifest, proofs, compare=True)
    if not _measured(proofs):
        own = by_rows(manifest, newest_proofs(store, manifest.source)) or own
    if not replaces:
        return own
    backup = sum(manifest.durations.get(name, 0.0) for name in ("dump", "compress", "upload"))
    return Estimate(seconds=round(own.seconds + backup, 3), basis=f"{own.basis}; with a safety backup like its own")


def by_rows(manifest: Manifest, proofs: Sequence[Proof]) -> Estimate | None:
    """Return the time by the rows a second of other backups' restore tests; None when there is none."""
    tested = [proof for proof in _measured(proofs) if proof.rows]
    if not tested:
        return None
    seconds = sum(proof.durations[step] for proof in tested for step in STEPS)
    rate = seconds / sum(proof.rows for proof in tested)
    return Estimate(
        seconds=round(rate * manifest.rows, 3),
        basis=f"{len(tested)} restore tests of other backups, {1 / rate if rate else 0:.0f} rows/s",
    )


def newest_proofs(store: ObjectStore, source: str) -> tuple[Proof, ...]:
    """Return the newest proofs of a source that can be read."""
    listed = sorted(store.list(f"proofs/{source}_"), key=lambda item: item.modified, reverse=True)
    found = []
    for item in listed[:MOST_PROOFS]:
        try:
            found.append(read_proof(store.get(item.key), name=item.key))
        except ArchiveError:
            continue
    return tuple(found)


def _measured(proofs: Sequence[Proof]) -> list[Proof]:
    return [proof for proof in proofs if set(STEPS) <= set(proof.durations)]
