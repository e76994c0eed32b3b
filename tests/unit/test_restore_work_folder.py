"""The folder of a restore: private, big enough, and gone afterwards."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.backup.errors import StagingError, StagingFullError
from include.backup.restore.work_folder import PREFIX, work_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from include.backup.restore.work_folder import work_folder
with work_folder(Path(sys.argv[1]), needed_bytes=0) as folder:
    (folder / "rows").write_text("secret")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_this_user_may_look_inside_and_nothing_is_left(tmp_path: Path) -> None:
    with work_folder(tmp_path / "new", needed_bytes=0) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("x")
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), work_folder(tmp_path, needed_bytes=0):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StagingFullError, match="bytes free and the restore needs"),
        work_folder(tmp_path, needed_bytes=1 << 60),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StagingError, match="give another one"), work_folder(tmp_path / "file", needed_bytes=0):
        pass


def test_what_a_killed_restore_left_is_removed_by_the_next_one_and_a_living_one_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    with work_folder(tmp_path, needed_bytes=0) as first:
        assert not left.exists()
        with work_folder(tmp_path, needed_bytes=0):
            assert first.is_dir()


def test_a_restore_that_ends_while_another_looks_for_leftovers_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the look at a folder, its restore has ended."""
    monkeypatch.setattr(Path, "glob", lambda *_: iter([tmp_path / f"{PREFIX}ended"]))
    with work_folder(tmp_path, needed_bytes=0) as folder:
        assert folder.is_dir()


@pytest.mark.parametrize("moment", ["open", "flock"])
def test_a_folder_that_another_restore_takes_for_a_leftover_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It is there and not held yet for a moment, before it is opened and before it is locked."""
    where = os if moment == "open" else fcntl
    real, swept = getattr(where, moment), list[Path]()

    def after_a_sweep(what: object, *arguments: object) -> object:
        if not swept and (there := list(tmp_path.iterdir())):
            swept.extend(there)
            monkeypatch.setattr(where, moment, real)
            with work_folder(tmp_path, needed_bytes=0):
                assert not there[0].exists()
        return real(what, *arguments)

    monkeypatch.setattr(where, moment, after_a_sweep)
    with work_folder(tmp_path, needed_bytes=0) as folder:
        assert folder.is_dir()
        assert [folder] == list(tmp_path.iterdir())
    assert len(swept) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_restores_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "restore-database").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}notes").write_text("x")
    before = sorted(tmp_path.iterdir())
    with work_folder(tmp_path, needed_bytes=0):
        pass
    assert sorted(tmp_path.iterdir()) == before
