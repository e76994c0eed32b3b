"""Read files out of their buckets into the tar: what has not changed is named, what changes meanwhile is reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from include.backup.attachments.bucket import FileBucket, FileChangedError, FileGoneError, Listed, Opened
from include.backup.attachments.expected import Expected
from include.backup.attachments.names import member_name, parent_keys
from include.backup.attachments.reconcile import FileKey
from include.backup.attachments.record import AttachedFile, FileNote
from include.backup.attachments.tar_upload import TarUpload
from include.backup.errors import ObjectShortError
from include.backup.manifest import Member

SMALL_BYTES = 1 << 20
BATCH_BYTES = 16 << 20
BATCH_FILES = 64
CONCURRENCY = 8
ATTEMPTS = 3
PROGRESS_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class Collected:
    """What was gathered; ``gone`` says why a file that was there is not in the archive."""

    files: list[AttachedFile] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    troubled: list[FileNote] = field(default_factory=list)
    gone: dict[FileKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """A file that was read into memory, or what came in between."""

    listed: Listed
    opened: Opened | None
    body: bytes
    trouble: str


def listed_files(buckets: Mapping[str, FileBucket], rows: Sequence[Expected]) -> tuple[list[Listed], list[FileNote]]:
    """Return every file, and a note of each that the listing left out though it is there.

    Listings of thousands of folders were incomplete in some versions of Supabase Storage, so each row without a
    listed file is looked for by its name.
    """
    found = {(name, key): item for name, bucket in buckets.items() for key, item in bucket.list().items()}
    unlisted = [row for row in rows if row.bucket in buckets and (row.bucket, row.key) not in found]
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="look") as pool:
        looked = list(pool.map(lambda row: buckets[row.bucket].look(row.key), unlisted))
    notes = []
    for item in looked:
        if item is not None:
            found[item.bucket, item.key] = item
            notes.append(FileNote(bucket=item.bucket, key=item.key, detail="the listing left it out; it is archived"))
    return [found[place] for place in sorted(found)], notes


class Collector:
    """One pass over all files."""

    def __init__(
        self,
        buckets: Mapping[str, FileBucket],
        tar: TarUpload,
        *,
        known: Mapping[FileKey, AttachedFile],
        log: logging.Logger,
    ) -> None:
        self._buckets = buckets
        self._tar = tar
        self._known = known
        self._log = log
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._folders: Mapping[str, frozenset[str]] = {}
        self.collected = Collected()

    def run(self, listed: Sequence[Listed]) -> Collected:
        """Archive the files in their order."""
        self._folders = {
            name: parent_keys(item.key for item in listed if item.bucket == name) for name in self._buckets
        }
        wanted = []
        for item in listed:
            known = self._known.get((item.bucket, item.key))
            # A file whose name became a folder of newer files since is stored anew under another name.
            if known is not None and _unchanged(known, item) and known.member == self._name(item):
                self.collected.files.append(known)
            else:
                wanted.append(item)
        with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="file") as pool:
            for batch in _batches(wanted):
                if len(batch) == 1:
                    self._stream(batch[0])
                else:
                    for fetched in pool.map(self._fetch, batch):
                        self._keep(fetched)
                self._say(len(wanted))
        self.collected.files.sort(key=lambda file: (file.bucket, file.key))
        return self.collected

    def _fetch(self, listed: Listed) -> _Fetched:
        """Read a small file into memory; one that changes is looked at again."""
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                opened = self._buckets[listed.bucket].open(listed)
                return _Fetched(listed=listed, opened=opened, body=b"".join(opened.chunks), trouble=trouble)
            except FileGoneError:
                return _Fetched(listed=listed, opened=None, body=b"", trouble="it vanished before it was read")
            except FileChangedError:
                again = self._buckets[listed.bucket].look(listed.key)
                if again is None:
                    return _Fetched(listed=listed, opened=None, body=b"", trouble="it vanished before it was read")
                if again.size > SMALL_BYTES:
                    return _Fetched(listed=again, opened=None, body=b"", trouble="")
                listed, trouble = again, "it changed while it was read; its newer content is archived"
        return _Fetched(listed=listed, opened=None, body=b"", trouble="it kept changing; it is not in the archive")

    def _keep(self, fetched: _Fetched) -> None:
        listed = fetched.listed
        if fetched.opened is not None:
            self._add(listed, fetched.opened, [fetched.body])
            if fetched.trouble:
                self._note(listed, fetched.trouble)
        elif fetched.trouble:
            self._lost(listed, fetched.trouble)
        else:  # it has grown too large for memory meanwhile
            self._stream(listed)

    def _stream(self, listed: Listed) -> None:
        """Archive a file while it is read; one that changes in the middle leaves dead bytes in the tar."""
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                opened = self._buckets[listed.bucket].open(listed)
                self._add(listed, opened, opened.chunks)
            except FileGoneError:
                self._lost(listed, "it vanished while it was read")
                return
            except (FileChangedError, ObjectShortError):
                again = self._buckets[listed.bucket].look(listed.key)
                if again is None:
                    self._lost(listed, "it vanished while it was read")
                    return
                listed, trouble = again, "it changed while it was read; its newer content is archived"
            else:
                if trouble:
                    self._note(listed, trouble)
                return
        self._lost(listed, "it kept changing; it is not in the archive")

    def _add(self, listed: Listed, opened: Opened, chunks: Iterable[bytes]) -> None:
        name = self._name(listed)
        member = self._tar.add(name, listed.size, chunks)
        self.collected.members.append(member)
        self.collected.files.append(
            AttachedFile(
                bucket=listed.bucket,
                key=listed.key,
                size=listed.size,
                sha256=member.sha256,
                etag=listed.etag,
                modified=listed.modified,
                content_type=opened.content_type,
                metadata=opened.metadata,
                member=name,
                archive=None,
            )
        )

    def _name(self, listed: Listed) -> str:
        return member_name(listed.bucket, listed.key, parents=self._folders[listed.bucket])

    def _lost(self, listed: Listed, detail: str) -> None:
        self.collected.gone[listed.bucket, listed.key] = detail
        self._note(listed, detail)

    def _note(self, listed: Listed, detail: str) -> None:
        note = FileNote(bucket=listed.bucket, key=listed.key, detail=detail)
        self._log.warning("%s", note)
        self.collected.troubled.append(note)

    def _say(self, wanted: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            read = len(self.collected.members)
            self._log.info("%d of %d new or changed files read, %d bytes", read, wanted, self._tar.size)


def _unchanged(known: AttachedFile, listed: Listed) -> bool:
    return (known.size, known.etag, known.modified) == (listed.size, listed.etag, listed.modified)


def _batches(listed: Iterable[Listed]) -> Iterator[list[Listed]]:
    """Yield files that fit into memory together, in their order; a large one stands alone."""
    batch: list[Listed] = []
    size = 0
    for item in listed:
        if batch and (item.size > SMALL_BYTES or size + item.size > BATCH_BYTES or len(batch) == BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item.size
        if item.size > SMALL_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
