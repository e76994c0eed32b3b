"""The arguments of base, recover and wal. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

from pathlib import Path

from include.backup.cli.parsing import Commands, add_command, port

BASE = "take a base backup of the cluster, store it, verify it and prove it"
BASE_EPILOG = """\
examples:
  python -m include.backup base pulse_messages
  python -m include.backup base pulse_messages --full

Without --full or --incremental what is due is taken, which may be nothing. Needs REPLICATION.
"""
RECOVER = "recover to a point in time, as a new server beside the source, or a hosted project by Supabase"
RECOVER_EPILOG = """\
examples:
  python -m include.backup recover pulse_messages --to-time 2025-01-19T14:30:00Z --folder /srv/copy --dry-run
  python -m include.backup recover pulse_messages --to-time 2025-01-19T14:30:00Z --folder /srv/copy --port 5500
  python -m include.backup recover pulse_messages --to-name 'before 2025.3.1' --folder /srv/copy --port 5499 --yes
  python -m include.backup recover pulse_messages --to-time 2025-01-19T14:30:00Z --in-project --dry-run

The base backup is chosen and its WAL is brought from the store. Nothing of the source is touched. The new server
listens on 127.0.0.1 and on a socket in the folder, where who ran this is its superuser; it archives nothing, follows
nobody and runs no job. `python -m include.backup wal SOURCE` says what can be recovered.

With --in-project Supabase recovers its own hosted project, in place: what was written after that time is lost, and the
project cannot be reached meanwhile. It wants the policy's supabase block, and a time.
"""

WAL_EPILOG = """\
examples:
  python -m include.backup wal pulse_messages
  python -m include.backup wal pulse_messages --run
  python -m include.backup wal old_source --drop-slots --connection old_source_db --dry-run

The report reads the store, and the source as far as it answers. A run ends with exit code 4 when it found the chain
of WAL broken: it has begun a new one by then, and a base backup has to be taken.
"""


def add_base(commands: Commands) -> None:
    command = add_command(commands, "base", BASE, BASE_EPILOG)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--full", action="store_true", help="a full one, whatever is due")
    what.add_argument("--incremental", action="store_true", help="one that builds on the last, if the server can")
    command.add_argument("--no-proof", action="store_true", help="leave the restore test out")
    command.add_argument("--no-wal", action="store_true", help="do not store WAL besides; then it is not proven either")


def add_recover(commands: Commands) -> None:
    command = add_command(commands, "recover", RECOVER, RECOVER_EPILOG)
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--to-time", metavar="TIME", help="ISO 8601 with a zone, e.g. 2025-01-19T14:30:00Z")
    target.add_argument("--to-lsn", metavar="LSN", help="a position, e.g. 16/B374D848")
    target.add_argument("--to-xid", metavar="XID", help="a transaction")
    target.add_argument("--to-name", metavar="NAME", help="what pg_create_restore_point() was given")
    target.add_argument("--to-latest", action="store_true", help="the end of the stored log")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="for the new server; must not exist yet")
    where.add_argument("--in-project", action="store_true", help="the hosted Supabase project itself, by Supabase")
    command.add_argument("--port", type=port, default=5499, help="of the new server; default: 5499")
    command.add_argument("--base", metavar="BACKUP_ID", help="the base backup; default: the one that fits best")
    command.add_argument("--timeline", type=int, metavar="N", help="default: the newest one")
    command.add_argument(
        "--system-identifier", metavar="N", help="the cluster; default: that of the newest base backup"
    )
    command.add_argument("--unproven", action="store_true", help="also from a base backup that nobody has proven")
    command.add_argument("--dry-run", action="store_true", help="only print what would be done")
    command.add_argument("--yes", action="store_true", help="do not ask")


def add_wal(commands: Commands) -> None:
    command = add_command(
        commands, "wal", "report to which times a source can be recovered, or store its WAL now", WAL_EPILOG
    )
    command.set_defaults(tier=None)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--run", action="store_true", help="store what the source has written since the last run")
    what.add_argument("--drop-slots", action="store_true", help="remove the slots of a source that left the policy")
    command.add_argument(
        "--connection", metavar="CONN_ID", help="with --drop-slots: the server; default: the last run's"
    )
    command.add_argument("--dry-run", action="store_true", help="with --drop-slots: only look which slots there are")
    command.add_argument("--yes", action="store_true", help="with --drop-slots: remove them")
