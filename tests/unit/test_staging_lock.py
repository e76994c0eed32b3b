"""The lock of a staging folder: for one process at a time, and for no longer than it is held."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from include.backup.errors import StagingBusyError
from include.backup.staging import Staging


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    made = Staging(tmp_path, "shop_daily_full_20260601T020000Z_0123ab")
    made.make()
    return made


def test_a_folder_is_held_against_others(staging: Staging) -> None:
    with staging.locked(), pytest.raises(StagingBusyError, match="another process works in"), staging.locked():
        pytest.fail("it is held")


def test_a_child_that_was_forked_meanwhile_does_not_hold_it_longer(staging: Staging) -> None:
    """A child has its parent's files open until its exec: another thread may begin one at any time."""
    with staging.locked():
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        with staging.locked():
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
