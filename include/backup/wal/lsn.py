"""Log sequence numbers: positions in the write-ahead log, as integers inside and as PostgreSQL writes them outside."""

from __future__ import annotations

import re

from include.backup.errors import WalNameError

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LOW = 0xFFFFFFFF


def parse_lsn(text: str) -> int:
    """Return a position; raises WalNameError.

    >>> parse_lsn("16/B374D848")
    97500059720
    """
    match = _LSN.fullmatch(text)
    if match is None:
        raise WalNameError(f"{text!r} is no LSN; it looks like 16/B374D848")
    return int(match[1], 16) << 32 | int(match[2], 16)


def format_lsn(lsn: int) -> str:
    """Return a position as PostgreSQL writes it.

    >>> format_lsn(97500059720)
    '16/B374D848'
    """
    return f"{lsn >> 32:X}/{lsn & _LOW:X}"
