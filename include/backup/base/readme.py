"""The README inside a base backup's archive: how to start it on the day when this project is gone."""

from __future__ import annotations

from include.backup.base.record import BaseFacts
from include.backup.manifest import DumpFacts

_TEXT = """\
Base backup {backup_id}
of the PostgreSQL {version} cluster {system_identifier}, timeline {timeline}
taken by pg_basebackup {tool_version}, {started:%Y-%m-%dT%H:%M:%SZ} to {stopped:%Y-%m-%dT%H:%M:%SZ} (UTC)
WAL is needed from {start_lsn}; the copy is consistent from {stop_lsn} on{parent}

This is a plain tar file. It holds
  base.tar.zst               the data folder, a tar of its own, compressed with zstd
  <oid>.tar.zst              each tablespace{tablespaces}
  backup_manifest            PostgreSQL's own list of the files, for pg_verifybackup
  source_configuration.txt   the configuration of the source, which may lie outside the data folder

The WAL lies in the same bucket, one zstd file for each segment:
  incremental/{system_identifier}/wal/<timeline>/<segment>.zst

To recover with nothing but tar, zstd and PostgreSQL {major} (as the user who runs the server):

  mkdir -m 700 data && tar -xf {backup_id}.tar
  zstd -dc base.tar.zst | tar -xf - -C data
  # each tablespace: mkdir -m 700 folder && zstd -dc <oid>.tar.zst | tar -xf - -C folder, then write the folder into
  # data/tablespace_map, one line each: "<oid> <folder>"
  mkdir wal && ...                     # fetch the segments from {segment} on into wal/, and: zstd -d --rm wal/*.zst
  cp backup_manifest data/ && pg_verifybackup --no-parse-wal data && rm data/backup_manifest
  printf '%s\\n' "restore_command = 'cp $PWD/wal/%f %p'" "archive_mode = off" \\
      "#recovery_target_time = '2025-01-19 14:30:00+00'" "recovery_target_action = promote" > data/postgresql.auto.conf
  touch data/recovery.signal           # and a postgresql.conf and pg_hba.conf, if data/ has none
  pg_ctl -D data -o '-p 5499' start
{combine}
"""
_COMBINE = """
This is an incremental backup. Unpack the full one and each incremental one after it, oldest first, into folders of
their own, each with its backup_manifest, then make one folder of them before the WAL is replayed:

  pg_combinebackup full incremental-1 ... {backup_id} --output=data
"""


def base_readme(backup_id: str, facts: DumpFacts, base: BaseFacts, *, segment: str) -> bytes:
    """Return the text of README.txt."""
    names = ", ".join(f"{one.member}: {one.name}, was {one.location}" for one in base.tablespaces)
    return _TEXT.format(
        backup_id=backup_id,
        version=facts.server.version,
        major=facts.server.major,
        system_identifier=base.system_identifier,
        timeline=base.timeline,
        tool_version=facts.pg_dump_version,
        started=base.started_at,
        stopped=base.stopped_at,
        start_lsn=base.start_lsn,
        stop_lsn=base.stop_lsn,
        segment=segment,
        parent=f"\nit holds what changed since {base.parent}" if base.parent else "",
        tablespaces=f" ({names})" if names else " (there is none)",
        combine=_COMBINE.format(backup_id=backup_id) if base.parent else "",
    ).encode()


def source_configuration(base: BaseFacts) -> bytes:
    """Return the source's configuration as text."""
    if base.settings is None or base.hba is None:
        return b"The backup role may not read pg_file_settings and pg_hba_file_rules of the source.\n"
    lines = ["# settings of the configuration files, in the order in which they are read"]
    for setting in base.settings:
        value = "<not recorded: it may hold a secret>" if setting.value is None else setting.value
        lines.append(f"{'' if setting.applied else '# not applied: '}{setting.name} = {value!r}  # {setting.file}")
    lines += ["", "# pg_hba.conf", *base.hba, ""]
    return "\n".join(lines).encode()
