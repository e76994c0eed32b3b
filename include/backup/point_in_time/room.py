"""The room that a copy of a cluster takes on its disk, and what is said when there was not enough of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from include.backup.errors import BackupError, TargetFullError
from include.backup.point_in_time.choose import Choice
from include.backup.point_in_time.feed import AHEAD
from include.backup.restore.target import NO_SPACE
from include.backup.wal.segments import Segment

MARGIN = 1.05


def needed_bytes(choice: Choice) -> int:
    """Return what a recovery takes at least; what the log itself adds to the tables is not known before.

    A chain of incremental backups lies there twice while it is combined.
    """
    bases = choice.bases
    total = sum(base.base.bytes for base in bases) + (bases[0].base.bytes if len(bases) > 1 else 0)
    return int(total * MARGIN) + _wal_bytes(choice)


def free_bytes(folder: Path) -> int:
    """Return the room on a folder's disk for a user who is not root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextmanager
def full_disk_named(folder: Path, *, needed: int) -> Iterator[None]:
    """Say of a failure for want of room which disk it was: tar, the server and this process have each their words.

    Raises TargetFullError when the folder, gone by then, was on a full disk; any other error as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _full(folder, needed, NO_SPACE) from error
    except (BackupError, psycopg.Error) as error:
        said = [line for line in str(error).splitlines() if NO_SPACE in line]
        if not said:
            raise
        raise _full(folder, needed, said[-1].strip()) from error


def _full(folder: Path, needed: int, said: str) -> TargetFullError:
    there = next(parent for parent in folder.parents if parent.exists())
    return TargetFullError(
        f"nothing is recovered: the disk of {there} is full ({said}), and what was made there is removed again; "
        f"free space, at least {needed} bytes and more for what the log adds, or give a folder on a larger disk, "
        "then try again"
    )


def _wal_bytes(choice: Choice) -> int:
    """Return the room of what is brought ahead of recovery, of what it reads, and of a new segment."""
    missing, point = choice.reach.missing, choice.base.point()
    first = Segment.at(point.start, timeline=point.timeline, size=missing.size)
    return (min(missing.number - first.number, AHEAD) + 2) * missing.size
