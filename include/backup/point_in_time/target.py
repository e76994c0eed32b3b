"""Where a recovery is to end: a time, a position, a transaction, a named restore point, or the end of the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from include.backup.errors import ParameterError, WalNameError
from include.backup.wal.lsn import format_lsn, parse_lsn

XID_PATTERN = re.compile(r"[1-9][0-9]{0,9}")
XID_LEAST, XID_MOST = 3, (1 << 32) - 1
NAME_BYTES = 63


class TargetKind(StrEnum):
    """What a target is given by. ``consistent`` is the earliest there is, and what a restore test needs."""

    TIME = "time"
    LSN = "lsn"
    XID = "xid"
    NAME = "name"
    LATEST = "latest"
    CONSISTENT = "consistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryTarget:
    """A target that PostgreSQL will take; ``value`` is as it takes it."""

    kind: TargetKind
    value: str = ""
    moment: datetime | None = None
    lsn: int | None = None

    @classmethod
    def parse(cls, kind: str, value: str | None) -> Self:
        """Read what a person wrote; raises ParameterError that says what is allowed.

        >>> RecoveryTarget.parse("time", "2025-01-19T14:30:00+01:00").value
        '2025-01-19 13:30:00.000000+00'
        """
        try:
            wanted = TargetKind(kind)
        except ValueError:
            allowed = ", ".join(one.value for one in TargetKind)
            raise ParameterError(f"a recovery to {kind!r} is not possible; allowed: {allowed}") from None
        text = (value or "").strip()
        if wanted in (TargetKind.LATEST, TargetKind.CONSISTENT):
            if text:
                raise ParameterError(f"a recovery to {kind} takes no value, and {text!r} was given; leave it out")
            return cls(kind=wanted)
        if not text:
            raise ParameterError(f"a recovery to a {kind} needs its value; {_EXAMPLES[wanted]}")
        return cls._read(wanted, text)

    @classmethod
    def _read(cls, kind: TargetKind, text: str) -> Self:
        if kind is TargetKind.TIME:
            return cls._time(text)
        if kind is TargetKind.LSN:
            return cls._lsn(text)
        return cls._xid(text) if kind is TargetKind.XID else cls._name(text)

    @classmethod
    def _time(cls, text: str) -> Self:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ParameterError(f"{text!r} is no time; {_EXAMPLES[TargetKind.TIME]}") from None
        if moment.tzinfo is None:
            raise ParameterError(f"the time {text!r} has no time zone; {_EXAMPLES[TargetKind.TIME]}")
        utc = moment.astimezone(UTC)
        return cls(kind=TargetKind.TIME, value=f"{utc:%Y-%m-%d %H:%M:%S.%f}+00", moment=utc)

    @classmethod
    def _lsn(cls, text: str) -> Self:
        try:
            lsn = parse_lsn(text)
        except WalNameError as error:
            raise ParameterError(str(error)) from error
        return cls(kind=TargetKind.LSN, value=format_lsn(lsn), lsn=lsn)

    @classmethod
    def _xid(cls, text: str) -> Self:
        if not XID_PATTERN.fullmatch(text) or not XID_LEAST <= int(text) <= XID_MOST:
            raise ParameterError(f"{text!r} is no transaction id; {_EXAMPLES[TargetKind.XID]}")
        return cls(kind=TargetKind.XID, value=text)

    @classmethod
    def _name(cls, text: str) -> Self:
        if len(text.encode()) > NAME_BYTES or not text.isprintable():
            raise ParameterError(f"{text!r} is no name of a restore point; {_EXAMPLES[TargetKind.NAME]}")
        return cls(kind=TargetKind.NAME, value=text)

    def settings(self) -> dict[str, str]:
        """Return PostgreSQL's settings for it; none means the end of the log."""
        if self.kind is TargetKind.LATEST:
            return {}
        if self.kind is TargetKind.CONSISTENT:
            return {"recovery_target": "immediate", "recovery_target_action": "promote"}
        return {f"recovery_target_{self.kind.value}": self.value, "recovery_target_action": "promote"}

    def __str__(self) -> str:
        return f"{self.kind.value} {self.value}".strip()


_EXAMPLES = {
    TargetKind.TIME: "give ISO 8601 with a time zone, e.g. 2025-01-19T14:30:00Z",
    TargetKind.LSN: "give a position such as 16/B374D848",
    TargetKind.XID: f"give a number from {XID_LEAST} to {XID_MOST}, as txid_current() has it without its epoch",
    TargetKind.NAME: f"give what pg_create_restore_point() was given, at most {NAME_BYTES} bytes",
}
