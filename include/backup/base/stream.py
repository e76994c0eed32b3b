"""Send the parts of a base backup's archive while its files still grow.

A part can be sent once all its bytes are known. Those of a file are as it is written; its header, which tells its
length, only once it is closed: the part that holds it waits until then. What was sent is read and hashed again
before the upload is completed, so that a wrong guess here costs time and nothing else.
"""

from __future__ import annotations

import logging
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.errors import BackupError
from include.backup.multipart import GrowingUpload, SentParts, UploadPlan
from include.backup.store import ObjectStore

POLL_SECONDS = 0.05
PROGRESS_SECONDS = 10.0
FILE_SUFFIX = ".tar.zst"
MANIFEST_FILE = "backup_manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A layout of what is there so far, and which of its bytes are final: up to ``end``, but for the open header."""

    layout: TarLayout
    header_begin: int
    end: int
    header_end: int

    def has(self, begin: int, end: int) -> bool:
        """Tell whether all bytes of a range are final."""
        return end <= self.end and not max(begin, self.header_begin) < min(end, self.header_end)


def base_layout(members: list[FileMember], *, modified_at: int) -> TarLayout:
    """Return the archive's layout; its headers have one length whatever the members' lengths are."""
    return TarLayout(members, modified_at=modified_at, gnu=True)


def known_so_far(files: list[FileMember], *, modified_at: int) -> Known:
    """Return what is final when all files but the last are closed.

    pg_basebackup ends a file before it begins the next one. Only the last one it ends after backup_manifest is there,
    so that nothing but the end of the program says that it is whole.
    """
    layout = base_layout(files, modified_at=modified_at)
    if not files:
        return Known(layout=layout, header_begin=0, header_end=0, end=0)
    last = layout.members[-1]
    return Known(
        layout=layout,
        header_begin=last.offset - tarfile.BLOCKSIZE,
        header_end=last.offset,
        end=last.offset + last.length,
    )


class PartStream:
    """``with PartStream(…) as stream``: a thread looks at the folder and sends what is final.

    A store that fails ends the sending, not the backup: ``sent`` is what it took, and a later upload goes on.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        plan: Callable[[TarLayout], UploadPlan],
        folder: Path,
        modified_at: int,
        log: logging.Logger,
    ) -> None:
        self._store = store
        self._plan = plan
        self._folder = folder
        self._modified_at = modified_at
        self._log = log
        self.order: list[str] = []
        self.sent: SentParts | None = None
        self._upload: GrowingUpload | None = None
        self._ended = threading.Event()
        self._whole = False
        self._futures: dict[int, Future[None]] = {}
        self._thread = threading.Thread(target=self._work, name="part-stream", daemon=True)
        self._next_line = time.monotonic() + PROGRESS_SECONDS

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole = kind is None
        self._ended.set()
        self._thread.join()
        self._see()
        if self._upload is not None:
            self.sent = self._upload.sent

    def _work(self) -> None:
        first = self._plan(base_layout([], modified_at=self._modified_at))
        with ThreadPoolExecutor(first.concurrency, thread_name_prefix="part") as pool:
            try:
                self._upload = GrowingUpload(self._store, first)
                while not self._ended.wait(POLL_SECONDS):
                    self._look(pool)
                if self._whole:
                    self._send_headers()
                for future in self._futures.values():
                    future.result()
            except (BackupError, OSError) as error:
                self._log.warning("sending while the backup is taken stopped; the rest is sent afterwards: %s", error)
                for future in self._futures.values():
                    future.cancel()

    def _look(self, pool: ThreadPoolExecutor) -> None:
        for future in self._futures.values():
            if future.done():
                future.result()
        known = self._known()
        plan = self._plan(known.layout)
        upload = self._upload
        if upload is None:
            return
        for number in range(1, known.end // plan.part_size + 1):
            if number not in self._futures and known.has((number - 1) * plan.part_size, number * plan.part_size):
                self._futures[number] = pool.submit(upload.send, plan, number)
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PROGRESS_SECONDS
            done = sum(future.done() for future in self._futures.values())
            self._log.info("%d bytes compressed by the server, %d sent", known.end, done * plan.part_size)

    def _send_headers(self) -> None:
        """Send the parts that had to wait for a header, now that every file is whole.

        The first part is always among them, and a store that takes parts in their order (rclone's) answers none of the
        others before it has this one: it is sent from here, since they may hold all threads of the pool.
        """
        known = self._known()
        plan = self._plan(known.layout)
        upload = self._upload
        if upload is None:
            return
        for number in range(1, known.end // plan.part_size + 1):
            if number not in self._futures:
                upload.send(plan, number)

    def _known(self) -> Known:
        """Look at the folder again."""
        self._see()
        files = [
            FileMember(name=name, path=self._folder / name, length=(self._folder / name).stat().st_size)
            for name in self.order
        ]
        return known_so_far(files, modified_at=self._modified_at)

    def _see(self) -> None:
        """Note files that are new, oldest first."""
        found = {path.name: path.stat() for path in self._folder.iterdir()}
        new = [name for name in found if name.endswith(FILE_SUFFIX) and name not in self.order]
        self.order += sorted(new, key=lambda name: (found[name].st_mtime_ns, name))
