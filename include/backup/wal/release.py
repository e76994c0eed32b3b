"""Let go of a source: remove its slots, which else keep WAL until its disk is full, or until they are lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from include.backup.connections import DatabaseConnection
from include.backup.postgres.session import connect
from include.backup.store import Encryption, ObjectStore
from include.backup.wal.keys import run_key
from include.backup.wal.record import RunRecord, State, newest_record, recorded_sources
from include.backup.wal.slots import Slot, drop_slot, read_slot


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftSource:
    """A source that has left the policy, and whose slots may still keep WAL on its server."""

    source: str
    system_identifier: str
    connection: str
    slots: tuple[str, str]
    last_run: datetime

    def line(self) -> str:
        return (
            f"{self.source} has left the policy and its slot {self.slots[0]} may still keep WAL on the server of "
            f"{self.connection}; run `python -m include.backup wal {self.source} --drop-slots`"
        )


def left_sources(store: ObjectStore, *, kept: Collection[str]) -> tuple[LeftSource, ...]:
    """Return the sources with records that the policy does not stream WAL of any more, unless their slots were removed.

    ``kept`` are the policy's sources with an incremental block.
    """
    found = []
    for source in recorded_sources(store):
        last = None if source in kept else newest_record(store, source)
        if last is not None and last.state is not State.RELEASED:
            found.append(
                LeftSource(
                    source=source,
                    system_identifier=last.system_identifier,
                    connection=last.connection,
                    slots=(last.hold_slot, last.run_slot),
                    last_run=last.finished_at,
                )
            )
    return tuple(found)


def slots_of(database: DatabaseConnection, names: tuple[str, ...]) -> tuple[Slot, ...]:
    """Return those of the slots that are there."""
    with connect(database) as connection:
        found = [read_slot(connection, name) for name in names]
    return tuple(slot for slot in found if slot is not None)


def release(
    store: ObjectStore,
    database: DatabaseConnection,
    *,
    names: tuple[str, ...],
    last: RunRecord | None,
    encryption: Encryption,
    now: datetime,
) -> tuple[str, ...]:
    """Remove the slots and write that down; return those that were there. WAL that is stored stays."""
    with connect(database) as connection:
        removed = tuple(name for name in names if drop_slot(connection, name))
    if last is not None and last.state is not State.RELEASED:
        record = replace(last, run_after=now, finished_at=now, state=State.RELEASED, broken=(), alarms=(), warnings=())
        store.put_if_absent(
            run_key(last.source, now, f"{now.microsecond:06x}"), record.to_json(), encryption=encryption
        )
    return removed
