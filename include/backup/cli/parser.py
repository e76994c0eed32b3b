"""The arguments of the command line. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse

from include.backup.cli import physical_arguments, restore_arguments, upkeep_arguments
from include.backup.cli.parsing import Commands, Parser, add_backup, add_command, common_options, seconds

DESCRIPTION = "Take, list, verify and restore backups without Airflow."
EPILOG = """\
examples:
  python -m include.backup run pulse_messages --tier daily
  python -m include.backup list pulse_messages
  python -m include.backup show pulse_messages latest-proven
  python -m include.backup verify pulse_messages latest --restore-test
  python -m include.backup restore pulse_messages latest-proven --to-database pulse_restored --create --dry-run
  python -m include.backup wal pulse_messages
  python -m include.backup restore-table pulse_messages latest-proven --table public.messages --mode replace --dry-run

connections:
  The policy names a connection for each source and its store. Each is taken from the environment variable
  AIRFLOW_CONN_<ID> (a URI or JSON, as Airflow has it), or else from the settings file, whose ${NAME} are taken
  from the environment. Passwords are never arguments.

environment:
  BACKUP_POLICY, BACKUP_STAGING_DIR (dumps and fetched archives), BACKUP_SCRATCH_DIR (servers of restore tests)

exit codes:
  0    done
  1    failed
  2    an argument, the policy, the settings or a connection is not acceptable, or there is no such backup
  3    a server or the store does not answer, or refuses the login
  4    the backup is damaged or incomplete, or differs from what was dumped
  5    refused for safety: the target is not empty, is the source, or cannot take the backup; nothing was changed
  130  interrupted (143: terminated, 129: hung up); children were ended, and a database that was being made is removed
"""
RUN_EPILOG = """\
examples:
  python -m include.backup run pulse_messages --tier daily
  python -m include.backup run pulse_messages --tier pre_deployment --release 2025.3.1 --git-sha 4f2c91e
  python -m include.backup run pulse_messages --resume pulse_messages_daily_full_20250119T020000Z_3fa9c1

What a failed run has dumped stays in staging; --resume goes on with it, without a second dump.
"""
SCHEMA_EPILOG = """\
examples:
  python -m include.backup schema pulse_messages --dry-run
  python -m include.backup schema pulse_messages

Secrets are replaced by *** before anything is written. The remote is never forced: a commit that it does not take
is kept below BACKUP_STAGING_DIR, and goes with the next push.
"""


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="python -m include.backup",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    _run(commands)
    _list(commands)
    _show(commands)
    _verify(commands)
    restore_arguments.add_restore(commands)
    restore_arguments.add_restore_table(commands)
    restore_arguments.add_restore_attachments(commands)
    restore_arguments.add_restore_project(commands)
    restore_arguments.add_thaw(commands)
    restore_arguments.add_quarantine(commands)
    upkeep_arguments.add_copies(commands)
    _schema(commands)
    upkeep_arguments.add_evidence(commands)
    upkeep_arguments.add_hold(commands)
    upkeep_arguments.add_cleanup(commands)
    physical_arguments.add_wal(commands)
    physical_arguments.add_base(commands)
    physical_arguments.add_recover(commands)
    upkeep_arguments.add_health(commands)
    upkeep_arguments.add_alerts(commands)
    upkeep_arguments.add_watch(commands)
    upkeep_arguments.add_audit(commands)
    return parser


def _run(commands: Commands) -> None:
    command = add_command(commands, "run", "take a backup, store it, verify it and prove it", RUN_EPILOG)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--tier", help="a tier of the source, e.g. daily")
    what.add_argument("--resume", metavar="BACKUP_ID", help="go on with a run of the command line that failed")
    command.add_argument("--release", help="the release that the backup guards; with --git-sha")
    command.add_argument("--git-sha", help="the commit of that release")
    command.add_argument("--no-proof", action="store_true", help="leave the restore test out")
    command.add_argument(
        "--wait", type=seconds, metavar="SECONDS", help="for another backup of the source; default: the policy's"
    )


def _list(commands: Commands) -> None:
    command = add_command(commands, "list", "list the backups that the store holds, base backups included")
    command.add_argument("--tier", help="only this tier; base backups are of the tier incremental")


def _show(commands: Commands) -> None:
    command = add_command(commands, "show", "show what a backup holds, where it is and who proved it")
    add_backup(command)


def _verify(commands: Commands) -> None:
    command = add_command(commands, "verify", "compare what the store says of a backup with its manifest")
    add_backup(command)
    command.add_argument(
        "--restore-test", action="store_true", help="also restore it into a scratch server, compare, write a proof"
    )


def _schema(commands: Commands) -> None:
    command = add_command(commands, "schema", "commit the schema to its git remote if it has changed", SCHEMA_EPILOG)
    command.add_argument("--dry-run", action="store_true", help="only show the changes and their diff")
