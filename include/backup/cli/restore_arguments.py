"""The arguments of the commands that restore. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

from include.backup.cli import restore_attachments_arguments, restore_table_arguments
from include.backup.cli.parsing import (
    Commands,
    add_backup,
    add_command,
    add_server,
    common_options,
    positive,
    seconds,
)

RESTORE_EPILOG = """\
examples:
  python -m include.backup restore pulse_messages latest-proven --to-database pulse_restored --create --dry-run
  python -m include.backup restore pulse_messages latest-proven --to-database pulse_restored --create --yes \\
      --connection new_server
  python -m include.backup restore pulse_messages release:2025.3.1 --swap --reason "bad deploy" --dry-run
  python -m include.backup restore pulse_messages before:2025-01-19T11:30:00Z --swap --reason "bad deploy" \\
      --end-sessions --yes-i-have-approval pulse_messages
  python -m include.backup restore pulse_messages --undo 20250119T120000Z_3fa9c1
  python -m include.backup restore pulse_messages latest-proven --in-place --reason "bad deploy" --dry-run
  PGPASSWORD=... python -m include.backup restore pulse_messages latest --to-database pulse_restored --create \\
      --host db.example.com --user postgres --sslrootcert ca.pem --with-roles

Without --connection or --host the target is on the source's own server. The restore refuses the source itself and
a database that is not empty. It ends with a comparison of every row with what the dump read.

--swap replaces the source itself, as the DAG restore_database does: backed up first, loaded beside, compared, swapped
by name; the old database stays beside. The role is that of the policy's restore.source_connection.

