"""What tests of real servers share: tools by version, folders that a server's user can enter, ordinary users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.backup.errors import ToolMissingError
from include.backup.postgres.account import can_enter
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.proof.scratch import ScratchRole, ScratchServer

ROOT = Path(__file__).resolve().parents[2]
MAJORS = (17, pytest.param(15, marks=pytest.mark.postgres15))
# A program that enters a scratch server, says where it is, and leaves at a line on its input.
ENTER_AND_HANG = """
import json, os, sys
from pathlib import Path
from include.backup.postgres.tools import PostgresTools
from include.backup.proof.scratch import ScratchServer
root, bin_dir = sys.argv[1:]
tools = PostgresTools(bin_dir=Path(bin_dir), version="17", major=17)
with ScratchServer(root=Path(root), tools=tools) as scratch:
    said = {"folder": str(scratch.folder), "euid": os.geteuid(), "password": scratch.admin.password}
    print(json.dumps(said | {"admin": scratch.conninfo(scratch.admin)} | scratch.isolation.to_dict()), flush=True)
    sys.stdin.readline()
"""
PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


def tools_of(major: int) -> PostgresTools:
    """Return the server of exactly this version, or skip."""
    try:
        tools = find_tools(major, server=True)
    except ToolMissingError as error:
        pytest.skip(str(error))
    if tools.major != major:
        pytest.skip(f"PostgreSQL {major} is not installed, only {tools.version}")
    return tools


@contextmanager
def enterable_folder() -> Iterator[Path]:
    """Give a folder with a short path that any user can enter, and take it away with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def psql(
    tools: PostgresTools, parameters: Mapping[str, str], password: str, sql: str
) -> subprocess.CompletedProcess[str]:
    """Run a statement as psql does, with libpq's keywords."""
    conninfo = " ".join(f"{name}='{value}'" for name, value in parameters.items())
    return subprocess.run(
        [tools.path("psql"), "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", sql],
        env={"PGPASSWORD": password, "LC_ALL": "C.UTF-8", "PGPASSFILE": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )


def ask(server: ScratchServer, role: ScratchRole, sql: str) -> str:
    """Return what the server answers, or its error."""
    done = psql(tools_of(17), server.conninfo(role), server.environment(role)["PGPASSWORD"], sql)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def run_inside(server: ScratchServer, command: str) -> str:
    """Run a shell command as the restored code of a superuser could."""
    quoted = command.replace("'", "''")
    copy = f"COPY seen FROM PROGRAM '({quoted}) 2>&1; true' (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')"
    return ask(server, server.admin, f"CREATE TEMP TABLE seen (line text); {copy}; TABLE seen")


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Poll until the condition holds or time is up; return whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def ordinary_user_command(folder: Path) -> list[str]:
    """Return how Python runs with this code as an ordinary user: as we are, or as nobody when we are root.

    As root, the code goes to ``folder``: nobody may not be able to enter the clone, nor run its interpreter.
    """
    if os.geteuid() != 0:
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-B"]
    python = next((path for path in PYTHONS if Path(path).exists() and _runs(path)), None)
    if python is None:
        pytest.skip("user nobody can run no Python 3.11 or newer on this machine")
    code = folder / "code"
    if not code.exists():
        shutil.copytree(ROOT / "include" / "backup", code / "include" / "backup")
        (code / "include" / "__init__.py").touch()
        for path in (code, *code.rglob("*")):
            path.chmod(0o755)
    drop = ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups", "--"]
    return [*drop, "env", f"PYTHONPATH={code}", python, "-B"]


def _runs(python: str) -> bool:
    if not can_enter("nobody", Path(python).resolve().parent):
        return False
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    drop = ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups", "--"]
    return subprocess.run([*drop, python, "-c", check], capture_output=True, check=False).returncode == 0
