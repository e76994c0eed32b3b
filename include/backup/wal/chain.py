"""The stored chain: which segments there are, in spans without a hole, however many they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from include.backup.wal.history import History
from include.backup.wal.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """Segments of one timeline without a hole between them, both ends included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Segments that are missing between two spans of a timeline."""

    first: Segment
    last: Segment

    @property
    def segments(self) -> int:
        return self.last.number - self.first.number + 1

    def line(self) -> str:
        """Return one line for people."""
        return (
            f"{self.segments} segments of the log are missing, {self.first.name} to {self.last.name}: no time within "
            "them can be recovered"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the chain goes from a position without a hole: to ``end``, on ``timeline``; ``missing`` is next.

    ``partial`` says that the last bytes come from the stored beginning of a segment.
    """

    end: int
    timeline: int
    missing: Segment
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What is stored of one cluster's log: spans by timeline, beginnings of segments, and how timelines branch."""

    size: int
    spans: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)
    partials: Mapping[Segment, int] = field(default_factory=dict)
    histories: Mapping[int, History] = field(default_factory=dict)

    def has(self, segment: Segment) -> bool:
        """Tell whether a complete segment is stored."""
        return any(span.first <= segment.number <= span.last for span in self.spans.get(segment.timeline, ()))

    @property
    def segments(self) -> int:
        return sum(len(span) for spans in self.spans.values() for span in spans)

    def gaps(self) -> tuple[Gap, ...]:
        """Return the holes inside each timeline."""
        return tuple(
            Gap(first=self._segment(timeline, one.last + 1), last=self._segment(timeline, two.first - 1))
            for timeline, spans in sorted(self.spans.items())
            for one, two in pairwise(spans)
        )

    def gaps_after(self, lsn: int) -> tuple[Gap, ...]:
        """Return the holes that do not end before a position."""
        return tuple(gap for gap in self.gaps() if (gap.last.number + 1) * self.size > lsn)

    def newest_timeline(self, timeline: int, lsn: int) -> History:
        """Return the newest stored timeline on whose way a position lies: that which recovery follows."""
        fitting = [history for history in self.histories.values() if history.holds(timeline, lsn)]
        return max(fitting, key=lambda history: history.timeline, default=History(timeline=timeline))

    def reach(self, lsn: int, *, timeline: int, target: History | None = None) -> Reach:
        """Return how far recovery can go from a position on a timeline, towards ``target`` or the newest one.

        The segment in which a timeline branched off is read from the newer timeline, as PostgreSQL does.
        """
        history = target or self.newest_timeline(timeline, lsn)
        number, end = lsn // self.size, lsn
        following, stop = timeline, number
        for following, until in _stretches(history, timeline, self.size):
            stop = self._contiguous(following, number)
            if stop > number:
                end = max(end, min(stop, until or stop) * self.size)
            if until is None or stop < until:
                break
            number = max(number, until)
        missing = self._segment(following, stop)
        partial = self.partials.get(missing, 0)
        return Reach(end=max(end, partial), timeline=following, missing=missing, partial=partial > end)

    def goes_on_after(self, missing: Segment, history: History) -> bool:
        """Tell whether later segments are stored on the way to a timeline, so that a missing one is a hole."""
        ways = [timeline for timeline, _ in history.path() if timeline >= missing.timeline]
        return any(span.last > missing.number for timeline in ways for span in self.spans.get(timeline, ()))

    def _contiguous(self, timeline: int, number: int) -> int:
        """Return the first segment from ``number`` on that is not stored."""
        for span in self.spans.get(timeline, ()):
            if span.first <= number <= span.last:
                return span.last + 1
        return number

    def _segment(self, timeline: int, number: int) -> Segment:
        return Segment(timeline=timeline, number=number, size=self.size)


def spans_of(segments: Iterable[Segment]) -> dict[int, tuple[Span, ...]]:
    """Fold segments, in the order of their names, into spans by timeline; memory grows with the holes only.

    >>> spans_of(Segment(timeline=1, number=number) for number in (3, 4, 6))
    {1: (Span(first=3, last=4), Span(first=6, last=6))}
    """
    found: dict[int, list[Span]] = {}
    for segment in segments:
        spans = found.setdefault(segment.timeline, [])
        if spans and segment.number <= spans[-1].last + 1:
            spans[-1] = Span(first=spans[-1].first, last=max(spans[-1].last, segment.number))
        else:
            spans.append(Span(first=segment.number, last=segment.number))
    return {timeline: tuple(spans) for timeline, spans in found.items()}


def needed_segments(start: int, end: int, *, timeline: int, target: History, size: int) -> Iterator[Segment]:
    """Yield the segments that recovery reads from ``start`` up to ``end``, on the way from a timeline to ``target``."""
    number = start // size
    last = (end - 1) // size
    for following, until in _stretches(target, timeline, size):
        while number <= last and (until is None or number < until):
            yield Segment(timeline=following, number=number, size=size)
            number += 1


def _stretches(history: History, timeline: int, size: int) -> Sequence[tuple[int, int | None]]:
    """Return (timeline, first segment that the next one has) from ``timeline`` on; the last has no end."""
    path = [(one, begin // size) for one, begin in history.path() if one >= timeline]
    ends: list[int | None] = [begin for _, begin in path[1:]]
    return [(one, until) for (one, _), until in zip(path, [*ends, None], strict=True)]
