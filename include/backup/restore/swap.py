"""Put a restored database in the place of another one, by name, in one transaction; and take that back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.backup.connections import DatabaseConnection
from include.backup.errors import RestoreRefusedError, SourceError, SwapError
from include.backup.postgres.session import connect
from include.backup.restore.properties import carry_over
from include.backup.restore.survey import DatabaseFacts, database_facts

SESSIONS_GONE_SECONDS = 30.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapRequest:
    """``beside`` takes the place of ``database``, which stays as ``kept``.

    The oids are what was agreed to; so is whether sessions are ended, and which slots and subscriptions are given up.
    """

    database: str
    beside: str
    kept: str
    database_oid: int
    beside_oid: int
    end_sessions: bool
    slots: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    carry_properties: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapReport:
    """What a swap did; ``seconds`` is how long nobody could connect, ``warning`` what a person has yet to do."""

    database: str
    kept: str
    ended_sessions: int
    already_done: bool
    seconds: float
    warning: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        more = f"; {self.warning}" if self.warning else ""
        if self.already_done:
            return f"{self.database} was swapped before; the old one is {self.kept}{more}"
        return (
            f"{self.database} is the restored one now, the old one is {self.kept}; "
            f"{self.ended_sessions} sessions were ended, nobody could connect for {self.seconds:.2f} s{more}"
        )


def swap(
    session: psycopg.Connection[dict[str, Any]], connection: DatabaseConnection, request: SwapRequest
) -> SwapReport:
    """Swap; ``session`` is beside both databases, and ``connection`` opens another one should it break.

    Raises RestoreRefusedError when the databases are not those that were agreed to, SwapError when it failed: then
    everything has its old name again and takes connections.
    """
    if _is_done(session, request):
        _allow(session, request.database, True)
        return SwapReport(
            database=request.database, kept=request.kept, ended_sessions=0, already_done=True, seconds=0.0
        )
    _check(session, request)
    if request.carry_properties:
        carry_over(session, source=request.database, target=request.beside)
    with _reopened_on_failure(connection, request):
        started = time.monotonic()
        ended = _close(session, request)
        with session.transaction():
            _rename(session, request.database, request.kept)
            _rename(session, request.beside, request.database)
        _allow(session, request.database, True)
        seconds = time.monotonic() - started
    return SwapReport(
        database=request.database,
        kept=request.kept,
        ended_sessions=ended,
        already_done=False,
        seconds=round(seconds, 3),
    )


def undo_swap(
    session: psycopg.Connection[dict[str, Any]],
    connection: DatabaseConnection,
    *,
    database: str,
    kept: str,
    aside: str,
    end_sessions: bool,
) -> SwapReport:
    """Give the old database its name back; the restored one stays as ``aside``, with what was written since."""
    now, old = database_facts(session, database), database_facts(session, kept)
    if now is None or old is None:
        raise RestoreRefusedError(f"{database if now is None else kept} is not there; nothing can be taken back")
    request = SwapRequest(
        database=database,
        beside=kept,
        kept=aside,
        database_oid=now.oid,
        beside_oid=old.oid,
        end_sessions=end_sessions,
        slots=now.slots,
        subscriptions=now.subscriptions,
        carry_properties=False,
    )
    return swap(session, connection, request)


def reopen(session: psycopg.Connection[dict[str, Any]], *, database: str, oid: int) -> bool:
    """Let people connect again to a database that a swap closed and never came to rename; say whether it had to."""
    facts = database_facts(session, database)
    if facts is None or facts.oid != oid or facts.allows_connections:
        return False
    _allow(session, database, True)
    return True


def opening(database: str) -> str:
    """Return the statement by which a person opens a database.

    >>> opening("Shop")
    'ALTER DATABASE "Shop" WITH ALLOW_CONNECTIONS true'
    """
    return _allowing(database, True).as_string(None)


def _is_done(session: psycopg.Connection[dict[str, Any]], request: SwapRequest) -> bool:
    now, old = database_facts(session, request.database), database_facts(session, request.kept)
    return now is not None and old is not None and (now.oid, old.oid) == (request.beside_oid, request.database_oid)


def _check(session: psycopg.Connection[dict[str, Any]], request: SwapRequest) -> None:
    _expect(database_facts(session, request.database), request.database, request.database_oid)
    _expect(database_facts(session, request.beside), request.beside, request.beside_oid)
    _expect_nothing_new(session, request)
    if database_facts(session, request.kept) is not None:
        raise RestoreRefusedError(f"there is a database {request.kept} already; rename or drop it; nothing was changed")


def _expect(facts: DatabaseFacts | None, name: str, oid: int) -> None:
    if facts is None:
        raise RestoreRefusedError(f"there is no database {name} any more; nothing was changed, trigger a new run")
    if facts.oid != oid:
        raise RestoreRefusedError(
            f"{name} is another database than the preview saw (oid {facts.oid}, not {oid}): somebody has replaced it "
            "meanwhile; nothing was changed, trigger a new run"
        )
    if facts.prepared:
        raise RestoreRefusedError(
            f"{name} has the prepared transactions {', '.join(facts.prepared[:3])}; commit or roll them back; "
            "nothing was changed"
        )


def _expect_nothing_new(session: psycopg.Connection[dict[str, Any]], request: SwapRequest) -> None:
    """Raise RestoreRefusedError for what came since people were asked: approval and safety backup may take hours."""
    facts = database_facts(session, request.database)
    if facts is None:
        return
    slots = [f"the logical slot {name}" for name in facts.slots if name not in request.slots]
    subscriptions = [f"the subscription {name}" for name in facts.subscriptions if name not in request.subscriptions]
    if new := [*slots, *subscriptions]:
        raise RestoreRefusedError(
            f"{', '.join(new)} of {request.database} came after the preview; remove what came, or trigger a new run; "
            "nothing was changed"
        )
    if facts.sessions and not request.end_sessions:
        raise RestoreRefusedError(
            f"{len(facts.sessions)} sessions are in {request.database} ({', '.join(facts.sessions[:5])}), and nobody "
            "agreed to end them: end them and try again, or trigger a new run and say end_sessions; nothing was changed"
        )


def _close(session: psycopg.Connection[dict[str, Any]], request: SwapRequest) -> int:
    """Let nobody connect to both databases, and end the sessions that are there; return how many."""
    ended: set[int] = set()
    names = [request.database, request.beside]
    for name in names:
        _allow(session, name, False)
    _expect_nothing_new(session, request)
    deadline = time.monotonic() + SESSIONS_GONE_SECONDS
    while True:
        # Autovacuum's workers, which have no user, are a superuser's to end; RENAME ends and awaits them itself
        # (CountOtherDBBackends in PostgreSQL's source).
        rows = session.execute(
            "SELECT pid, pg_terminate_backend(pid) AS asked FROM pg_stat_activity"
            " WHERE datname = ANY(%s) AND usesysid IS NOT NULL",
            (names,),
        ).fetchall()
        if not rows:
            return len(ended)
        ended |= {row["pid"] for row in rows}
        if time.monotonic() > deadline:
            pids = ", ".join(str(row["pid"]) for row in rows[:5])
            raise SwapError(f"the sessions {pids} of {request.database} do not end; end them and try again")
        time.sleep(POLL_SECONDS)


@contextmanager
def _reopened_on_failure(connection: DatabaseConnection, request: SwapRequest) -> Iterator[None]:
    """Undo what a failed swap has done so far: the names go back by themselves, with their transaction."""
    try:
        yield
    except BaseException as error:
        undone = _undo(connection, request)
        if isinstance(error, (psycopg.Error, SwapError)):
            text = " ".join(str(error).split())
            raise SwapError(f"the swap of {request.database} failed ({text}); {undone}") from error
        raise


def _undo(connection: DatabaseConnection, request: SwapRequest) -> str:
    try:
        with connect(connection, settings={}) as session:
            if _is_done(session, request):
                _allow(session, request.database, True)
                return "yet both names were changed, and the restored one is in place"
            reopen(session, database=request.database, oid=request.database_oid)
            if request.carry_properties:  # an old database that was to come back was closed before, and stays so
                reopen(session, database=request.beside, oid=request.beside_oid)
            return "it was undone: everything has its old name and takes connections"
    except (psycopg.Error, SourceError) as error:
        return (
            f"and nobody could undo it ({' '.join(str(error).split())}): run {opening(request.database)} as soon as "
            "the server answers"
        )


def _rename(session: psycopg.Connection[dict[str, Any]], old: str, new: str) -> None:
    session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def _allow(session: psycopg.Connection[dict[str, Any]], database: str, allowed: bool) -> None:
    session.execute(_allowing(database, allowed))


def _allowing(database: str, allowed: bool) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(sql.Identifier(database), sql.Literal(allowed))
