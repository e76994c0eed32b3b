"""Mark a run in the log: a commit to recover to, and the end of a segment.

A run needs both. ``--endpos`` at the current position waits for ever on an idle server, and a recovery target after
the last commit ends a recovery with a failure: so each run commits something, and what it commits says when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from include.backup.errors import WalError
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.segments import Segment

PREFIX = "pulse_backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A run's commit in the log: ``lsn`` is behind it, ``time`` is not after it.

    ``end`` is where the run may stop: the end of the segment that was switched away from, or, when this role may
    not switch, a position behind the commit that some segment has only the beginning of.
    """

    lsn: int
    time: datetime
    end: int
    switched: bool


def mark_run(
    connection: psycopg.Connection[dict[str, Any]], run_id: str, *, segment_size: int, switch: bool
) -> RunMark:
    """Commit the run's id to the log, and end the segment if ``switch``."""
    with connection.transaction():
        # A mark that is not on the source's disk yet is not sent either, and the run would wait for it.
        connection.execute("SET LOCAL synchronous_commit = 'local'")
        connection.execute("SELECT pg_logical_emit_message(true, %s, %s)", (PREFIX, run_id))
        time = _one(connection, "SELECT clock_timestamp() AS value")
    lsn = parse_lsn(_one(connection, "SELECT pg_current_wal_flush_lsn() AS value"))
    if not switch:
        return RunMark(lsn=lsn, time=time, end=lsn, switched=False)
    switched = parse_lsn(_one(connection, "SELECT pg_switch_wal() AS value"))
    # At a bound, another session has switched meanwhile: the mark is in the segment before it.
    end = Segment.before(switched, timeline=1, size=segment_size).end
    return RunMark(lsn=lsn, time=time, end=end, switched=True)


def _one(connection: psycopg.Connection[dict[str, Any]], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    if row is None:
        raise WalError(f"the source gave no answer to {statement!r}; retry")
    return row["value"]
