"""The benchmark itself, on a database that is too small for its figures to mean anything."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from include.backup.errors import ToolMissingError
from tests.benchmarks.__main__ import FAILED, main
from tests.benchmarks.rclone import rclone_program


@pytest.fixture
def rclone() -> None:
    """Skip where the benchmark's store is not installed."""
    try:
        rclone_program()
    except ToolMissingError as error:
        pytest.skip(str(error))


@pytest.mark.long
@pytest.mark.usefixtures("rclone")
def test_every_way_is_measured_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pulse-benchmark-", dir="/var/tmp"))
    folder.chmod(0o711)
    try:
        code = main(["--size-mb", "1", "--repeat", "1", "--patience", "0", "--json", "--folder", str(folder)])
        output = capsys.readouterr()
        assert code != FAILED, output.err
        document = json.loads(output.out)
        assert [item["key"] for item in document["series"]] == list("abcdefg")
        assert all(item["median"] > 0 for item in document["series"])
        assert document["parts"]["backup steps"].keys() == {"dump", "compress", "upload", "verify"}
        memory = {item["name"]: item["value"] for item in document["targets"] if item["name"].startswith("memory")}
        assert all(20 < value < 256 for value in memory.values())
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)
