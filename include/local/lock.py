"""Let one command at a time start or stop a stack."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.local.errors import StackBusyError


@contextmanager
def only_command(state: Path) -> Iterator[None]:
    """Hold the stack's lock, which ends with this process; raises StackBusyError naming who holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with open(state / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise StackBusyError(
                f"pid {lock.read().strip() or '?'} is starting or stopping the stack in {state}; wait for it, or end it"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
