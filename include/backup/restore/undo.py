"""Take a swap back: the old database gets its name again, and what was written since is shown and stays aside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import psycopg

from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.evidence import EventKind
from include.backup.postgres.session import connect
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination, allowed_destination, restore_policy
from include.backup.restore.kept import KEPT, UNDONE, KeptDatabase, keep, kept_databases, read_kept
from include.backup.restore.order import name_beside, record_key
from include.backup.restore.survey import DatabaseFacts, database_facts
from include.backup.restore.swap import SwapReport, reopen, undo_swap
from include.backup.restore.target_lock import target_lock
from include.backup.restore.written import Written, read_written, written, written_since

RESTORE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A swap that can be taken back. ``written`` is what the restored database took since the swap.

    None: nobody can look, since it takes no connections. ``in_place``: the old database has its name, and a swap or an
    undo that was killed has left it closed.
    """

    restore_id: str
    server: str
    database: str
    kept: str
    kept_oid: int
    aside: str
    sessions: int
    written: tuple[Written, ...] | None
    in_place: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def find_undo(ctx: RestoreContext, restore_id: str) -> Undo:
    """Return what would be taken back; raises RestoreRefusedError when the old database is gone, or in its place."""
    kept = _kept(ctx, restore_id)
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=kept.server, database=kept.replaced_by
    )
    with connect(destination.connection, settings={}) as session:
        old, now = database_facts(session, kept.database), database_facts(session, kept.replaced_by)
    # The record is older than the renames: of a swap that failed, and of one that was taken back, it is there too.
    in_place = old is None and now is not None and now.oid == kept.oid
    if in_place and now is not None and now.allows_connections:
        raise RestoreRefusedError(f"{now.name} is what it was before {restore_id}; nothing is to be given back")
    if not in_place and (old is None or old.oid != kept.oid):
        raise RestoreRefusedError(
            f"{kept.database} is gone; restore the safety backup of {restore_id} instead (`list` shows it, unproven)"
        )
    if now is None:
        raise RestoreRefusedError(f"there is no {kept.replaced_by}; rename {kept.database} by hand")
    return Undo(
        restore_id=restore_id,
        server=kept.server,
        database=kept.replaced_by,
        kept=kept.database,
        kept_oid=kept.oid,
        aside=name_beside(kept.replaced_by, "undone", restore_id),
        sessions=len(now.sessions),
        written=_written(ctx, destination, restore_id) if now.allows_connections else None,
        in_place=in_place,
    )


def undo(ctx: RestoreContext, found: Undo, *, end_sessions: bool) -> SwapReport:
    """Take the swap back; raises RestoreRefusedError while somebody is connected, unless told to end them."""
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=found.server, database=found.database
    )
    with target_lock(destination.connection, found.database, holder=ctx.holder) as session:
        if found.in_place:
            return _open_again(ctx, session, found)
        now = database_facts(session, found.database)
        if now is not None and now.sessions and not end_sessions:
            raise RestoreRefusedError(
                f"{len(now.sessions)} sessions are in {found.database}; end them, or add --end-sessions"
            )
        if now is not None:
            _keep_aside(ctx, found, now.oid)
        report = undo_swap(
            session,
            destination.connection,
            database=found.database,
            kept=found.kept,
            aside=found.aside,
            end_sessions=end_sessions,
        )
    count = None if found.written is None else len(found.written)
    _record(ctx, found, {"undone": True, "aside": found.aside, "tables_written": count})
    return report


def closed_by(ctx: RestoreContext, destination: Destination, now: DatabaseFacts) -> str | None:
    """Return the restore whose swap, or undo, has closed a database and was killed; None when it was none of ours."""
    found = []
    with connect(destination.connection, settings={}) as session:
        for name, kept in kept_databases(ctx.store, ctx.source.name):
            if name != KEPT or (kept.server, kept.replaced_by) != (destination.server, now.name):
                continue
            old = database_facts(session, kept.database)
            if (now if old is None else old).oid == kept.oid:
                found.append(kept.restore_id)
    return max(found, default=None)


def _open_again(ctx: RestoreContext, session: psycopg.Connection[dict[str, Any]], found: Undo) -> SwapReport:
    if not reopen(session, database=found.database, oid=found.kept_oid):
        raise RestoreRefusedError(f"{found.database} was opened or replaced by somebody else meanwhile; look who")
    _record(ctx, found, {"reopened": True})
    return SwapReport(database=found.database, kept=found.aside, ended_sessions=0, already_done=True, seconds=0.0)


def _record(ctx: RestoreContext, found: Undo, facts: Mapping[str, Any]) -> None:
    ctx.ledger.append(
        EventKind.RESTORE,
        subject=found.restore_id,
        actor=ctx.run.actor,
        facts={"database": found.database, **facts},
        once=f"undo:{found.restore_id}:{ctx.run.run_id}",
    )


def _written(ctx: RestoreContext, destination: Destination, restore_id: str) -> tuple[Written, ...]:
    return written_since(read_written(ctx.store, restore_id), written(destination.connection, destination.database))


def _keep_aside(ctx: RestoreContext, found: Undo, oid: int) -> None:
    """Record until when what is put aside is kept, before it is: nobody else would ever drop it."""
    keep(
        ctx.store,
        KeptDatabase(
            restore_id=found.restore_id,
            source=ctx.source.name,
            server=found.server,
            database=found.aside,
            oid=oid,
            replaced_by=found.database,
            what="put aside by an undo",
            drop_after=ctx.clock() + timedelta(days=restore_policy(ctx.source).keep_old_days),
        ),
        name=UNDONE,
        encryption=ctx.encryption,
    )


def _kept(ctx: RestoreContext, restore_id: str) -> KeptDatabase:
    if not RESTORE_ID.fullmatch(restore_id):
        raise ParameterError(f"{restore_id!r} is no restore's id; it looks like 20250119T120000Z_3fa9c1")
    key = record_key(restore_id, "kept")
    if ctx.store.head(key) is None:
        raise RestoreRefusedError(f"restore {restore_id} has replaced nothing that was kept; nothing can be given back")
    kept = read_kept(ctx.store.get(key), name=key)
    if kept.source != ctx.source.name:
        raise RestoreRefusedError(f"restore {restore_id} was one of {kept.source}; name that source")
    return kept
