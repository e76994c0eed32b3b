"""change_class: move the run's proven archives into the class in which they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from include.backup.backup_id import KINDS, parse_backup_id
from include.backup.catalog import Catalog, manifest_key
from include.backup.errors import CopyRefusedError
from include.backup.inventory import Standing, read_standing
from include.backup.steps.context import StepContext
from include.backup.storage_class import change_class


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReport:
    """What was moved; sizes in bytes, ``left`` counts old versions that still cost."""

    backup_id: str
    archives: int
    changed: int
    storage_class: str
    removed_bytes: int
    left: int
    seconds: float
    note: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"{self.archives} archives of {self.backup_id} are in {self.storage_class} ({self.changed} moved now); "
            f"{self.removed_bytes} bytes of old versions deleted, {self.left} old versions left; {self.seconds:.1f} s"
        )


def run(ctx: StepContext) -> ChangeReport:
    """Move every archive of this run; raises CopyRefusedError for one that is not proven."""
    ids = tuple(archives_of_run(ctx))
    for backup_id in ids:
        require_proven(ctx.catalog, backup_id)
    changes = []
    for backup_id in ids:
        manifest = ctx.catalog.manifest(backup_id)
        tags = {"source": ctx.source.name, "tier": ctx.tier.name, "kind": manifest.kind}
        change = change_class(
            ctx.store,
            manifest,
            encryption=ctx.encryption,
            concurrency=ctx.source.store.concurrency,
            tags=tags,
            log=ctx.log,
        )
        ctx.log.info("%s is in %s, checked by %s", backup_id, change.storage_class, change.checked_by)
        changes.append(change)
    left = sum(change.left for change in changes)
    return ChangeReport(
        backup_id=ctx.backup_id,
        archives=len(changes),
        changed=sum(change.changed for change in changes),
        storage_class=ctx.tier.storage_class,
        removed_bytes=sum(change.removed_bytes for change in changes),
        left=left,
        seconds=round(sum(change.seconds for change in changes), 3),
        note=ctx.tier.storage_class + (f", {left} old versions are left and paid for" if left else ""),
    )


def archives_of_run(ctx: StepContext) -> Iterator[str]:
    """Yield the ids of all backups of this run in the store: they differ in their kind alone."""
    own = parse_backup_id(ctx.backup_id)
    for kind in KINDS:
        candidate = str(replace(own, kind=kind))
        if ctx.store.head(manifest_key(ctx.tier.prefix, candidate)) is not None:
            yield candidate


def require_proven(catalog: Catalog, backup_id: str) -> None:
    """Raise CopyRefusedError unless the newest proof of a backup passed."""
    standing = read_standing(catalog, backup_id)
    if standing is not Standing.PROVEN:
        raise CopyRefusedError(
            f"{backup_id} is {standing.value}, not proven: it stays where it can be read back. Clear its restore test "
            "first, or start a new run"
        )
