"""Remove what can be made again: caches, ``.venv``, and the stacks with their data."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHES = (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")


def main() -> int:
    """Stop and remove every stack below ``.local``, then the rest; return 1 when one does not stop."""
    python = ROOT / ".venv" / "bin" / "python"
    for state in sorted((ROOT / ".local").glob("[0-9]*")):
        if not python.exists():
            sys.stderr.write(f"make: cannot tell whether the stack in {state} runs; make install first\n")
            return 1
        command = [str(python), "-m", "include.local", "remove", "--port-base", state.name]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            return 1
    for folder in (ROOT / ".local", ROOT / ".venv", *(ROOT / name for name in CACHES)):
        if folder.exists():
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
