"""The embedded stack as it is after its first start, kept, so that each file of tests begins with a fresh one soon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from include.local.ports import free_port_base
from include.local.stack import Stack


class StackImage:
    """Makes the stack once, and lays it anew from a copy each time: same folder and ports, nothing of the last one."""

    def __init__(self, folder: Path, *, sample_mb: int) -> None:
        self._stack = Stack(free_port_base(), folder / "stack")
        self._sample_mb = sample_mb
        self._copy = folder / "image"

    def fresh(self) -> Stack:
        """Start the stack as it was after its first start; without Airflow."""
        if not self._copy.exists():
            self._up()
            self._stack.down()
            self._copy.mkdir(mode=0o711)
            for number, part in enumerate(self._parts()):
                _copy(part, self._copy / str(number))
        else:
            for number, part in enumerate(self._parts()):
                _copy(self._copy / str(number), part)
        self._up()
        return self._stack

    def clear(self) -> None:
        """Stop the stack and delete what it holds."""
        postmaster = self._stack.source.server().pid
        if postmaster is not None:  # what it holds goes, so that it need not be written before
            os.kill(postmaster, signal.SIGQUIT)
        self._stack.remove()

    def _up(self) -> None:
        self._stack.up(sample_mb=self._sample_mb, airflow=False)

    def _parts(self) -> list[Path]:
        """Return the folders that hold everything: the server's files lie elsewhere where its user cannot enter."""
        state, source = self._stack.layout.state, self._stack.source.folder()
        return [state] if source.is_relative_to(state) else [state, source]


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    # cp, unlike shutil, keeps the owners, of which there are two.
    subprocess.run(["cp", "--archive", "--no-target-directory", str(source), str(target)], check=True)
