"""Many files and large ones: archived and proven in a process of its own, whose memory is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import StoreConnection
from include.local.layout import ROOT
from tests.benchmarks.rclone import BUCKET, rclone_store

FILES = "files"
LARGEST_MIB = 256
GIBIBYTE = 1 << 30


@pytest.fixture
def plain_store(state_dir: Path, request: pytest.FixtureRequest) -> Iterator[tuple[StoreConnection, Path]]:
    """A fast store over plain files, and the folder of its bucket of files."""
    folder = state_dir / f"rclone-{request.node.name.partition('[')[2].rstrip(']')}"
    folder.mkdir()
    with rclone_store(folder) as connection:
        bucket = folder / "objects" / FILES
        bucket.mkdir()
        yield connection, bucket


def fill(bucket: Path, *, small: int, large: int) -> None:
    for number in range(small):
        path = bucket / f"{number % 100:02}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"file {number}\n".encode() * (1 + number % 50))
    if large:
        with (bucket / "large.bin").open("wb") as file:
            file.write(os.urandom(1 << 20))
            file.truncate(large)  # the rest is a hole: it costs no disk


def archive(connection: StoreConnection) -> dict[str, Any]:
    answer = subprocess.run(
        (
            sys.executable,
            "-m",
            "tests.support.attachments_child",
            connection.endpoint_url or "",
            connection.ca_bundle or "",
            FILES,
            BUCKET,
        ),
        cwd=ROOT,
        env={
            **os.environ,
            "CHILD_ACCESS_KEY": connection.access_key or "",
            "CHILD_SECRET_KEY": str(connection.secret_key),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(found)
    return found


@pytest.mark.parametrize(
    ("small", "large"),
    [
        pytest.param(400, 80 << 20, id="some"),
        pytest.param(10_000, 0, id="many", marks=pytest.mark.long),
        pytest.param(1, 2 * GIBIBYTE, id="large", marks=pytest.mark.long),
    ],
)
def test_files_are_archived_and_proven_in_bounded_memory(
    plain_store: tuple[StoreConnection, Path], small: int, large: int
) -> None:
    connection, bucket = plain_store
    fill(bucket, small=small, large=large)
    found = archive(connection)
    assert found["troubled"] == []
    assert found["files"] == small + bool(large)
    assert found["bytes"] == sum(path.stat().st_size for path in bucket.rglob("*") if path.is_file())
    assert (found["result"], found["differences"]) == ("passed", [])
    assert found["peak_mib"] <= LARGEST_MIB
