"""Take a swap back: the old database gets its name again, and what was written since is shown and stays aside."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.evidence import EventKind
from include.backup.postgres.session import connect
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import allowed_destination, restore_policy
from include.backup.restore.kept import UNDONE, KeptDatabase, keep, read_kept
from include.backup.restore.order import name_beside, record_key
from include.backup.restore.survey import database_facts
from include.backup.restore.swap import SwapReport, undo_swap
from include.backup.restore.target_lock import target_lock
from include.backup.restore.written import Written, read_written, written, written_since

RESTORE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A swap that can be taken back. ``written`` is what the restored database took since the swap."""

    restore_id: str
    server: str
    database: str
    kept: str
    kept_oid: int
    aside: str
    sessions: int
    written: tuple[Written, ...]

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
    if old is None and now is not None and now.oid == kept.oid:
        raise RestoreRefusedError(f"{now.name} is what it was before {restore_id}; nothing is to be given back")
    if old is None or old.oid != kept.oid:
        raise RestoreRefusedError(
            f"{kept.database} is gone; restore the safety backup of {restore_id} instead (`list` shows it)"
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
        written=written_since(read_written(ctx.store, restore_id), written(destination.connection, kept.replaced_by)),
    )


def undo(ctx: RestoreContext, found: Undo, *, end_sessions: bool) -> SwapReport:
    """Take the swap back; raises RestoreRefusedError while somebody is connected, unless told to end them."""
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=found.server, database=found.database
    )
    with target_lock(destination.connection, found.database, holder=ctx.holder) as session:
        now = database_facts(session, found.database)
        if now is not None and now.sessions and not end_sessions:
            raise RestoreRefusedError(
                f"{len(now.sessions)} sessions are in {found.database}; end them, or add --end-sessions"
            )
        if now is not None:
            _keep_aside(ctx, found, now.oid)
        report = undo_swap(session, destination.connection, database=found.database, kept=found.kept, aside=found.aside)
    ctx.ledger.append(
        EventKind.RESTORE,
        subject=found.restore_id,
        actor=ctx.run.actor,
        facts={"undone": True, "database": found.database, "aside": found.aside, "tables_written": len(found.written)},
        once=f"undo:{found.restore_id}:{ctx.run.run_id}",
    )
    return report


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