--in-place is for hosted databases, which cannot be renamed (Supabase's `postgres`): backed up first, then the schemas
that this role owns are dropped and made anew in one transaction, and compared. Nothing stays beside: to go back,
restore the safety backup that it names, with --unproven. Stop what writes to these schemas first: what is written once
that backup has begun is in no copy, and the restore refuses then, but for --give-up-writes.
"""
RESTORE_PROJECT_EPILOG = """\
examples:
  python -m include.backup restore-project pulse_messages latest-proven --connection new_project --dry-run
  PGPASSWORD=... python -m include.backup restore-project pulse_messages latest-proven \\
      --host db.abcdefghijklmnopqrst.supabase.co --sslrootcert supabase-ca.pem

The project must be new: Supabase's own schemas, roles and extensions are there and stay as they are. Rows of auth and
storage are loaded into them; all else is made as it was, as an ordinary role. What cannot be carried over is listed
with what to do. The copy is quarantined; cron jobs are scheduled when it is released.
"""
THAW_EPILOG = """\
examples:
  python -m include.backup thaw pulse_messages latest-proven --tier monthly --dry-run
  python -m include.backup thaw pulse_messages pulse_messages_monthly_full_20250101T040000Z_3fa9c1 --wait

Asks once, and costs money once: an archive that is being thawed, or can be read, is not asked for again. It stays
readable for the policy's restore.thaw.days. The DAGs restore_database and restore_table do this by themselves.
"""
QUARANTINE_EPILOG = """\
examples:
  python -m include.backup quarantine show pulse_messages --database pulse_restored
  python -m include.backup quarantine release pulse_messages --database pulse_restored --yes

A restored copy brings its source's cron jobs, webhooks, queued requests and subscriptions with it. `restore` switches
them off, so that the copy does not act on the world a second time; the copy itself records what was off. Who released
it, when and why is left as evidence in the source's store.
"""


def add_restore(commands: Commands) -> None:
    command = add_command(commands, "restore", "restore a full backup into a new database", RESTORE_EPILOG)
    command.add_argument(
        "backup",
        metavar="BACKUP",
        nargs="?",
        help="a backup's id, latest, latest-proven, before:TIME, release:NAME or release:NAME@COMMIT",
    )
    command.add_argument("--tier", help="the tier in which latest is looked for")
    goal = command.add_mutually_exclusive_group(required=True)
    goal.add_argument("--to-database", metavar="NAME", help="the database to restore into")
    goal.add_argument("--swap", action="store_true", help="replace the source itself, by a swap of names")
    goal.add_argument(
        "--in-place",
        action="store_true",
        help="replace the source's own schemas within its database, for where databases cannot be renamed",
    )
    goal.add_argument("--undo", metavar="RESTORE_ID", help="give the database back that this restore has replaced")
    swap = command.add_argument_group("with --swap, --in-place and --undo")
    swap.add_argument(
        "--end-sessions", action="store_true", help="end the sessions of the source; in place nobody's is ended"
    )
    swap.add_argument("--give-up-slots", action="store_true", help="slots and subscriptions stay with the old one")
    swap.add_argument(
        "--give-up-writes",
        action="store_true",
        help="in place: lose what is written once the safety backup has begun, which no copy has",
    )
    swap.add_argument(
        "--yes-i-have-approval", metavar="DATABASE", help="do not ask; the database's name, typed in full"
    )
    command.add_argument("--create", action="store_true", help="make that database; else it must be there, empty")
    add_server(command)
    command.add_argument("--with-roles", action="store_true", help="make the roles that the target lacks")
    command.add_argument("--reason", default="", help="for the evidence")
    command.add_argument("--jobs", type=positive, metavar="N", help="sessions that load; default: the processors")
    command.add_argument("--work-dir", type=Path, metavar="FOLDER", help="where the archive is fetched to")
    command.add_argument("--no-compare", action="store_true", help="do not compare the rows afterwards")
    command.add_argument("--unproven", action="store_true", help="also a backup that nobody has proven")
    command.add_argument(
        "--no-quarantine",
        action="store_true",
        help="let the copy's cron jobs, webhooks, requests and subscriptions act at once",
    )
    command.add_argument("--dry-run", action="store_true", help="only print what would be done")
    command.add_argument("--yes", action="store_true", help="do not ask")


def add_restore_table(commands: Commands) -> None:
    text = "restore tables beside what is there, or merge them into it"
    command = add_command(commands, "restore-table", text, restore_table_arguments.EPILOG)
    add_backup(command)
    restore_table_arguments.add_to(command)
    command.add_argument(
        "--lock-timeout", type=seconds, default=30, metavar="SECONDS", help="wait so long for the tables; default: 30"
    )
    command.add_argument("--jobs", type=positive, metavar="N", help="sessions that load; default: the processors")
    add_server(command)


def add_restore_attachments(commands: Commands) -> None:
    text = "put archived files back into a folder or a bucket"
    command = add_command(commands, "restore-attachments", text, restore_attachments_arguments.EPILOG)
    add_backup(command)
    restore_attachments_arguments.add_to(command)


def add_restore_project(commands: Commands) -> None:
    command = add_command(
        commands, "restore-project", "restore a full backup into a hosted Supabase project", RESTORE_PROJECT_EPILOG
    )
    add_backup(command)
    add_server(command)
    command.add_argument("--jobs", type=positive, metavar="N", help="sessions that load; default: the processors")
    command.add_argument("--work-dir", type=Path, metavar="FOLDER", help="where the archive is fetched to")
    command.add_argument("--unproven", action="store_true", help="also a backup that nobody has proven")
    command.add_argument("--reason", default="", help="for the evidence")
    command.add_argument("--dry-run", action="store_true", help="only print what would be done, and what is left out")
    command.add_argument("--yes", action="store_true", help="do not ask")


def add_thaw(commands: Commands) -> None:
    command = add_command(commands, "thaw", "make an archive in Glacier readable, and say when it will be", THAW_EPILOG)
    add_backup(command)
    command.add_argument(
        "--thaw-tier", choices=("Expedited", "Standard", "Bulk"), help="speed and price; default: the policy's"
    )
    command.add_argument("--wait", action="store_true", help="look from time to time until it can be read")
    command.add_argument("--dry-run", action="store_true", help="only say whether it can be read now")


def add_quarantine(commands: Commands) -> None:
    command = commands.add_parser(
        "quarantine",
        help="show what is switched off in a restored copy, or put it back",
        description="Show what is switched off in a restored copy, or put it back.",
        epilog=QUARANTINE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    command.add_argument("action", choices=("show", "release"), help="only look, or put back exactly what was there")
    command.add_argument("source", metavar="SOURCE", help="a source of the policy, e.g. pulse_messages")
    command.add_argument("--database", required=True, metavar="NAME", help="the restored copy")
    add_server(command)
    command.add_argument("--reason", default="", help="for the evidence")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(tier=None)
