"""Databases that restores leave beside others: recorded in the store, so that cleanup can drop them in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from include.backup.errors import ArchiveError, RestoreRefusedError
from include.backup.postgres.session import connect
from include.backup.records import from_json, to_json
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import allowed_destination
from include.backup.restore.order import PREFIX, record_key
from include.backup.restore.survey import database_facts, obstacles
from include.backup.restore.target_lock import target_lock
from include.backup.store import Encryption, ObjectStore

FORMAT_VERSION = 1
NAMES = ("kept", "beside")
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


def kept_databases(store: ObjectStore, source: str) -> Iterator[KeptDatabase]:
    """Yield the databases that were recorded and not yet dropped; one that cannot be read is left alone."""
    keys = {item.key for item in store.list(f"{PREFIX}/")}
    for key in sorted(keys):
        folder, _, name = key.rpartition("/")
        if name.removesuffix(".json") not in NAMES or f"{folder}/{DROPPED}-{name}" in keys:
            continue
        try:
            kept = read_kept(store.get(key), name=key)
        except ArchiveError:
            continue
        if kept.source == source:
            yield kept


def drop_kept(ctx: RestoreContext, kept: KeptDatabase, *, name: str = NAMES[0]) -> bool:
    """Drop a recorded database whose time is over; say whether it was still there.

    Raises RestoreRefusedError when it is too early, when another database has that name now, or when slots or
    subscriptions would go with it.
    """
    now = ctx.clock()
    if now < kept.drop_after:
        raise RestoreRefusedError(f"{kept.database} is kept until {kept.drop_after:%Y-%m-%d %H:%M} UTC")
    destination = allowed_destination(
        ctx.policy, ctx.source, ctx.connections, server=kept.server, database=kept.replaced_by
    )
    with target_lock(destination.connection, kept.replaced_by, holder=ctx.holder) as session:
        facts = database_facts(session, kept.database)
        there = facts is not None and facts.oid == kept.oid
        if facts is not None and there:
            if found := list(obstacles(facts)):
                raise RestoreRefusedError(f"{kept.database} cannot be dropped: {'; '.join(found)}")
            with connect(destination.connection, settings={}) as own:
                own.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(kept.database)))
    ctx.store.put_if_absent(record_key(kept.restore_id, f"{DROPPED}-{name}"), kept.to_json(), encryption=ctx.encryption)
    return there
