"""Programs and features that not every machine has: what a test does where one is missing."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest


def need_programs(*names: str) -> None:
    """Skip the test, and say how to get what is missing."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: apt-get install {' '.join(missing)}")


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack a tar of our own with the filter that refuses what points elsewhere, where Python has it (3.11.4)."""
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    tar.extractall(folder, **options)  # noqa: S202 - our own
