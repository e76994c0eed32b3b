"""The git remote of the schema's history: a bare repository, as a hosting service would have it."""

from __future__ import annotations

import subprocess

from include.local.environment import service_environment
from include.local.errors import StackError
from include.local.layout import Layout

BRANCH = "main"


def ensure_schema_remote(layout: Layout) -> None:
    """Make the repository if it is not there; raises StackError when git is missing or fails."""
    command = [
        "git",
        "init",
        "--quiet",
        "--bare",
        f"--initial-branch={BRANCH}",
        "--template=",
        str(layout.schema_remote),
    ]
    try:
        done = subprocess.run(
            command,
            env=service_environment(layout),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise StackError("git is not installed; install it and start again") from error
    if done.returncode != 0:
        raise StackError(f"git cannot make {layout.schema_remote}: {done.stderr.strip()}")
