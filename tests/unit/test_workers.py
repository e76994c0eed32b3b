"""The tests on two workers: a file stays whole, and what shares Airflow stays together."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import AIRFLOW, AIRFLOW_FILES, scope_of

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_one_scope_and_all_files_of_the_shared_airflow_are_another() -> None:
    assert scope_of("tests/unit/test_tar.py::test_x[a::b]") == "tests/unit/test_tar.py"
    assert scope_of("tests/integration/test_airflow_runs.py::test_x") == AIRFLOW
    assert scope_of("tests/integration/test_airflow_stops.py::Test::test_x") == AIRFLOW


def test_only_files_with_these_names_use_the_shared_airflow() -> None:
    uses = re.compile(r"\bairflow_stack: AirflowStack")
    files = [path.name for path in (ROOT / "tests" / "integration").glob("test_*.py") if uses.search(path.read_text())]
    assert len(files) > 5
    assert [name for name in files if not name.startswith(AIRFLOW_FILES)] == []
