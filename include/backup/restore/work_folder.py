"""The folder into which an archive is fetched for a restore; it goes when the restore ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from include.backup.errors import StagingError, StagingFullError
from include.backup.staging import full_disk_named

# Nobody else's folders are called so: whatever is and is not held goes with the next restore.
PREFIX = "pulse-restore-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def work_folder(root: Path, *, needed_bytes: int) -> Iterator[Path]:
    """Give a new folder that only this user can read; remove it, and what killed restores have left.

    Raises StagingFullError when the disk has less than ``needed_bytes`` free, or becomes full in the block.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(root)
        folder, handle = _held_folder(root)
    except OSError as error:
        raise StagingError(f"no work folder can be made in {root}: {error.strerror}; give another one") from error
    try:
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


def _held_folder(root: Path) -> tuple[Path, int]:
    """Make a folder and hold it; another one where a restore that began just then has taken it for a leftover."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        with suppress(FileNotFoundError):
            handle = os.open(folder, _FOLDER)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                folder.stat()
            except BaseException:
                os.close(handle)
                raise
            return folder, handle


def _sweep(root: Path) -> None:
    """Remove folders that nobody holds: the kernel lets go of a lock when its process ends."""
    for leftover in root.glob(f"{PREFIX}*"):
        try:
            handle = os.open(leftover, _FOLDER)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # gone meanwhile, or another user's
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(handle)
