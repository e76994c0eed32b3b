"""An S3 proxy that holds requests until a test lets them go: a step stops where the test wants it to."""

from __future__ import annotations

import threading

from tests.faults.http_fault import Predicate, Request
from tests.faults.s3_proxy import Exchange, S3Proxy

HOLD_SECONDS = 300.0


class Hold:
    """Requests that match wait here; a context manager that lets go at its end."""

    def __init__(self, when: Predicate) -> None:
        self._when = when
        self._arrived = threading.Event()
        self._released = threading.Event()
        self._abandoned = False

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def wait(self, seconds: float = HOLD_SECONDS) -> None:
        """Wait until a request is held; raises TimeoutError."""
        if not self._arrived.wait(seconds):
            raise TimeoutError(f"no request to hold came in {seconds:.0f} s")

    def release(self) -> None:
        """Let what is held go on, and hold nothing any more."""
        self._released.set()

    def abandon(self) -> None:
        """Forget what is held: whoever sent it is dead."""
        self._abandoned = True
        self._released.set()

    def strike(self, request: Request) -> None:
        """Keep a request if it matches; called by the proxy."""
        if self._released.is_set() or not self._when(request):
            return
        self._arrived.set()
        self._released.wait(HOLD_SECONDS)
        if self._abandoned:
            raise ConnectionAbortedError("the client of this request is dead")


class HoldingStore(S3Proxy):
    """An S3 proxy whose requests can be held."""

    _holds: tuple[Hold, ...] = ()

    def hold(self, when: Predicate) -> Hold:
        """Hold every request that matches from now on."""
        hold = Hold(when)
        self._holds = (*self._holds, hold)
        return hold

    def begin(self, request: Request) -> Exchange:
        for hold in self._holds:
            hold.strike(request)
        return super().begin(request)
