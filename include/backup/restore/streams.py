"""One table's lines through several COPY streams: neither PostgreSQL nor pg_restore splits a table by itself.

The streams are transactions of their own, and none commits before all of the table was found right.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

# A stream gets so much in one go before the next one is served; the switch is always at the end of a line.
TURN_BYTES = 1 << 19
_WAITING_CHUNKS = 6
Session = psycopg.Connection[dict[str, Any]]


class AbandonedError(Exception):
    """Raised in a stream whose table will not be whole."""


class Stream:
    """A session that copies what it is given, in a thread of its own."""

    def __init__(self, session: Session, statement: bytes) -> None:
        self._session = session
        self._statement = statement
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._places = threading.Semaphore(_WAITING_CHUNKS)
        self._abandoned = False
        self._decided = threading.Event()
        self._copied = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._given = self._taken = 0
        self.rows = 0
        self.error: BaseException | None = None
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that were handed over and not sent yet."""
        return self._given - self._taken

    def put(self, chunk: bytes) -> None:
        """Hand a chunk over; waits while the stream has enough. Raises what ended the stream."""
        self._places.acquire()
        if self.error is not None:
            raise self.error
        self._given += len(chunk)
        self._chunks.put(chunk)

    def end(self) -> None:
        """Say that nothing more comes."""
        self._chunks.put(None)

    def copied(self) -> int:
        """Wait for the end of the copying and return the rows; raises what ended the stream."""
        self._copied.wait()
        if self.error is not None:
            raise self.error
        return self.rows

    def commit(self) -> None:
        """Make the rows lasting; raises what spoke against it."""
        self._decided.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        """End the stream without a trace."""
        self._abandoned = True
        self._decided.set()
        self._chunks.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            with self._session.transaction():
                cursor = self._session.cursor()
                with cursor.copy(self._statement) as copy:
                    for chunk in self._chunks_taken():
                        copy.write(chunk)
                self.rows = cursor.rowcount
                self._copied.set()
                self._decided.wait()
                self._raise_if_abandoned()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that hands over
            self.error = error
        finally:
            self._copied.set()
            # Whoever waits for a place is to see the error.
            self._places.release(_WAITING_CHUNKS)

    def _chunks_taken(self) -> Iterator[bytes]:
        while (chunk := self._chunks.get()) is not None:
            self._raise_if_abandoned()
            yield chunk
            self._taken += len(chunk)
            self._places.release()
        self._raise_if_abandoned()

    def _raise_if_abandoned(self) -> None:
        if self._abandoned:
            raise AbandonedError


def share_out(content: Iterator[bytes], streams: Sequence[Stream]) -> None:
    """Give each line to one of the streams: to that which has least to do, a turn of many lines at a time.

    A line may be longer than any turn; it goes to its stream in pieces, and is never held whole.
    """
    current, sent = streams[0], 0
    for chunk in content:
        rest = chunk
        if sent >= TURN_BYTES and (cut := chunk.rfind(b"\n") + 1):
            current.put(chunk[:cut])
            current, sent, rest = min(streams, key=lambda stream: stream.waiting), 0, chunk[cut:]
        if rest:
            current.put(rest)
            sent += len(rest)
    for stream in streams:
        stream.end()
