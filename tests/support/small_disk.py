"""A disk of a few MiB, to be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
