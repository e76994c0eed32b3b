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

To recover with nothing but tar, zstd and PostgreSQL {major}, as the user who is to run the server, in an empty folder:

  tar -xf {backup_id}.tar
  mkdir -m 700 data wal
  zstd -dc base.tar.zst | tar -xf - -C data
{unpack}  cp backup_manifest data/ && pg_verifybackup --no-parse-wal data && rm data/backup_manifest
{places}
Bring the segments of timeline {timeline} from {segment} on into wal/, then:

  zstd -d -q --rm wal/*.zst
  : > data/postgresql.auto.conf
  echo 'local all all trust' > data/pg_hba.conf
  echo "restore_command = 'cp $PWD/wal/%f %p'" > data/postgresql.conf
  echo "unix_socket_directories = '$PWD/data'" >> data/postgresql.conf
  echo "listen_addresses = ''" >> data/postgresql.conf
  echo 'hot_standby = off' >> data/postgresql.conf
  echo 'recovery_target_action = promote' >> data/postgresql.conf
  touch data/recovery.signal
  pg_ctl -D data -w -t 86400 -l server.log start

That recovers to the end of the WAL in wal/. To stop earlier, add a target to data/postgresql.conf before the start,
such as recovery_target_time = '2025-01-19 14:30:00+00'. server.log tells how far it is; it lets nobody in before the
end. Connect then with: psql -h $PWD/data -U {superuser} postgres
{combine}"""
_COMBINE = """
This is an incremental backup. Unpack the full one and each incremental one after it, oldest first, into folders of
their own, each with its backup_manifest, and make the folder "data" of them (pg_combinebackup full incremental-1 ...
{backup_id} --output=data) before it is configured and started as above.
"""
_UNPACK = """\
  mkdir -m 700 tablespace-{oid} && ln -s "$PWD/tablespace-{oid}" data/pg_tblspc/{oid}
  zstd -dc {oid}.tar.zst | tar -xf - -C tablespace-{oid}
"""
_PLACE = """\
  echo "{oid} $PWD/tablespace-{oid}" >> data/tablespace_map
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
        superuser=base.superuser,
        unpack="".join(_UNPACK.format(oid=one.oid) for one in base.tablespaces),
        places="  : > data/tablespace_map\n" + "".join(_PLACE.format(oid=one.oid) for one in base.tablespaces),
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
