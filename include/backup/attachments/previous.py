"""The archive that a new one builds on, and what of it is still there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from include.backup.attachments.reconcile import FileKey
from include.backup.attachments.record import KIND, AttachedFile
from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog
from include.backup.errors import ArchiveError, StoreError, StoreUnreachableError
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """A proven archive, and its files with the backup that holds the bytes of each."""

    backup_id: str
    manifests: tuple[Manifest, ...]
    files: Mapping[FileKey, AttachedFile]


def find_previous(catalog: Catalog, *, own: str, log: logging.Logger) -> Previous | None:
    """Return the newest proven archive of attachments in the same tier whose bytes are all there.

    Nothing is built on an archive that is not proven, or on one that needs an archive that is gone.
    """
    mine = parse_backup_id(own)
    for listed in reversed(catalog.list()):
        parsed = parse_backup_id(listed.backup_id)
        if (parsed.kind, parsed.tier) != (KIND, mine.tier) or listed.backup_id == own:
            continue
        if not (listed.archive and listed.manifest):
            continue
        try:
            if read_standing(catalog, listed.backup_id) is Standing.PROVEN:
                return _previous(catalog, catalog.manifest(listed.backup_id))
            reason = "it is not proven"
        except StoreUnreachableError:
            raise
        except (ArchiveError, StoreError) as error:
            reason = str(error)
        log.warning("%s is not built on: %s", listed.backup_id, reason)
    return None


def _previous(catalog: Catalog, manifest: Manifest) -> Previous | None:
    # Reading each raises when its manifest or archive is gone, or short.
    earlier = [catalog.manifest(backup_id) for backup_id in manifest.depends_on]
    facts = manifest.attachments
    files = () if facts is None else facts.files
    return Previous(
        backup_id=manifest.backup_id,
        manifests=(manifest, *earlier),
        files={(file.bucket, file.key): replace(file, archive=file.archive or manifest.backup_id) for file in files},
    )
