"""What the arguments of all commands are made with. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, TypeAlias

from include.backup.errors import ParameterError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ParameterError, so that they are told in the same way as all others."""

    def error(self, message: str) -> NoReturn:
        raise ParameterError(f"{message} (see `{self.prog} --help`)")


# What ``add_subparsers`` gives; argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def common_options() -> Parser:
    """Return the options that may stand before or after the command; hence no defaults."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every command")
    group.add_argument("--policy", type=Path, metavar="FILE", help="instead of the shipped policy or BACKUP_POLICY")
    group.add_argument("--settings", type=Path, metavar="FILE", help="instead of airflow_settings.yaml")
    group.add_argument("--json", action="store_true", help="print one JSON document; messages go to standard error")
    group.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    group.add_argument("--verbose", action="store_true", help="also the commands that run, and tracebacks")
    return common


def add_command(commands: Commands, name: str, text: str, epilog: str = "", *, source: bool = True) -> Parser:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    command.set_defaults(tier=None)
    if source:
        command.add_argument("source", metavar="SOURCE", help="a source of the policy, e.g. pulse_messages")
    return command


def add_backup(command: Parser) -> None:
    command.add_argument("backup", metavar="BACKUP_ID", help="a backup's id, latest, or latest-proven")
    command.add_argument("--tier", help="the tier in which latest is looked for")


def add_server(command: Parser) -> None:
    server = command.add_argument_group("the target's server (default: the source's)")
    server.add_argument("--connection", metavar="CONN_ID", help="a connection, as for the policy's sources")
    server.add_argument("--host", help="a host, or the folder of a unix socket; the password is PGPASSWORD")
    server.add_argument("--port", type=port, help="default: 5432")
    server.add_argument("--user", help="default: postgres")
    server.add_argument("--maintenance-database", metavar="NAME", help="to connect to first; default: postgres")
    server.add_argument("--sslmode", help="default: verify-full")
    server.add_argument("--sslrootcert", metavar="FILE", help="the certificate authority of the server")


def positive(text: str) -> int:
    return _number(text, least=1, most=64)


def port(text: str) -> int:
    return _number(text, least=1, most=65535)


def minutes(text: str) -> int:
    return _number(text, least=1, most=7 * 1440)


def seconds(text: str) -> int:
    return _number(text, least=0, most=7 * 86400)


def _number(text: str, *, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
    return int(text)
