"""Databases that restores leave beside others: recorded in the store, so that cleanup can drop them in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from include.backup.errors import ArchiveError, RestoreError, RestoreRefusedError
from include.backup.evidence import EventKind
from include.backup.postgres.session import connect
from include.backup.records import from_json, to_json
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import allowed_destination
from include.backup.restore.order import record_key
from include.backup.restore.sealed import PREFIX
from include.backup.restore.survey import DatabaseFacts, database_facts, obstacles
from include.backup.restore.target_lock import target_lock
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
# The old database of a swap, what was loaded beside it, and what an undo has put aside.
KEPT, BESIDE, UNDONE = "kept", "beside", "undone"
NAMES = (KEPT, BESIDE, UNDONE)
DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDatabase:
    """A database that may be dropped after a time; ``replaced_by`` is the one that has its name now."""

    restore_id: str
    source: str
    server: str
    database: str
    oid: int
    replaced_by: str
    what: str
    drop_after: datetime

    def to_json(self) -> bytes:
        return to_json(self, format_version=FORMAT_VERSION)


def keep(store: ObjectStore, kept: KeptDatabase, *, name: str, encryption: Encryption) -> KeptDatabase:
    """Record a database once; return the record that counts, which an earlier try may have written."""
    key = record_key(kept.restore_id, name)
    if store.head(key) is None:
        store.put_if_absent(key, kept.to_json(), encryption=encryption)
    return read_kept(store.get(key), name=key)


def read_kept(content: bytes, *, name: str) -> KeptDatabase:
    """Read a record; raises FormatVersionError or ManifestError."""
    return from_json(KeptDatabase, content, format_version=FORMAT_VERSION, name=name)


def kept_databases(store: ObjectStore, source: str) -> Iterator[tuple[str, KeptDatabase]]:
    """Yield the databases that were recorded and not yet dropped, each with its record's name.

    One whose record cannot be read is left alone.
    """
    keys = {item.key for item in store.list(f"{PREFIX}/")}
    for key in sorted(keys):
        folder, _, file = key.rpartition("/")
        name = file.removesuffix(".json")
        if name not in NAMES or f"{folder}/{DROPPED}-{file}" in keys:
            continue
        try:
            kept = read_kept(store.get(key), name=key)
        except ArchiveError:
            continue
        if kept.source == source and record_key(kept.restore_id, name) == key:
            yield name, kept


def look_at(ctx: RestoreContext, kept: KeptDatabase) -> DatabaseFacts | None:
    """Return what is there by the name of a kept database, None for nothing.

    Raises RestoreRefusedError when the policy does not allow its server, or when what has replaced it is not there.
    """
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=kept.server, database=kept.replaced_by
    )
    with connect(destination.connection, settings={}) as session:
        return _facts(session, kept)


def drop_kept(ctx: RestoreContext, kept: KeptDatabase, *, name: str = KEPT) -> bool:
    """Drop a recorded database whose time is over, its evidence first; say whether it was still there.

    Raises RestoreRefusedError when it is too early, when sessions are in it, when slots or subscriptions would go
    with it, or when what has replaced it is gone; TargetBusyError when a restore is at work there.
    """
    now = ctx.clock()
    if now < kept.drop_after:
        raise RestoreRefusedError(f"{kept.database} is kept until {kept.drop_after:%Y-%m-%d %H:%M} UTC")
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=kept.server, database=kept.replaced_by
    )
    with target_lock(destination.connection, kept.replaced_by, holder=ctx.holder) as session:
        facts = _facts(session, kept)
        there = facts is not None and facts.oid == kept.oid
        if facts is not None and there:
            if facts.sessions:
                raise RestoreRefusedError(f"{kept.database} is kept: {len(facts.sessions)} sessions are in it")
            _record(ctx, kept, facts, name)
            with connect(destination.connection, settings={}) as own:
                _drop(own, kept.database)
    ctx.store.put_if_absent(record_key(kept.restore_id, f"{DROPPED}-{name}"), kept.to_json(), encryption=ctx.encryption)
    return there


def _facts(session: psycopg.Connection[dict[str, Any]], kept: KeptDatabase) -> DatabaseFacts | None:
    facts = database_facts(session, kept.database)
    if facts is None or facts.oid != kept.oid:
        return facts
    if found := list(obstacles(facts)):
        raise RestoreRefusedError(f"{kept.database} cannot be dropped: {'; '.join(found)}")
    if kept.database == kept.replaced_by or database_facts(session, kept.replaced_by) is None:
        raise RestoreRefusedError(f"{kept.database} is kept: there is no {kept.replaced_by} in its place")
    return facts


def _drop(session: psycopg.Connection[dict[str, Any]], database: str) -> None:
    try:
        # Never WITH (FORCE): whoever has connected meanwhile keeps it.
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
    except psycopg.errors.ObjectInUse as error:
        raise RestoreRefusedError(f"{database} is kept: somebody has connected to it meanwhile") from error
    except psycopg.Error as error:
        raise RestoreError(f"{database} cannot be dropped: {' '.join(str(error).split())}") from error


def _record(ctx: RestoreContext, kept: KeptDatabase, facts: DatabaseFacts, name: str) -> None:
    ctx.ledger.append(
        EventKind.DELETION,
        subject=kept.database,
        actor=ctx.run.actor,
        facts={
            "reason": kept.what,
            "kept_until": kept.drop_after,
            "restore_id": kept.restore_id,
            "server": kept.server,
            "oid": facts.oid,
            "bytes": facts.bytes,
        },
        once=f"deletion:database:{kept.restore_id}:{name}",
    )
