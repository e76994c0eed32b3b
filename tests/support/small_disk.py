"""A disk of a few MiB, to be filled."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.backup.point_in_time.room import free_bytes
from include.backup.postgres.account import give, source_user

FILLER = "filler"


@contextmanager
def mounted_disk(folder: Path, *, kib: int) -> Iterator[Path]:
    """Mount a small disk on a folder that is made; skips where this user may not."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk: run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_tablespace(do: Callable[[str], object], *, kib: int = 32 << 10) -> Iterator[Path]:
    """Make the tablespace ``small`` on a small disk; ``do`` runs a statement as the embedded server's superuser.

    Whatever is in it has to be gone, or moved, when the block ends.
    """
    with tempfile.TemporaryDirectory(prefix="pulse-test-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        with mounted_disk(Path(name) / "disk", kib=kib) as disk:
            give(disk, source_user())
            do(f"CREATE TABLESPACE small LOCATION '{disk}'")
            try:
                yield disk
            finally:
                do("DROP TABLESPACE small")


def fill(disk: Path, *, leave: int = 0) -> None:
    """Take the room of a disk but for some bytes."""
    (disk / FILLER).write_bytes(bytes(free_bytes(disk) - leave))


def empty(disk: Path) -> None:
    """Give back what ``fill`` has taken."""
    (disk / FILLER).unlink()
