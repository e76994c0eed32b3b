"""Where WAL lies in the bucket. Names sort as the log does, so that a listing can begin anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from include.backup.errors import WalNameError
from include.backup.wal.history import history_name
from include.backup.wal.segments import Segment

ROOT = "incremental/"
_SYSTEM_IDENTIFIER = re.compile(r"[0-9]{1,20}")
_PARTIAL = re.compile(r"([0-9A-F]{24})\.([0-9A-F]{16})\.zst")
_COMPLETE = re.compile(r"([0-9A-F]{24})\.zst")
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKeys:
    """The keys of one cluster's WAL."""

    system_identifier: str

    def __post_init__(self) -> None:
        if not _SYSTEM_IDENTIFIER.fullmatch(self.system_identifier):
            raise WalNameError(f"{self.system_identifier!r} is no system identifier; it is a number")

    @property
    def prefix(self) -> str:
        """Where everything of the cluster lies.

        >>> ClusterKeys(system_identifier="7401").prefix
        'incremental/7401/'
        """
        return f"{ROOT}{self.system_identifier}/"

    def timeline(self, timeline: int) -> str:
        """Return the folder of a timeline's complete segments."""
        return f"{self.prefix}wal/{timeline:08X}/"

    def segment(self, segment: Segment) -> str:
        """Return the key of a complete segment.

        >>> ClusterKeys(system_identifier="7401").segment(Segment(timeline=1, number=3))
        'incremental/7401/wal/00000001/000000010000000000000003.zst'
        """
        return f"{self.timeline(segment.timeline)}{segment.name}.zst"

    def partials(self, timeline: int) -> str:
        """Return the folder of a timeline's segments of which only the beginning is there."""
        return f"{self.prefix}wal/partial/{timeline:08X}/"

    def partial(self, segment: Segment, end: int) -> str:
        """Return the key of the beginning of a segment, up to a position.

        >>> ClusterKeys(system_identifier="7401").partial(Segment(timeline=1, number=3), 0x3000140)
        'incremental/7401/wal/partial/00000001/000000010000000000000003.0000000003000140.zst'
        """
        return f"{self.partials(segment.timeline)}{segment.name}.{end:016X}.zst"

    @property
    def histories(self) -> str:
        return f"{self.prefix}wal/history/"

    def history(self, timeline: int) -> str:
        """Return the key of a timeline's history file."""
        return f"{self.histories}{history_name(timeline)}"


def segment_of_key(key: str, *, size: int) -> Segment | None:
    """Return the complete segment that a key is of, or None when it is of none.

    >>> segment_of_key("incremental/7401/wal/00000001/000000010000000000000003.zst", size=16 << 20).number
    3
    """
    match = _COMPLETE.fullmatch(key.rsplit("/", 1)[-1])
    return None if match is None else Segment.parse(match[1], size=size)


def partial_of_key(key: str, *, size: int) -> tuple[Segment, int] | None:
    """Return the segment and the end of its beginning that a key is of, or None when it is of none."""
    match = _PARTIAL.fullmatch(key.rsplit("/", 1)[-1])
    return None if match is None else (Segment.parse(match[1], size=size), int(match[2], 16))


def runs_prefix(source: str) -> str:
    """Return where the records of a source's runs lie."""
    return f"{ROOT}runs/{source}/"


def run_key(source: str, finished_at: datetime, run: str) -> str:
    """Return the key of a run's record; a day's records share a folder, so that the newest is found in few requests.

    >>> run_key("pulse_messages", datetime(2026, 5, 11, 2, 15, tzinfo=UTC), "0123ab")
    'incremental/runs/pulse_messages/2026/05/11/20260511T021500Z_0123ab.json'
    """
    moment = finished_at.astimezone(UTC)
    return f"{runs_prefix(source)}{moment:%Y/%m/%d}/{moment:{_TIME}}_{run}.json"
