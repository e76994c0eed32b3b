"""Whether an archive's table of contents and its manifest speak of the same data."""

from __future__ import annotations

from pathlib import PurePosixPath

from include.backup.errors import ArchiveError
from include.backup.manifest import Manifest
from include.backup.postgres.toc import Toc

SHOWN = 10


def check_contents(toc: Toc, manifest: Manifest) -> None:
    """Raise ArchiveError unless toc.dat and the manifest name the same table data in the same files."""
    database = manifest.dump.server.database
    if toc.database != database:
        raise _differ(f"toc.dat is of the database {toc.database} and the manifest of {database}")
    if len(toc.entries) != manifest.toc_entries:
        raise _differ(f"toc.dat has {len(toc.entries)} entries and the manifest says {manifest.toc_entries}")
    listed = {
        (entry.dump_id, f"{entry.namespace}.{entry.tag}", entry.copy_statement, entry.filename)
        for entry in toc.table_data
    }
    recorded = {
        (table.dump_id, f"{table.schema}.{table.table}", table.copy_statement, _file(member.name))
        for member in manifest.members
        if (table := member.table_data) is not None
    }
    names = sorted({name for _, name, _, _ in listed ^ recorded})
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise _differ(f"toc.dat and the manifest differ on the data of {', '.join(names[:SHOWN])}{more}")


def _differ(how: str) -> ArchiveError:
    return ArchiveError(f"{how}: this archive is not the one of this manifest, use another backup")


def _file(member: str) -> str:
    """Return a member's name as toc.dat has it; pg_restore finds the compressed file by itself."""
    return PurePosixPath(member).name.removesuffix(".zst")
