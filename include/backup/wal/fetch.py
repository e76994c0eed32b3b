"""Bring WAL back: download, decompress, compare with what was sent, and name the files as recovery asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from include.backup.archive.members import Compression, uncompressed
from include.backup.errors import MemberHashError, ObjectMissingError
from include.backup.store import ObjectStore
from include.backup.wal.chain import Chain, needed_segments
from include.backup.wal.history import history_name
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment
from include.backup.wal.storing import LENGTH, SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was brought back: WAL without a hole up to ``end``, on ``timeline``."""

    end: int
    timeline: int
    segments: int
    length: int


def fetch_wal(
    store: ObjectStore,
    keys: ClusterKeys,
    chain: Chain,
    folder: Path,
    *,
    start: int,
    timeline: int,
    end: int | None = None,
    concurrency: int = 4,
    on_file: Callable[[str], None] = lambda name: None,
) -> Fetched:
    """Fetch the WAL that recovery reads from ``start`` on, up to ``end`` or as far as the stored chain is whole.

    Histories come too, so that recovery finds its way; the beginning of a segment gets the whole one's name, as
    recovery reads it to its last commit. A ``restore_command`` that copies from the folder is all that is needed.
    Raises MemberHashError or TruncatedMemberError for an object that is not what was stored.
    """
    target = chain.newest_timeline(timeline, start)
    reach = chain.reach(start, timeline=timeline, target=target)
    last = min(reach.end, end) if end is not None else reach.end
    complete = min(last, reach.missing.start)
    wanted = [(keys.segment(one), one) for one in needed_segments(
        start, complete, timeline=timeline, target=target, size=chain.size
    )]  # fmt: skip
    if reach.partial and last > reach.missing.start:
        wanted.append((keys.partial(reach.missing, chain.partials[reach.missing]), reach.missing))
    for one, _ in target.path():
        if one > 1 and one in chain.histories:
            (folder / history_name(one)).write_bytes(store.get(keys.history(one)))

    def fetch(item: tuple[str, Segment]) -> None:
        fetch_segment(store, item[0], folder / item[1].name)
        on_file(item[1].name)

    with ThreadPoolExecutor(concurrency, thread_name_prefix="fetch") as pool:
        list(pool.map(fetch, wanted))
    return Fetched(
        end=last, timeline=reach.timeline, segments=len(wanted), length=sum(segment.size for _, segment in wanted)
    )


def fetch_segment(store: ObjectStore, key: str, path: Path) -> None:
    """Write an object's content to a file that appears only when it is whole and right."""
    info = store.head(key)
    if info is None:
        raise ObjectMissingError(
            f"{store.url(key)} is gone since it was listed; list again, and find out who removed it"
        )
    work = path.with_name(f"{path.name}.part")
    digest, length = hashlib.sha256(), 0
    with work.open("wb") as file:
        for chunk in uncompressed(store.read(key, 0, info.size), Compression.ZSTD, name=key):
            digest.update(chunk)
            length += len(chunk)
            file.write(chunk)
    said = info.metadata.get(LENGTH), info.metadata.get(SHA256)
    if said != (str(length), digest.hexdigest()):
        raise MemberHashError(
            f"{store.url(key)} holds {length} bytes with another SHA-256 than was stored; it is damaged: look for "
            "another version of the object, or recover to a time before it"
        )
    work.replace(path)
