"""The arguments of restore-table. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
examples:
  python -m include.backup restore-table pulse_messages latest-proven --table public.messages --mode beside
  python -m include.backup restore-table pulse_messages latest-proven --table public.messages --table public.users \\
      --mode replace --dry-run --csv changes.csv
  python -m include.backup restore-table pulse_messages latest-proven --table public.messages --mode missing --yes

modes:
  beside    the tables, with types, sequences, indexes and constraints, in a new schema restored_<time>_<run>
  replace   the rows are made what they were, by key, in one transaction; views, grants, triggers and foreign keys stay
  missing   rows that are gone are added; nothing else is changed

Each shows first what would change; --dry-run shows only that. Only the named tables' part of the archive is read. Rows
that hang on deleted ones by ON DELETE CASCADE or SET NULL are counted, and left alone without --touch-children.
Triggers do not fire, theirs neither. A copy of the tables, and of those with rows that hang on deleted ones, is stored
before they are changed; to go back, restore it with --mode replace and --unproven, and name all its tables. Without
--connection or --host the target is the source itself, by the policy's restore.source_connection.
"""


def add_to(command: argparse.ArgumentParser) -> None:
    """Add what only this command has."""
    command.add_argument(
        "--table", required=True, action="append", metavar="NAME", dest="tables", help="schema.table; may be repeated"
    )
    command.add_argument("--mode", required=True, choices=("beside", "replace", "missing"), help="see below")
    command.add_argument("--to-database", metavar="NAME", help="the database; default: the source's own")
    command.add_argument("--schema", metavar="NAME", help="of the mode beside; default: restored_<time>_<run>")
    command.add_argument("--touch-children", action="store_true", help="let ON DELETE CASCADE and SET NULL happen")
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the rows that differ into a file")
    command.add_argument("--no-safety-copy", action="store_true", help="do not store the tables as they are first")
    command.add_argument("--work-dir", type=Path, metavar="FOLDER", help="where definitions are put for a moment")
    command.add_argument("--unproven", action="store_true", help="also a backup that nobody has proven")
    command.add_argument("--reason", default="", help="for the evidence")
    command.add_argument("--dry-run", action="store_true", help="only print what would be done")
    command.add_argument("--yes", action="store_true", help="do not ask")
