"""In CI a skipped test fails the run; elsewhere, and for expected failures, it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = "import pytest\ndef test_one(): pytest.skip('no server')\ndef test_two(): pass\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_one(): assert False\n"
UNIMPORTED = "import pytest\npytest.importorskip('no_such_module')\ndef test_one(): pass\n"


def run(tmp_path: Path, content: str, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_it.py").write_text(content)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *options]
    return subprocess.run([*argv, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "workers"])
@pytest.mark.parametrize("content", [SKIPPED, UNIMPORTED])
def test_a_skipped_test_fails_the_run_where_nothing_may_be_skipped(
    tmp_path: Path, content: str, workers: tuple[str, ...]
) -> None:
    watched = run(tmp_path, content, "-p", "tests.plugins.no_skips", *workers)
    assert watched.returncode != pytest.ExitCode.OK
    assert "skipped where nothing may be skipped" in watched.stdout
    assert "test_it.py" in watched.stdout.partition("skipped where nothing may be skipped")[2]


def test_a_skipped_test_is_no_failure_elsewhere(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPPED).returncode == pytest.ExitCode.OK


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, EXPECTED, "-p", "tests.plugins.no_skips").returncode == pytest.ExitCode.OK
