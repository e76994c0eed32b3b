"""Feed recovery with WAL: a small shell script asks for a file, this process brings it, and those that follow before.

The server gets no credentials and needs no Python: its restore_command takes a file from a folder by a rename, or asks
for it with an empty file and waits. This process fetches, checks and decompresses, some segments ahead of what was
taken, and answers ``.none`` for what is not stored. When this process is gone, the script says so and recovery stops,
instead of taking a lost connection for the end of the log.
"""

from __future__ import annotations

import fcntl
import logging
import shlex
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from include.backup.errors import BackupError, WalNameError
from include.backup.postgres.account import give
from include.backup.postgres.cluster import write_private
from include.backup.store import ObjectStore
from include.backup.wal.chain import Chain
from include.backup.wal.fetch import fetch_segment
from include.backup.wal.history import History, history_name
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment

SCRIPT_NAME = "restore_wal.sh"
ALIVE = "alive"
AHEAD = 8
CONCURRENCY = 4
POLL_SECONDS = 0.02
# Exit codes above 125 make the server give up at once instead of ending recovery where it is. Whoever brings WAL holds
# a lock on the file "alive", which the kernel lets go of when that process dies.
SCRIPT = """\
#!/bin/sh
# restore_command: take the WAL file "$1" as "$2". Exit code 1 says that it is not stored, 200 that nobody brings it.
folder={folder}
: > "$folder/wanted/$1" || exit 200
while :; do
  if [ -e "$folder/ready/$1" ]; then
    rm -f "$folder/wanted/$1"
    mv "$folder/ready/$1" "$2" || exit 200
    exit 0
  fi
  if [ -e "$folder/ready/$1.none" ]; then
    rm -f "$folder/wanted/$1" "$folder/ready/$1.none"
    exit 1
  fi
  if flock --nonblock "$folder/alive" true; then
    exit 200
  fi
  sleep 0.02
done
"""


@dataclass(slots=True, kw_only=True)
class FeedFacts:
    """What was brought, and what was asked for in vain."""

    segments: int = 0
    missing: list[str] = field(default_factory=list)
    last: str = ""


class WalFeed:
    """``with WalFeed(…).running():`` brings what the script asks for until the block ends."""

    def __init__(
        self,
        store: ObjectStore,
        keys: ClusterKeys,
        chain: Chain,
        history: History,
        *,
        folder: Path,
        user: str | None,
        log: logging.Logger,
        last: Segment | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._chain = chain
        self._history = history
        self._user = user
        self._log = log
        self._last = last
        self.folder = folder
        self.facts = FeedFacts()
        self.error: BackupError | None = None
        self._ended = threading.Event()
        self._fetches: dict[str, Future[None]] = {}

    def prepare(self) -> str:
        """Make folder and script; return the restore_command."""
        for name in ("", "ready", "wanted", "work"):
            path = self.folder / name
            path.mkdir(mode=0o700, exist_ok=True)
            give(path, self._user)
        script = self.folder / SCRIPT_NAME
        write_private(script, SCRIPT.replace("{folder}", shlex.quote(str(self.folder))), user=self._user)
        write_private(self.folder / ALIVE, "", user=self._user)
        return f"/bin/sh {shlex.quote(str(script)).replace('%', '%%')} %f %p"

    @contextmanager
    def running(self, *, first: Segment | None = None) -> Iterator[None]:
        """Bring what is asked for; begin with ``first`` before anybody asks."""
        with (
            (self.folder / ALIVE).open("rb") as alive,
            ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="wal") as pool,
        ):
            fcntl.flock(alive, fcntl.LOCK_EX)
            thread = threading.Thread(target=self._work, args=(pool, first, alive), name="wal-feed", daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                thread.join()
                for fetch in self._fetches.values():
                    fetch.cancel()

    def check(self) -> None:
        """Raise what went wrong while bringing WAL."""
        if self.error is not None:
            raise self.error

    def _work(self, pool: ThreadPoolExecutor, first: Segment | None, alive: BinaryIO) -> None:
        try:
            if first is not None:
                self._ahead(pool, first)
            while not self._ended.wait(POLL_SECONDS):
                for path in sorted((self.folder / "wanted").iterdir()):
                    self._serve(pool, path.name)
        except (BackupError, OSError) as error:
            self.error = error if isinstance(error, BackupError) else BackupError(f"WAL cannot be brought: {error}")
            self._log.warning("recovery is stopped: %s", error)
        finally:
            # The script sees that nobody brings any more; a file that says so may find no room on a full disk.
            fcntl.flock(alive, fcntl.LOCK_UN)

    def _serve(self, pool: ThreadPoolExecutor, name: str) -> None:
        ready = self.folder / "ready"
        if (ready / name).exists() or (ready / f"{name}.none").exists():
            return
        segment = self._segment(name)
        if segment is None:
            self._serve_history(name)
            return
        if self._key(segment) is None:
            self._refuse(name)
            return
        self._ahead(pool, segment)
        fetch = self._fetches.pop(name, None)
        if fetch is not None:
            fetch.result()
        if not (ready / name).exists():  # asked for again: it was taken before
            if not (self.folder / "wanted" / name).exists():
                return
            self._fetch(segment)
        self.facts.last = max(self.facts.last, name)

    def _ahead(self, pool: ThreadPoolExecutor, segment: Segment) -> None:
        for _ in range(AHEAD):
            if self._key(segment) is None or (self._last is not None and segment.number > self._last.number):
                return
            name = segment.name
            there = name in self._fetches or name <= self.facts.last or (self.folder / "ready" / name).exists()
            if not there:
                self._fetches[name] = pool.submit(self._fetch, segment)
            segment = segment.next

    def _fetch(self, segment: Segment) -> None:
        key = self._key(segment)
        if key is None:
            return
        work = self.folder / "work" / segment.name
        fetch_segment(self._store, key, work)
        if work.stat().st_size < segment.size:
            with work.open("r+b") as file:
                file.truncate(segment.size)
        give(work, self._user)
        work.chmod(0o600)
        work.rename(self.folder / "ready" / segment.name)
        self.facts.segments += 1

    def _key(self, segment: Segment) -> str | None:
        if self._chain.has(segment):
            return self._keys.segment(segment)
        end = self._chain.partials.get(segment)
        return None if end is None else self._keys.partial(segment, end)

    def _serve_history(self, name: str) -> None:
        wanted = {history_name(one): one for one, _ in self._history.path() if one in self._chain.histories}
        timeline = wanted.get(name)
        if timeline is None:
            self._refuse(name, note=False)
            return
        work = self.folder / "work" / name
        work.write_bytes(self._store.get(self._keys.history(timeline)))
        give(work, self._user)
        work.chmod(0o600)
        work.rename(self.folder / "ready" / name)

    def _refuse(self, name: str, *, note: bool = True) -> None:
        if note and name not in self.facts.missing:
            self.facts.missing.append(name)
        mark = self.folder / "ready" / f"{name}.none"
        mark.touch()
        give(mark, self._user)

    def _segment(self, name: str) -> Segment | None:
        try:
            return Segment.parse(name, size=self._chain.size)
        except WalNameError:
            return None
