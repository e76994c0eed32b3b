"""The arguments of the commands that look after what is stored. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

from pathlib import Path

from include.backup.cli.parsing import Commands, Parser, add_backup, add_command, minutes


def add_copies(commands: Commands) -> None:
    command = add_command(commands, "copies", "count the copies (3-2-1), each with its newest time and its proof")
    command.set_defaults(tier=None)


def add_evidence(commands: Commands) -> None:
    text = "check or export the record of everything that happened to a source's backups"
    command = commands.add_parser(
        "evidence", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    verify = add_command(actions, "verify", "check that no record was removed, changed, reordered or cut off")
    verify.add_argument(
        "--anchor", action="append", metavar="HEAD", help="a head (NUMBER:SHA256) that you noted down earlier"
    )
    export = add_command(actions, "export", "write all records into one signed file for an auditor")
    export.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the file to write, e.g. evidence.tar"
    )
    export.add_argument("--key", type=Path, metavar="FILE", help="instead of the policy's evidence.signing_connection")
    export.add_argument("--even-damaged", action="store_true", help="also when the ledger is not intact")
    check = add_command(actions, "check", "check an exported file; needs no store", source=False)
    check.add_argument("file", type=Path, metavar="FILE", help="what `evidence export` wrote")
    check.add_argument("--public-key", type=Path, required=True, metavar="FILE", help="the key that you were given")
    keygen = add_command(actions, "keygen", "make a key that signs exported evidence", source=False)
    keygen.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the private key; FILE.pub is the public one"
    )


def add_hold(commands: Commands) -> None:
    text = "keep a backup beyond its time, or let it go again"
    command = commands.add_parser("hold", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    add = add_command(actions, "add", "keep a backup, whatever the policy says")
    add_backup(add)
    add.add_argument("--reason", required=True, help="for whom and why; goes into the evidence")
    add.add_argument("--until", metavar="TIME", help="e.g. 2027-01-31T00:00:00Z; default: until it is released")
    listing = add_command(actions, "list", "list what is held, by whom, why and until when")
    listing.add_argument("--all", action="store_true", help="also the holds that ended")
    release = add_command(actions, "release", "end a hold")
    release.add_argument("hold_id", metavar="HOLD_ID", help="as `hold list` shows it")
    release.add_argument("--reason", required=True, help="why the backup may go now; goes into the evidence")


def add_cleanup(commands: Commands) -> None:
    command = add_command(commands, "cleanup", "show which backups have expired and why the others are kept")
    command.add_argument("--delete", action="store_true", help="delete what has expired; without it nothing is changed")
    command.add_argument("--all", action="store_true", help="also each backup that is kept, with the reason")


def add_health(commands: Commands) -> None:
    add_command(commands, "health", "say what is wrong with a source's protection; exit code 1 when anything is")


def add_alerts(commands: Commands) -> None:
    text = "list open alerts, or say that you know of one"
    command = commands.add_parser("alerts", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    add_command(actions, "list", "list what is open, since when, and who knows of it")
    acknowledge = add_command(actions, "acknowledge", "stop an alert from being sent again until it gets worse")
    acknowledge.add_argument("alert", metavar="ALERT", help="as Slack and `alerts list` show it, e.g. late:daily")
    acknowledge.add_argument("--note", required=True, help="what you do about it; goes into the evidence")
    acknowledge.add_argument("--until", metavar="TIME", help="when it is sent again if it still holds; with its zone")


def add_watch(commands: Commands) -> None:
    command = add_command(
        commands, "watch", "say whether Airflow still looks after a source; for another machine's cron"
    )
    command.add_argument(
        "--most-minutes", type=minutes, default=150, metavar="N", help="how old the heartbeat may be; default: 150"
    )
    command.add_argument("--slack", action="store_true", help="also tell the source's Slack channel")


def add_audit(commands: Commands) -> None:
    command = add_command(
        commands, "audit", "report on a month: what was kept, proven, restored, by whom, at what cost"
    )
    command.add_argument("--month", metavar="YYYY-MM", help="default: the last one that is over")
    command.add_argument("--output", type=Path, metavar="FILE", help="write the page (.html) or its data (.json)")
    command.add_argument("--keep", action="store_true", help="store both, and record their hashes as evidence")
    command.add_argument(
        "--restore-test", action="store_true", help="restore and compare the newest backup first, in a scratch server"
    )
