"""How the schema differs from that of the last release, which its pre-deployment backup holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from include.backup.archive.reader import ArchiveReader
from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog
from include.backup.manifest import Manifest
from include.backup.postgres.toc import read_toc
from include.backup.schema_history.changes import SchemaChanges, compare_objects
from include.backup.schema_history.history import SchemaHistory, diff_of
from include.backup.schema_history.snapshot import SchemaSnapshot, take_snapshot
from include.backup.store import ObjectStore

RELEASE_TIER = "pre_deployment"
TOC_MEMBER = "dump/toc.dat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What differs from the schema that was there when a release was about to be deployed."""

    release: str
    git_sha: str
    backup_id: str
    as_of: datetime
    changes: SchemaChanges
    diff: str

    def line(self) -> str:
        """Return one line of evidence."""
        counts = ", ".join(f"{len(names)} {word}" for word, names in self.changes.groups()) or "nothing differs"
        return f"since the backup before release {self.release} ({self.as_of:%Y-%m-%d %H:%M} UTC): {counts}"


def drift_from_release(
    history: SchemaHistory, schema: SchemaSnapshot, *, store: ObjectStore, catalog: Catalog
) -> Drift | None:
    """Compare with the newest pre-deployment backup; None when there is none."""
    manifest = last_release(catalog)
    if manifest is None:
        return None
    toc = read_toc(ArchiveReader(store, manifest).read(TOC_MEMBER))
    versions = {extension.name: extension.version for extension in manifest.dump.extensions}
    released = take_snapshot(toc, history.writing(encoding=manifest.dump.server.encoding, extension_versions=versions))
    release = manifest.release
    return Drift(
        release="unknown" if release is None else release.name,
        git_sha="" if release is None else release.git_sha,
        backup_id=manifest.backup_id,
        as_of=manifest.dump.snapshot.time,
        changes=compare_objects(released.objects, schema.objects),
        diff=diff_of(released.files, schema.files, ("release", "now")),
    )


def last_release(catalog: Catalog) -> Manifest | None:
    """Return the manifest of the newest whole pre-deployment backup."""
    for listed in reversed(catalog.list()):
        parsed = parse_backup_id(listed.backup_id)
        if parsed.tier == RELEASE_TIER and parsed.kind == "full" and listed.archive and listed.manifest:
            return catalog.manifest(listed.backup_id)
    return None
