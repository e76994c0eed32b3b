"""The arguments of restore-attachments. Imports nothing heavy, so that --help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
examples:
  python -m include.backup restore-attachments pulse_messages latest --to-folder /restore --dry-run
  python -m include.backup restore-attachments pulse_messages BACKUP_ID --to-bucket attachments --yes
  python -m include.backup restore-attachments pulse_messages BACKUP_ID --prefix users/7/ --to-folder /restore

BACKUP_ID is that of an archive of the kind attachments, or of the full backup of the same run; latest and
latest-proven are those of attachments. A bucket is reached by the policy's attachments.connection, or by --connection:
its key must be allowed to write. Without --overwrite, files that are there with other content are left alone: the
others are put back, and the command ends with 4. Nothing is deleted. What is put back, and what was there with the
same bytes, is compared by hash at the end. In a folder, keys that are no harmless paths become hashed/<sha256>.
Archives in GLACIER or DEEP_ARCHIVE have to be thawed first.
"""


def add_to(command: argparse.ArgumentParser) -> None:
    """Add what only this command has."""
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--to-folder", type=Path, metavar="FOLDER", help="put the files below this folder")
    target.add_argument("--to-bucket", metavar="NAME", help="put the files into this bucket, under their keys")
    command.add_argument("--connection", metavar="CONN_ID", help="of the bucket; default: the policy's")
    command.add_argument("--bucket", metavar="NAME", help="only files that were in this bucket")
    command.add_argument("--prefix", default="", metavar="PREFIX", help="only files whose keys begin with this")
    command.add_argument("--overwrite", action="store_true", help="replace files that are there with other content")
    command.add_argument("--unproven", action="store_true", help="also an archive that nobody has proven")
    command.add_argument("--reason", default="", help="for the evidence")
    command.add_argument("--dry-run", action="store_true", help="only print what would be done")
    command.add_argument("--yes", action="store_true", help="do not ask")
