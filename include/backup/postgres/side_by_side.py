"""Work that several sessions of one database share; the first that fails ends the others at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import psycopg

from include.backup.postgres.session import Endpoint, connect

Session = psycopg.Connection[dict[str, Any]]
Work = Callable[[Session], None]
STOP_SECONDS = 0.5
CANCEL_SECONDS = 5.0


def side_by_side(endpoint: Endpoint, works: Sequence[Work], *, jobs: int, settings: Mapping[str, str]) -> None:
    """Do each work in one of ``jobs`` sessions, begun in the order given.

    Raises what the first that failed raised; then, and when the caller is interrupted, statements that still run are
    cancelled.
    """
    sessions: list[Session] = []
    local = threading.local()
    given_up = threading.Event()

    def run(work: Work) -> None:
        if given_up.is_set():
            return
        session = getattr(local, "session", None)
        if session is None:
            session = local.session = connect(endpoint, settings=settings)
            sessions.append(session)
        work(session)

    with ThreadPoolExecutor(jobs, thread_name_prefix="side-by-side") as pool:
        futures = [pool.submit(run, work) for work in works]
        try:
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop(futures, sessions, given_up)
            raise
        else:
            # Whoever fails from here on was cancelled.
            failed = next((error for future in done if (error := future.exception()) is not None), None)
            stop(waiting, sessions, given_up)
        finally:
            for session in sessions:
                session.close()
    if failed is not None:
        raise failed


def stop(futures: Collection[Future[None]], sessions: Collection[Session], given_up: threading.Event) -> None:
    """End what still runs; again and again, since a cancel that comes before its statement ends nothing."""
    while not all(future.done() for future in futures):
        given_up.set()
        for session in list(sessions):
            with suppress(psycopg.Error):  # it has just ended by itself
                session.cancel_safe(timeout=CANCEL_SECONDS)
        wait(futures, timeout=STOP_SECONDS)
