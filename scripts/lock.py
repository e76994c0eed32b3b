"""Resolve the requirements files into lock files with hashes, for every supported Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In this order: the second is resolved under the first's pins.
PAIRS = (
    ("requirements.txt", "requirements.lock"),
    ("requirements-dev.txt", "requirements-dev.lock"),
    ("scripts/requirements-uv.txt", "scripts/requirements-uv.lock"),
)


def lock_command(uv: str, wanted: str, lock: str, *, upgrade: bool) -> list[str]:
    """Return the argv that resolves one file; no index address is written into the result."""
    options = ["--universal", "--generate-hashes", "--no-header", "--python-version", "3.11", "--quiet"]
    return [uv, "pip", "compile", *options, *(["--upgrade"] if upgrade else []), wanted, "-o", lock]


def main() -> int:
    """Write the three lock files; ``--upgrade`` takes newer versions where the pins allow."""
    uv = str(Path(sys.executable).parent / "uv")
    if not Path(uv).exists():
        uv = shutil.which("uv") or uv
    for wanted, lock in PAIRS:
        command = lock_command(uv, wanted, lock, upgrade="--upgrade" in sys.argv[1:])
        subprocess.run(command, check=True, cwd=ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
