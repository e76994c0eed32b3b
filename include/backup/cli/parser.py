"""The arguments of the command line. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from include.backup.cli import physical_arguments, restore_attachments_arguments, restore_table_arguments
from include.backup.errors import ParameterError

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
  130  interrupted (143: terminated); children were ended, and a database that was being made is removed
"""
RUN_EPILOG = """\
examples:
  python -m include.backup run pulse_messages --tier daily
  python -m include.backup run pulse_messages --tier pre_deployment --release 2025.3.1 --git-sha 4f2c91e
  python -m include.backup run pulse_messages --resume pulse_messages_daily_full_20250119T020000Z_3fa9c1

What a failed run has dumped stays in staging; --resume goes on with it, without a second dump.
"""
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
restore the safety backup that it names.
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
QUARANTINE_EPILOG = """\
examples:
  python -m include.backup quarantine show pulse_messages --database pulse_restored
  python -m include.backup quarantine release pulse_messages --database pulse_restored --yes

A restored copy brings its source's cron jobs, webhooks, queued requests and subscriptions with it. `restore` switches
them off, so that the copy does not act on the world a second time; the copy itself records what was off.
"""


WAL_EPILOG = """\
examples:
  python -m include.backup wal pulse_messages
  python -m include.backup wal pulse_messages --run
  python -m include.backup wal old_source --drop-slots --connection old_source_db --dry-run

The report reads the store, and the source as far as it answers. A run ends with exit code 4 when it found the chain
of WAL broken: it has begun a new one by then, and a base backup has to be taken.
"""
SCHEMA_EPILOG = """\
examples:
  python -m include.backup schema pulse_messages --dry-run
  python -m include.backup schema pulse_messages

Secrets are replaced by *** before anything is written. The remote is never forced: a commit that it does not take
is kept below BACKUP_STAGING_DIR, and goes with the next push.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ParameterError, so that they are told in the same way as all others."""

    def error(self, message: str) -> NoReturn:
        raise ParameterError(f"{message} (see `{self.prog} --help`)")


def make_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="python -m include.backup",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    _run(commands)
    _list(commands)
    _show(commands)
    _verify(commands)
    _restore(commands)
    _restore_table(commands)
    _restore_attachments(commands)
    _restore_project(commands)
    _quarantine(commands)
    _copies(commands)
    _schema(commands)
    _evidence(commands)
    _hold(commands)
    _cleanup(commands)
    _wal(commands)
    physical_arguments.add_base(_command(commands, "base", physical_arguments.BASE, physical_arguments.BASE_EPILOG))
    recover = _command(commands, "recover", physical_arguments.RECOVER, physical_arguments.RECOVER_EPILOG)
    physical_arguments.add_recover(recover, port=_port)
    _health(commands)
    _alerts(commands)
    _watch(commands)
    _audit(commands)
    return parser


