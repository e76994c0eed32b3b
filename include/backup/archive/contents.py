"""Whether an archive's table of contents and its manifest speak of the same data."""

from __future__ import annotations

from include.backup.errors import ArchiveError
from include.backup.manifest import Manifest
from include.backup.postgres.toc import Toc


def check_contents(toc: Toc, manifest: Manifest) -> None:
    """Raise ArchiveError unless toc.dat and the manifest name the same table data."""
    listed = {(entry.dump_id, entry.copy_statement) for entry in toc.table_data}
    recorded = {(table.dump_id, table.copy_statement) for table in manifest.table_data}
    if listed != recorded:
        raise ArchiveError(
            f"toc.dat names {len(listed)} tables with data and the manifest {len(recorded)}, "
            f"{len(listed ^ recorded)} of them differ: this archive is not the one of this manifest"
        )
