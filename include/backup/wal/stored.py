"""Read the stored chain from the store: page by page, from any segment on, in memory that grows with holes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from include.backup.store import ObjectStore
from include.backup.wal.chain import Chain, spans_of
from include.backup.wal.history import History, history_name, parse_history
from include.backup.wal.keys import ClusterKeys, partial_of_key, segment_of_key
from include.backup.wal.segments import Segment

PROGRESS_OBJECTS = 50_000
OnProgress = Callable[[int], None]


def read_chain(
    store: ObjectStore,
    keys: ClusterKeys,
    *,
    size: int,
    since: Segment | None = None,
    on_progress: OnProgress = lambda count: None,
) -> Chain:
    """Return what is stored of a cluster's log.

    ``since`` leaves out what lies before that segment, on its timeline, and older timelines altogether.
    """
    histories = read_histories(store, keys)
    timelines = tuple(one for one in stored_timelines(store, keys) if since is None or one >= since.timeline)
    count = 0

    def counted(segments: Iterator[Segment]) -> Iterator[Segment]:
        nonlocal count
        for segment in segments:
            count += 1
            if count % PROGRESS_OBJECTS == 0:
                on_progress(count)
            yield segment

    spans = {}
    for timeline in timelines:
        begin = since if since is not None and since.timeline == timeline else None
        spans.update(spans_of(counted(stored_segments(store, keys, timeline, size=size, since=begin))))
    return Chain(size=size, spans=spans, partials=read_partials(store, keys, timelines, size), histories=histories)


def stored_timelines(store: ObjectStore, keys: ClusterKeys) -> tuple[int, ...]:
    """Return the timelines of which segments are stored, also those with the beginning of one only."""
    complete = store.folders(f"{keys.prefix}wal/")
    partial = store.folders(f"{keys.prefix}wal/partial/")
    return tuple(sorted({int(name, 16) for name in (*complete, *partial) if name not in ("partial", "history")}))


def stored_segments(
    store: ObjectStore, keys: ClusterKeys, timeline: int, *, size: int, since: Segment | None = None
) -> Iterator[Segment]:
    """Yield the complete segments of a timeline in order, from ``since`` on; requests are made as they are read."""
    # What sorts right before the key itself: nothing else begins like it.
    after = "" if since is None else keys.segment(since).removesuffix(".zst")
    for key in store.keys(keys.timeline(timeline), start_after=after):
        segment = segment_of_key(key, size=size)
        if segment is not None and segment.timeline == timeline:
            yield segment


def read_partials(store: ObjectStore, keys: ClusterKeys, timelines: tuple[int, ...], size: int) -> dict[Segment, int]:
    """Return up to where the beginnings of segments are stored."""
    found: dict[Segment, int] = {}
    for timeline in timelines:
        for item in store.list(keys.partials(timeline)):
            partial = partial_of_key(item.key, size=size)
            if partial is not None:
                segment, end = partial
                found[segment] = max(found.get(segment, 0), end)
    return found


def read_histories(store: ObjectStore, keys: ClusterKeys) -> dict[int, History]:
    """Return the stored timeline histories."""
    found = {}
    for item in store.list(keys.histories):
        name = item.key.removeprefix(keys.histories)
        history = parse_history(name, store.get(item.key))
        if history_name(history.timeline) == name:
            found[history.timeline] = history
    return found