def _common() -> Parser:
    """Return the options that may stand before or after the command; hence no defaults."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every command")
    group.add_argument("--policy", type=Path, metavar="FILE", help="instead of the shipped policy or BACKUP_POLICY")
    group.add_argument("--settings", type=Path, metavar="FILE", help="instead of airflow_settings.yaml")
    group.add_argument("--json", action="store_true", help="print one JSON document; messages go to standard error")
    group.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    group.add_argument("--verbose", action="store_true", help="also the commands that run, and tracebacks")
    return common


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, text: str, epilog: str = "", *, source: bool = True
) -> Parser:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
        allow_abbrev=False,
    )
    command.set_defaults(tier=None)
    if source:
        command.add_argument("source", metavar="SOURCE", help="a source of the policy, e.g. pulse_messages")
    return command


def _backup(command: Parser) -> None:
    command.add_argument("backup", metavar="BACKUP_ID", help="a backup's id, latest, or latest-proven")
    command.add_argument("--tier", help="the tier in which latest is looked for")


def _run(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "run", "take a backup, store it, verify it and prove it", RUN_EPILOG)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--tier", help="a tier of the source, e.g. daily")
    what.add_argument("--resume", metavar="BACKUP_ID", help="go on with a run of the command line that failed")
    command.add_argument("--release", help="the release that the backup guards; with --git-sha")
    command.add_argument("--git-sha", help="the commit of that release")
    command.add_argument("--no-proof", action="store_true", help="leave the restore test out")
    command.add_argument(
        "--wait", type=_seconds, metavar="SECONDS", help="for another backup of the source; default: the policy's"
    )


def _list(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "list", "list the backups that the store holds, base backups included")
    command.add_argument("--tier", help="only this tier; base backups are of the tier incremental")


def _show(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "show", "show what a backup holds, where it is and who proved it")
    _backup(command)


def _verify(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "verify", "compare what the store says of a backup with its manifest")
    _backup(command)
    command.add_argument(
        "--restore-test", action="store_true", help="also restore it into a scratch server, compare, write a proof"
    )


def _restore(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "restore", "restore a full backup into a new database", RESTORE_EPILOG)
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
    swap.add_argument("--reason", default="", help="for the evidence")
    swap.add_argument("--end-sessions", action="store_true", help="end the sessions of the source")
    swap.add_argument("--give-up-slots", action="store_true", help="slots and subscriptions stay with the old one")
    swap.add_argument(
        "--yes-i-have-approval", metavar="DATABASE", help="do not ask; the database's name, typed in full"
    )
    command.add_argument("--create", action="store_true", help="make that database; else it must be there, empty")
    _server(command)
    command.add_argument("--with-roles", action="store_true", help="make the roles that the target lacks")
    command.add_argument("--jobs", type=_positive, metavar="N", help="sessions that load; default: the processors")
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


def _evidence(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "check or export the record of everything that happened to a source's backups"
    command = commands.add_parser(
        "evidence", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    verify = _command(actions, "verify", "check that no record was removed, changed, reordered or cut off")
    verify.add_argument(
        "--anchor", action="append", metavar="HEAD", help="a head (NUMBER:SHA256) that you noted down earlier"
    )
    export = _command(actions, "export", "write all records into one signed file for an auditor")
    export.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the file to write, e.g. evidence.tar"
    )
    export.add_argument("--key", type=Path, metavar="FILE", help="instead of the policy's evidence.signing_connection")
    export.add_argument("--even-damaged", action="store_true", help="also when the ledger is not intact")
    check = _command(actions, "check", "check an exported file; needs no store", source=False)
    check.add_argument("file", type=Path, metavar="FILE", help="what `evidence export` wrote")
    check.add_argument("--public-key", type=Path, required=True, metavar="FILE", help="the key that you were given")
    keygen = _command(actions, "keygen", "make a key that signs exported evidence", source=False)
    keygen.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the private key; FILE.pub is the public one"
    )


def _hold(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "keep a backup beyond its time, or let it go again"
    command = commands.add_parser("hold", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    add = _command(actions, "add", "keep a backup, whatever the policy says")
    _backup(add)
    add.add_argument("--reason", required=True, help="for whom and why; goes into the evidence")
    add.add_argument("--until", metavar="TIME", help="e.g. 2027-01-31T00:00:00Z; default: until it is released")
    listing = _command(actions, "list", "list what is held, by whom, why and until when")
    listing.add_argument("--all", action="store_true", help="also the holds that ended")
    release = _command(actions, "release", "end a hold")
    release.add_argument("hold_id", metavar="HOLD_ID", help="as `hold list` shows it")
    release.add_argument("--reason", required=True, help="why the backup may go now; goes into the evidence")


def _health(commands: argparse._SubParsersAction[Parser]) -> None:
    _command(commands, "health", "say what is wrong with a source's protection; exit code 1 when anything is")


def _alerts(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "list open alerts, or say that you know of one"
    command = commands.add_parser("alerts", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    _command(actions, "list", "list what is open, since when, and who knows of it")
    acknowledge = _command(actions, "acknowledge", "stop an alert from being sent again until it gets worse")
    acknowledge.add_argument("alert", metavar="ALERT", help="as Slack and `alerts list` show it, e.g. late:daily")
    acknowledge.add_argument("--note", required=True, help="what you do about it; goes into the evidence")
    acknowledge.add_argument("--until", metavar="TIME", help="when it is sent again if it still holds; with its zone")


def _watch(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "watch", "say whether Airflow still looks after a source; for another machine's cron")
    command.add_argument(
        "--most-minutes", type=_minutes, default=150, metavar="N", help="how old the heartbeat may be; default: 150"
    )
    command.add_argument("--slack", action="store_true", help="also tell the source's Slack channel")


def _audit(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "audit", "report on a month: what was kept, proven, restored, by whom, at what cost")
    command.add_argument("--month", metavar="YYYY-MM", help="default: the last one that is over")
    command.add_argument("--output", type=Path, metavar="FILE", help="write the page (.html) or its data (.json)")
    command.add_argument("--keep", action="store_true", help="store both, and record their hashes as evidence")
    command.add_argument(
        "--restore-test", action="store_true", help="restore and compare the newest backup first, in a scratch server"
    )


def _cleanup(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "cleanup", "show which backups have expired and why the others are kept")
    command.add_argument("--delete", action="store_true", help="delete what has expired; without it nothing is changed")
    command.add_argument("--all", action="store_true", help="also each backup that is kept, with the reason")


def _copies(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "copies", "count the copies (3-2-1), each with its newest time and its proof")
    command.set_defaults(tier=None)


def _server(command: Parser) -> None:
    server = command.add_argument_group("the target's server (default: the source's)")
    server.add_argument("--connection", metavar="CONN_ID", help="a connection, as for the policy's sources")
    server.add_argument("--host", help="a host, or the folder of a unix socket; the password is PGPASSWORD")
    server.add_argument("--port", type=_port, help="default: 5432")
    server.add_argument("--user", help="default: postgres")
    server.add_argument("--maintenance-database", metavar="NAME", help="to connect to first; default: postgres")
    server.add_argument("--sslmode", help="default: verify-full")
    server.add_argument("--sslrootcert", metavar="FILE", help="the certificate authority of the server")


def _restore_project(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(
        commands, "restore-project", "restore a full backup into a hosted Supabase project", RESTORE_PROJECT_EPILOG
    )
    _backup(command)
    _server(command)
    command.add_argument("--jobs", type=_positive, metavar="N", help="sessions that load; default: the processors")
    command.add_argument("--work-dir", type=Path, metavar="FOLDER", help="where the archive is fetched to")
    command.add_argument("--unproven", action="store_true", help="also a backup that nobody has proven")
    command.add_argument("--dry-run", action="store_true", help="only print what would be done, and what is left out")
    command.add_argument("--yes", action="store_true", help="do not ask")


def _quarantine(commands: argparse._SubParsersAction[Parser]) -> None:
    command = commands.add_parser(
        "quarantine",
        help="show what is switched off in a restored copy, or put it back",
        description="Show what is switched off in a restored copy, or put it back.",
        epilog=QUARANTINE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
        allow_abbrev=False,
    )
    command.add_argument("action", choices=("show", "release"), help="only look, or put back exactly what was there")
    command.add_argument("source", metavar="SOURCE", help="a source of the policy, e.g. pulse_messages")
    command.add_argument("--database", required=True, metavar="NAME", help="the restored copy")
    _server(command)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(tier=None)


def _wal(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(
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


def _restore_table(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "restore tables beside what is there, or merge them into it"
    command = _command(commands, "restore-table", text, restore_table_arguments.EPILOG)
    _backup(command)
    restore_table_arguments.add_to(command)
    command.add_argument(
        "--lock-timeout", type=_seconds, default=30, metavar="SECONDS", help="wait so long for the tables; default: 30"
    )
    command.add_argument("--jobs", type=_positive, metavar="N", help="sessions that load; default: the processors")
    _server(command)


def _restore_attachments(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "put archived files back into a folder or a bucket"
    command = _command(commands, "restore-attachments", text, restore_attachments_arguments.EPILOG)
    _backup(command)
    restore_attachments_arguments.add_to(command)


def _schema(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _command(commands, "schema", "commit the schema to its git remote if it has changed", SCHEMA_EPILOG)
    command.add_argument("--dry-run", action="store_true", help="only show the changes and their diff")


def _positive(text: str) -> int:
    return _number(text, least=1, most=64)


def _port(text: str) -> int:
    return _number(text, least=1, most=65535)


def _minutes(text: str) -> int:
    return _number(text, least=1, most=7 * 1440)


def _seconds(text: str) -> int:
    return _number(text, least=0, most=7 * 86400)


def _number(text: str, *, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return int(text)
