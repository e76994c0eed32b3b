"""A dump of raw files becomes one of compressed ones, wherever a kill stops it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.backup.archive.members import DATA_TRAILER
from include.backup.steps.compress import _compress, _dumped_files


@pytest.mark.parametrize(("killed_at", "left"), [("replace", ["7.dat"]), ("unlink", ["7.dat.zst"])])
def test_a_kill_leaves_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str, left: list[str]
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    (tmp_path / "7.dat").write_bytes(b"a\n" + DATA_TRAILER)
    ctx: Any = SimpleNamespace(source=SimpleNamespace(compression_level=1))
    with monkeypatch.context() as patch:
        patch.setattr(Path, killed_at, killed)
        with pytest.raises(KeyboardInterrupt):
            _compress(ctx, tmp_path / "7.dat", table_data=True)
    assert [path.name for path in _dumped_files(tmp_path)] == left
