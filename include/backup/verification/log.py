"""The stored log: whole behind a base backup, and some of it read back."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.backup.connections import DatabaseConnection
from include.backup.errors import BackupError, StoreUnreachableError
from include.backup.policy import SourcePolicy
from include.backup.store import ObjectStore
from include.backup.wal.chain import Chain
from include.backup.wal.fetch import fetch_segment
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segment_file import check_segment
from include.backup.wal.segments import Segment
from include.backup.wal.status import WalStanding, read_standing

SHOWN_GAPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """How the stored log stands; ``problems`` are what a person has to do something about.

    ``lost`` are the gaps behind the oldest base backup. Once a newer one is there nothing is left to do about
    them; health's alert tells of them until it is acknowledged or the older ones have expired.
    """

    source: str
    segments: int
    read_back: int
    gaps: int
    windows: int
    lost: tuple[str, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and texts."""
        return {**asdict(self), "line": self.line()}

    def line(self) -> str:
        """Return one line of evidence."""
        text = (
            f"{self.source}: {self.segments} segments of the log stored, {self.read_back} of them read back, "
            f"{self.windows} base backups to recover from"
        )
        told = [f"PROBLEMS: {'; '.join(self.problems)}"] if self.problems else []
        if self.lost:
            told.append(f"gaps behind the oldest base backup: {'; '.join(self.lost)}")
        if told:
            return "; ".join((text, *told))
        return text + (f", {self.gaps} gaps, all of them older than any base backup" if self.gaps else ", no gap")


def check_log(
    source: SourcePolicy, store: ObjectStore, database: DatabaseConnection, *, read: int, seed: str, now: datetime
) -> LogReport:
    """Look whether the stored log can be recovered from, and read some of it back, chosen by chance."""
    standing = read_standing(source, store, database, now=now)
    if standing.last is None:
        return LogReport(source=source.name, segments=0, read_back=0, gaps=0, windows=0, lost=(), problems=())
    damaged, count = _read_back(store, standing, read=read, seed=seed)
    return LogReport(
        source=source.name,
        segments=standing.chain.segments,
        read_back=count,
        gaps=len(standing.gaps),
        windows=len(standing.windows),
        lost=tuple(_lost(standing)),
        problems=(*standing.problems, *damaged),
    )


def _lost(standing: WalStanding) -> Iterator[str]:
    yield from (gap.line() for gap in standing.lost[:SHOWN_GAPS])
    if len(standing.lost) > SHOWN_GAPS:
        yield f"and {len(standing.lost) - SHOWN_GAPS} more gaps"


def chosen_segments(chain: Chain, *, most: int, seed: str) -> tuple[Segment, ...]:
    """Return some segments of a chain, each with the same chance; the same for each try of a run."""
    chance = random.Random(seed)  # noqa: S311 - a fair choice, and the same for each try
    total = chain.segments
    places = sorted(chance.sample(range(total), min(most, total)))
    return tuple(_at(chain, place) for place in places)


def _at(chain: Chain, place: int) -> Segment:
    for timeline, spans in sorted(chain.spans.items()):
        for span in spans:
            if place < len(span):
                return Segment(timeline=timeline, number=span.first + place, size=chain.size)
            place -= len(span)
    raise IndexError(place)


def _read_back(store: ObjectStore, standing: WalStanding, *, read: int, seed: str) -> tuple[Sequence[str], int]:
    if standing.last is None:
        return (), 0
    keys = ClusterKeys(system_identifier=standing.last.system_identifier)
    damaged, segments = [], chosen_segments(standing.chain, most=read, seed=seed)
    with tempfile.TemporaryDirectory(prefix="pulse-log-") as folder:
        for segment in segments:
            path = Path(folder) / segment.name
            try:
                fetch_segment(store, keys.segment(segment), path)
                check_segment(path, segment, system_identifier=keys.system_identifier)
                path.unlink()
            except StoreUnreachableError:
                raise
            except BackupError as error:
                damaged.append(f"segment {segment.name}: {error}")
    return damaged, len(segments)
