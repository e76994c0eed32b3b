"""What a database has taken since its safety backup began: a restore in place would lose it, and no copy has it."""

from __future__ import annotations

from collections.abc import Iterable

from include.backup.connections import DatabaseConnection
from include.backup.errors import RestoreRefusedError
from include.backup.postgres.toc import TocEntry
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination
from include.backup.restore.loaded import has_begun
from include.backup.restore.order import RestoreOrder, record_key
from include.backup.restore.safety import safety_context
from include.backup.restore.target import shown
from include.backup.restore.written import Written, began_anew, counts_json, read_written, written, written_since

BEFORE_SAFETY = "written-before-safety"
NOTE_FILE = f"{BEFORE_SAFETY}.json"


def note_before_safety(ctx: RestoreContext, order: RestoreOrder, destination: Destination) -> None:
    """Write down what each table has taken before its safety backup reads it.

    It lies beside the dump, so that a try which finds one, on whatever worker, counts from that very dump.
    """
    steps = safety_context(ctx, destination)
    if steps.manifest_is_stored():
        return
    steps.staging.make()
    with steps.staging.locked():
        if not steps.staging.dump.is_dir():
            steps.staging.write(NOTE_FILE, counts_json(destination.connection, order.database))
        note = steps.staging.need(NOTE_FILE, "dump")
    ctx.store.replace(record_key(order.restore_id, BEFORE_SAFETY), note, encryption=ctx.encryption)


def check_unsaved(
    ctx: RestoreContext, order: RestoreOrder, connection: DatabaseConnection, entries: Iterable[TocEntry]
) -> tuple[str, ...]:
    """Return what the archive's tables have taken since; raises RestoreRefusedError unless the order gives it up.

    Others stay as they are. PostgreSQL's statistics say so, some seconds late; TRUNCATE and changes of the schema are
    not counted.
    """
    before = read_written(ctx.store, order.restore_id, name=BEFORE_SAFETY)
    now = written(connection, order.database, tables=[entry for entry in entries if entry.desc == "TABLE"])
    found = unsaved(before, now)
    changed = "nothing was changed"
    if has_begun(ctx, order):
        found = tuple(f"{item}, unless an earlier try has loaded it" for item in found)
        changed = f"this try has changed nothing, and {order.backup_id} may be in place since the earlier one"
    if found and not order.gives_up_writes:
        raise RestoreRefusedError(
            f"written since the safety backup began, and in no copy: {shown(found)}; stop what writes there and "
            f"trigger a new run, or say give_up_writes; {changed}"
        )
    if found:
        ctx.log.warning("given up, since no copy has it: %s", "; ".join(found))
    return found


def unsaved(before: tuple[Written, ...], now: tuple[Written, ...]) -> tuple[str, ...]:
    """Return what tables took between two looks, in words; of counters that began anew nobody knows it.

    >>> unsaved((), (Written(table="t", inserted=2, updated=1, deleted=0),))
    ('t (2 new, 1 changed, 0 deleted rows)',)
    """
    known = [
        f"{item.table} ({item.inserted} new, {item.updated} changed, {item.deleted} deleted rows)"
        for item in written_since(before, now)
    ]
    return (*known, *(f"{table} (its counters began anew)" for table in began_anew(before, now)))
