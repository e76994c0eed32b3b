"""Tie this process to its parent: a task must not outlive the worker that started it."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends.

    When a worker is killed, its task process lives on and works beside the retry. SIGTERM would not end it:
    Airflow's handler calls ``on_kill`` and lets the task go on. The children that the core starts have the
    same tie to this process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")
