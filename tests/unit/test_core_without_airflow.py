"""The core runs on a machine on which there is no Airflow."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "include" / "backup"
FILES = sorted(CORE.rglob("*.py"))
# The layers above the core: it must not know them.
ABOVE = ("airflow", "backup_operators", "backup_console", "dags", "plugins", "include.local", "tests")

PROGRAM = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError("there is no Airflow here: " + name)

sys.meta_path.insert(0, Refuse())
import include.backup
names = [found.name for found in pkgutil.walk_packages(include.backup.__path__, "include.backup.")]
for name in names:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.partition(".")[0] == "airflow"]
print(len(names))
"""


def imported(source: str) -> Iterator[str]:
    """Yield what a file imports, also inside of functions, and what it names to importlib."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield ast.unparse(node.args[0]).strip("f'\"")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_no_file_of_the_core_names_a_layer_above_it(path: Path) -> None:
    found = [name for name in imported(path.read_text()) for above in ABOVE if f"{name}.".startswith(f"{above}.")]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import airflow.sdk",
        "def f():\n    from airflow.sdk import dag",
        "import importlib\nimportlib.import_module('airflow')",
        "from include.local.stack import Stack",
    ],
)
def test_the_look_at_the_files_sees_every_way_to_import(source: str) -> None:
    assert [name for name in imported(source) if name.startswith(("airflow", "include.local"))]


def test_every_module_can_be_imported_where_airflow_cannot() -> None:
    """Transitively: no library that the core uses pulls Airflow in."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 50
