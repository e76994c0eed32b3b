"""The folder into which an archive is fetched for a restore; it goes when the restore ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.backup.errors import StagingError, StagingFullError
from include.backup.staging import full_disk_named

PREFIX = "restore-"


@contextmanager
def work_folder(root: Path, *, needed_bytes: int) -> Iterator[Path]:
    """Give a new folder that only this user can read; remove it, and what killed restores have left.

    Raises StagingFullError when the disk has less than ``needed_bytes`` free, or becomes full in the block.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(root)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    except OSError as error:
        raise StagingError(f"no work folder can be made in {root}: {error.strerror}; give another one") from error
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        free = shutil.disk_usage(folder).free
        if free < needed_bytes:
            raise StagingFullError(
                f"{root} has {free} bytes free and the restore needs {needed_bytes}; free space, or give another folder"
            )
        with full_disk_named(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _sweep(root: Path) -> None:
    """Remove folders that nobody holds: the kernel lets go of a lock when its process ends."""
    for leftover in root.glob(f"{PREFIX}*"):
        handle = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(handle)
