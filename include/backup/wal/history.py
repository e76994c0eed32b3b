"""Timeline history files: where each timeline branched off its parent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from include.backup.errors import WalNameError
from include.backup.wal.lsn import parse_lsn

_NAME = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A timeline's end: from ``lsn`` on, its child goes on."""

    timeline: int
    lsn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A timeline and its ancestors, oldest first, each with the position where its child branched off."""

    timeline: int
    ancestors: tuple[Switch, ...] = ()

    def path(self) -> tuple[tuple[int, int], ...]:
        """Return (timeline, first position that belongs to it), oldest first."""
        begins = (0, *(switch.lsn for switch in self.ancestors))
        timelines = (*(switch.timeline for switch in self.ancestors), self.timeline)
        return tuple(zip(timelines, begins, strict=True))

    def holds(self, timeline: int, lsn: int) -> bool:
        """Tell whether a position of a timeline lies on the way to this one."""
        if timeline == self.timeline:
            return True
        return any(switch.timeline == timeline and lsn <= switch.lsn for switch in self.ancestors)


def parse_history(name: str, content: bytes) -> History:
    """Read a history file; raises WalNameError.

    >>> parse_history("00000002.history", b"1\\t0/5000000\\tno recovery target specified\\n").ancestors
    (Switch(timeline=1, lsn=83886080),)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise WalNameError(f"{name!r} is no timeline history file; one looks like 00000002.history")
    ancestors: list[Switch] = []
    for line in content.decode("utf-8", "replace").splitlines():
        fields = line.split(None, 2)
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not fields[0].isascii() or not fields[0].isdigit():
            raise WalNameError(f"the timeline history file {name} has the line {line!r}; it is damaged")
        switch = Switch(timeline=int(fields[0]), lsn=parse_lsn(fields[1]))
        if ancestors and (switch.timeline <= ancestors[-1].timeline or switch.lsn < ancestors[-1].lsn):
            raise WalNameError(f"the timeline history file {name} is not in order at {line!r}; it is damaged")
        ancestors.append(switch)
    timeline = int(match[1], 16)
    if ancestors and ancestors[-1].timeline >= timeline:
        raise WalNameError(f"the timeline history file {name} names timeline {ancestors[-1].timeline}; it is damaged")
    return History(timeline=timeline, ancestors=tuple(ancestors))


def history_name(timeline: int) -> str:
    """Return the name of a timeline's history file.

    >>> history_name(2)
    '00000002.history'
    """
    return f"{timeline:08X}.history"
