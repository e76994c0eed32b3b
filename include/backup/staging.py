"""The staging folder of one backup: what a step leaves there, the next one and a retry find."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.backup.errors import StagingBusyError, StagingError, StagingFullError, StagingMissingError

ENOSPC = 28
# With less a disk counts as full: tools do not always say so.
FULL_DISK_BYTES = 1 << 18


class Staging:
    """``<root>/<backup_id>/``: a lock, JSON files of the steps, and the dump.

    Work in progress lies in ``try-<n>``; it gets its final name by a rename, so that whatever has a final
    name is whole.
    """

    def __init__(self, root: Path, backup_id: str) -> None:
        self.root = root
        self.path = root / backup_id

    @property
    def dump(self) -> Path:
        """The published dump."""
        return self.path / "dump"

    def exists(self) -> bool:
        return self.path.is_dir()

    def make(self) -> None:
        """Make the folder, readable by its owner alone."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StagingError(f"cannot make the staging folder {self.path}: {error.strerror}") from error

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against any other process; the kernel lets go when this process dies.

        Raises StagingMissingError when there is no folder, StagingBusyError when somebody holds it.
        """
        try:
            handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except FileNotFoundError as error:
            raise StagingMissingError(
                f"the staging folder {self.path} is not there; clear the run from `preflight`, or start a new one"
            ) from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StagingBusyError(f"another process works in {self.path}; wait for it to end and retry") from error
            try:
                yield
            finally:
                # Said, not left to the closing: a child that another thread forks meanwhile has the file open too.
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file whole or not at all."""
        temporary = self.path / f".{name}.tmp"
        with full_disk_named(self.path):
            temporary.write_bytes(content)
            _flush(temporary)
            temporary.replace(self.path / name)

    def read(self, name: str) -> bytes | None:
        """Return a small file, or None when no step has written it yet."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def need(self, name: str, step: str) -> bytes:
        """Return a small file that an earlier step must have written; raises StagingMissingError."""
        content = self.read(name)
        if content is None:
            raise StagingMissingError(
                f"{self.path / name} is not there: `{step}` has not run, or staging was removed; "
                f"clear the run from `{step}`, or start a new one"
            )
        return content

    def new_try(self) -> Path:
        """Remove what killed tries left and return a new, empty folder for work in progress."""
        for leftover in self.path.glob("try-*"):
            shutil.rmtree(leftover)
        folder = self.path / "try-1"
        folder.mkdir(mode=0o700)
        return folder

    def remove(self) -> bool:
        """Remove the folder; return False when it was gone already."""
        if not self.exists():
            return False
        shutil.rmtree(self.path)
        return True


def make_durable(folder: Path) -> None:
    """Have everything below a folder written to its disk: the name that it gets next must not outlive its content.

    After a crash of the machine a file may be there and empty, and an empty large object looks like any other.
    """
    for parent, _, files in os.walk(folder):
        for name in files:
            _flush(Path(parent, name))
        _flush(Path(parent))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a full disk into StagingFullError."""
    try:
        yield
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise StagingFullError(
            f"the disk of {path} is full; free space or set BACKUP_STAGING_DIR to a larger disk, then retry"
        ) from error
