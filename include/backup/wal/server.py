"""What the source says of itself: which cluster it is, how far its log is, and what this role may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from include.backup.errors import WalRefusedError
from include.backup.postgres.session import query
from include.backup.wal.lsn import parse_lsn

OLDEST_MAJOR = 15
NEEDED = 2
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WalServer:
    """A server as its SQL sessions see it; positions are integers, sizes are bytes.

    ``max_slot_bytes`` is None when max_slot_wal_keep_size is unset, so that a slot may keep WAL without end.
    """

    version: str
    major: int
    in_recovery: bool
    wal_level: str
    max_wal_senders: int
    max_replication_slots: int
    segment_size: int
    max_slot_bytes: int | None
    may_replicate: bool
    may_switch: bool
    flush_lsn: int


def read_server(connection: psycopg.Connection[dict[str, Any]]) -> WalServer:
    """Return what the server says of itself."""
    row = query(connection, "wal_server")[0]
    limit, flush = row.pop("max_slot_mib"), row.pop("flush_lsn")
    return WalServer(
        **row,
        max_slot_bytes=None if limit < 0 else limit * MEBIBYTE,
        flush_lsn=parse_lsn(flush or "0/0"),
    )


def check_can_stream(server: WalServer, *, role: str) -> None:
    """Raise WalRefusedError, saying what to do, for what would keep this role from streaming the log."""
    for wrong, text in (
        (
            server.major < OLDEST_MAJOR,
            f"PostgreSQL {server.version} does not say where a slot begins, {OLDEST_MAJOR} and newer do; upgrade it or "
            "take daily backups only",
        ),
        (
            server.in_recovery,
            "the source is a standby, which cannot mark a run in its log; let the connection reach the primary",
        ),
        (
            not server.may_replicate,
            f"the role {role} lacks the REPLICATION attribute; run ALTER ROLE {role} REPLICATION",
        ),
        (
            server.wal_level == "minimal",
            "wal_level is minimal, which writes no WAL to recover from; set it to replica and restart the server",
        ),
        (
            server.max_wal_senders < NEEDED,
            f"max_wal_senders is {server.max_wal_senders}; set it to 4 or more and restart the server",
        ),
        (
            server.max_replication_slots < NEEDED,
            f"max_replication_slots is {server.max_replication_slots} and two are needed; set it to 4 or more and "
            "restart the server",
        ),
    ):
        if wrong:
            raise WalRefusedError(f"WAL cannot be streamed: {text}")
