"""The README inside each archive: how to restore it on the day when this project is gone."""

from __future__ import annotations

from collections.abc import Sequence

from include.backup.manifest import DumpFacts

_TEXT = """\
Backup {backup_id}
database {database}, PostgreSQL {server_version}, encoding {encoding}
dumped by pg_dump {pg_dump_version} at {time} (UTC)

{scope}This is a plain tar file. It holds
  globals.sql        roles, memberships and role settings (pg_dumpall --globals-only)
  dump/              {holds}

To restore it with nothing but tar, zstd and PostgreSQL's own tools (pg_restore {pg_restore_minimum} or newer):

  tar -xf {backup_id}.tar
  psql -d postgres -f globals.sql        # roles that exist already give an error each: harmless
  createdb -T template0 -E {encoding} restored
  pg_restore --jobs=4 --dbname=restored dump

pg_restore 16 and newer reads the .zst files as they are. An older pg_restore, or one that was built
without zstd, needs them unpacked first. pg_dump writes an empty large object as an empty file, which zstd
refuses, so leave those out and give them their name by hand:

  find dump -name '*.zst' -size +0 -exec zstd -d -q --rm {{}} +
  find dump -name '*.zst' -size 0 -exec sh -c 'mv "$1" "${{1%.zst}}"' _ {{}} ';'

A restore runs the functions of the archive with the rights of whoever restores: take a server of its own.
Roles{role_passwords}
Extensions of the source: {extensions}
"""

_DIRECTORY = "a dump in pg_dump's directory format; data files end in .zst (zstd)"
_HOLDS = {
    "full": _DIRECTORY,
    "schema": "the definitions of all objects, without rows, in pg_dump's directory format",
    "tables": f"some of its tables with what they need, {_DIRECTORY}",
}

_PARTIAL = """\
THIS IS NOT A FULL BACKUP. It holds the whole schema, and the rows of these tables alone:
  {tables}
Foreign keys from them to other tables give an error each in a restore, since the rows they refer to are not here.

"""

_LEFT_OUT = """\
THIS IS NOT A FULL BACKUP. The policy leaves out of it, with all rows in them:
  {names}
What refers to them gives an error each in a restore.

"""


def archive_readme(
    backup_id: str,
    facts: DumpFacts,
    *,
    pg_restore_minimum: int,
    kind: str = "full",
    excluded_schemas: Sequence[str] = (),
    excluded_tables: Sequence[str] = (),
) -> bytes:
    """Return the text of README.txt; whatever is not in the archive is said before anything else."""
    extensions = ", ".join(f"{item.name} {item.version}" for item in facts.extensions) or "none"
    passwords = (
        " are dumped with their passwords (as hashes)."
        if facts.role_passwords
        else " are dumped without passwords: the backup role may not read them. Set new ones."
    )
    scope = _PARTIAL.format(tables=", ".join(facts.tables)) if facts.tables else ""
    left_out = [*(f"schema {name}" for name in excluded_schemas), *(f"table {name}" for name in excluded_tables)]
    scope += _LEFT_OUT.format(names="\n  ".join(left_out)) if left_out else ""
    return _TEXT.format(
        scope=scope,
        backup_id=backup_id,
        holds=_HOLDS.get(kind, _DIRECTORY),
        database=facts.server.database,
        server_version=facts.server.version,
        encoding=facts.server.encoding,
        pg_dump_version=facts.pg_dump_version,
        time=facts.snapshot.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pg_restore_minimum=pg_restore_minimum,
        role_passwords=passwords,
        extensions=extensions,
    ).encode()
