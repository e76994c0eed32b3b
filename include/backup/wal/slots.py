"""The two slots. ``hold`` never streams: it keeps WAL on the source until it is stored. ``run`` is streamed from.

pg_receivewal moves the slot that it streams from on its own fsync, before anything is stored elsewhere; with that slot
alone, a staging folder that is lost takes with it what the source has already let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg

from include.backup.errors import WalError, WalRefusedError
from include.backup.postgres.session import query
from include.backup.wal.lsn import format_lsn, parse_lsn


class WalStatus(StrEnum):
    """PostgreSQL's pg_replication_slots.wal_status."""

    RESERVED = "reserved"
    EXTENDED = "extended"
    UNRESERVED = "unreserved"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A physical slot. ``restart_lsn`` is None when it keeps nothing; after ``safe_bytes`` more it is lost."""

    name: str
    restart_lsn: int | None
    wal_status: WalStatus | None
    active_pid: int | None
    safe_bytes: int | None

    @property
    def lost(self) -> bool:
        return self.restart_lsn is None or self.wal_status is WalStatus.LOST


def read_slot(connection: psycopg.Connection[dict[str, Any]], name: str) -> Slot | None:
    """Return a slot, or None when there is none; raises WalRefusedError for a logical one of that name."""
    rows = query(connection, "wal_slot", {"name": name})
    if not rows:
        return None
    row = rows[0]
    if row["slot_type"] != "physical":
        raise WalRefusedError(f"the slot {name} is a logical one; give the policy's incremental.slots another name")
    return Slot(
        name=name,
        restart_lsn=None if row["restart_lsn"] is None else parse_lsn(row["restart_lsn"]),
        wal_status=None if row["wal_status"] is None else WalStatus(row["wal_status"]),
        active_pid=row["active_pid"],
        safe_bytes=row["safe_wal_size"],
    )


def ensure_hold(connection: psycopg.Connection[dict[str, Any]], name: str) -> Slot:
    """Return the slot that keeps WAL; make it, from the last checkpoint on, when there is none or it is lost."""
    slot = read_slot(connection, name)
    if slot is not None and slot.lost:
        drop_slot(connection, name)
        slot = None
    if slot is None:
        _call(connection, "SELECT pg_create_physical_replication_slot(%s, true)", (name,), f"make the slot {name}")
        slot = read_slot(connection, name)
    if slot is None or slot.lost:
        raise WalError(f"the slot {name} was made and keeps no WAL; look at the server's log, and retry")
    return slot


def copy_to_run(connection: psycopg.Connection[dict[str, Any]], *, hold: str, run: str) -> None:
    """Make ``run`` begin where ``hold`` does; one that a killed run left is removed, with the session that uses it."""
    drop_slot(connection, run)
    statement = "SELECT pg_copy_physical_replication_slot(%s, %s)"
    _call(connection, statement, (hold, run), f"copy the slot {hold} to {run}")


def drop_slot(connection: psycopg.Connection[dict[str, Any]], name: str) -> bool:
    """Remove a slot and end the session that streams from it; return False when there was none."""
    slot = read_slot(connection, name)
    if slot is None:
        return False
    if slot.active_pid is not None:
        _call(connection, "SELECT pg_terminate_backend(%s, 10000)", (slot.active_pid,), f"free the slot {name}")
    _call(connection, "SELECT pg_drop_replication_slot(%s)", (name,), f"remove the slot {name}")
    return True


def advance(connection: psycopg.Connection[dict[str, Any]], name: str, lsn: int) -> int:
    """Let the source remove WAL before a position, and return where the slot begins now. It never goes back."""
    slot = read_slot(connection, name)
    if slot is None or slot.restart_lsn is None:
        raise WalError(f"the slot {name} is gone or lost; the next run makes a new one and asks for a base backup")
    if lsn <= slot.restart_lsn:
        return slot.restart_lsn
    statement = "SELECT end_lsn FROM pg_replication_slot_advance(%s, %s)"
    _call(connection, statement, (name, format_lsn(lsn)), f"advance the slot {name}")
    after = read_slot(connection, name)
    if after is None or after.restart_lsn is None:
        raise WalError(f"the slot {name} vanished while it was advanced; the next run asks for a base backup")
    return after.restart_lsn


def _call(
    connection: psycopg.Connection[dict[str, Any]], statement: str, parameters: tuple[Any, ...], what: str
) -> None:
    try:
        connection.execute(statement.encode(), parameters)
    except psycopg.errors.InsufficientPrivilege as error:
        raise WalRefusedError(
            f"this role may not {what}: {_first_line(error)}; give it the REPLICATION attribute"
        ) from error
    except psycopg.Error as error:
        raise WalError(f"cannot {what}: {_first_line(error)}; look at pg_replication_slots, and retry") from error


def _first_line(error: psycopg.Error) -> str:
    return str(error).partition("\n")[0]
