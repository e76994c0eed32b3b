"""The steps of a restore that change something: each looks up anew whether it may, and finds what was done before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import psycopg

from include.backup.approval import Approval
from include.backup.archive.reader import ArchiveReader
from include.backup.errors import (
    ApprovalError,
    QuarantineError,
    RestoreDiffersError,
    RestoreRefusedError,
    SourceError,
)
from include.backup.evidence import EventKind
from include.backup.inventory import standing_of
from include.backup.manifest import Manifest, fingerprint
from include.backup.postgres.session import connect
from include.backup.postgres.toc import read_toc
from include.backup.proof.checks import run_checks
from include.backup.quarantine import changed_tables, quarantined, release
from include.backup.records import from_json, to_json
from include.backup.restore.compare import RestoreComparer
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination, restore_policy
from include.backup.restore.kept import BESIDE, KEPT, KeptDatabase, keep
from include.backup.restore.order import RestoreOrder, Strategy, record_key
from include.backup.restore.plan import TOC_MEMBER, RestoreRequest, plan_restore, tools_for_target
from include.backup.restore.progress import Progress
from include.backup.restore.restore import RestoreReport, restore
from include.backup.restore.safety import take_safety_backup
from include.backup.restore.survey import DatabaseFacts, database_facts
from include.backup.restore.swap import SwapReport, SwapRequest, reopen, swap
from include.backup.restore.target import Target, shown
from include.backup.restore.target_lock import target_lock
from include.backup.restore.unsaved import note_before_safety
from include.backup.restore.written import keep_written

FORMAT_VERSION = 1
COMPARED = "compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """That a restored database was compared with its manifest and every row was identical.

    ``warning`` is what a person has yet to do; the record has none.
    """

    seal: str
    database: str
    oid: int
    tables: int
    rows: int
    warning: str = ""

    def line(self, backup_id: str) -> str:
        """Return one line of evidence."""
        more = f"; {self.warning}" if self.warning else ""
        return f"{self.database} holds {backup_id}: {self.tables} tables, {self.rows} rows, every row identical{more}"


def back_up_target(ctx: RestoreContext, order: RestoreOrder) -> dict[str, Any]:
    """Take a safety backup of the database that is about to be replaced."""
    destination = ctx.destination(order)
    with target_lock(destination.connection, order.database, holder=ctx.holder) as session:
        expect_target(database_facts(session, order.database), order)
        if order.strategy is Strategy.IN_PLACE:
            note_before_safety(ctx, order, destination)
        return take_safety_backup(ctx, destination)


def load(ctx: RestoreContext, order: RestoreOrder, *, progress: Progress) -> RestoreReport:
    """Load the backup into a new database beside the target, or as the target when there was none."""
    destination = ctx.destination(order)
    target = Target(destination.connection, database=order.beside)
    with target_lock(destination.connection, order.database, holder=ctx.holder) as session:
        if order.strategy is not Strategy.NEW and database_facts(session, order.beside) is not None:
            # Its name holds this restore's id: an earlier try of this very task has made it.
            ctx.log.warning("removing %s, which an earlier try has left", target.describe())
            target.drop()
        manifest, content = read_backup(ctx, order)
        plan = plan_restore(
            RestoreRequest(
                store=ctx.store,
                manifest=manifest,
                standing=standing_of(content, ctx.catalog.proofs(order.backup_id)),
                proofs=(),
                target=target,
                sources=ctx.sources(),
                create=True,
                with_roles=order.with_roles,
                unproven=order.unproven,
                compare=False,
                jobs=ctx.jobs,
                quarantine=True,
            )
        )
        report = restore(plan, runner=ctx.runner, log=ctx.log, progress=progress, work_root=ctx.staging_root)
        if order.strategy is Strategy.SWAP:
            # The lock's session may have ended in the hours of a load.
            with connect(destination.connection, settings={}) as later:
                _keep(ctx, order, _facts(database_facts(later, order.beside), order.beside).oid, name=BESIDE)
    return report


def compare(ctx: RestoreContext, order: RestoreOrder, seal: str, *, progress: Progress) -> Compared:
    """Compare what was loaded with the manifest, and record that every row is identical; what is new is done then.

    Raises RestoreDiffersError naming what differs; nothing is swapped then.
    """
    destination = ctx.destination(order)
    with connect(destination.connection, settings={}) as session:
        facts = _facts(database_facts(session, order.beside), order.beside)
    if ctx.store.head(_compared_key(order, facts.oid)) is not None:
        compared = require_compared(ctx, order, seal, facts.oid)
    else:
        compared = _compare(ctx, order, seal, facts.oid, progress=progress)
    if order.strategy is Strategy.NEW:
        compared = replace(compared, warning=_let_act(ctx, order, destination))
        record_restore(ctx, order, {"compared_rows": compared.rows, "warning": compared.warning})
    return compared


def _compare(ctx: RestoreContext, order: RestoreOrder, seal: str, oid: int, *, progress: Progress) -> Compared:
    target = ctx.target(order)
    manifest, _ = read_backup(ctx, order)
    reader = ArchiveReader(ctx.store, manifest)
    progress.phase("comparing", manifest.rows, "rows")
    found = RestoreComparer(
        target=target,
        manifest=manifest,
        toc=read_toc(reader.read(TOC_MEMBER)),
        reader=reader,
        tools=tools_for_target(manifest, target.inspect()),
        jobs=ctx.jobs,
        without=changed_tables(quarantined(target.endpoint)),
    ).compare(runner=ctx.runner, progress=progress)
    if found.differences:
        raise RestoreDiffersError(
            f"{target.describe()} differs from what was dumped in {len(found.differences)} places: "
            f"{shown([str(difference) for difference in found.differences])}; it is kept, and nothing was replaced"
        )
    compared = Compared(seal=seal, database=order.beside, oid=oid, tables=found.tables, rows=found.rows)
    content = to_json(compared, format_version=FORMAT_VERSION)
    ctx.store.put_if_absent(_compared_key(order, oid), content, encryption=ctx.encryption)
    return compared


def swap_in(ctx: RestoreContext, order: RestoreOrder, seal: str, *, approve: Callable[[], Approval]) -> SwapReport:
    """Put the restored database in its place.

    The allow-list comes first, then the approval, then the comparison's record, all read anew; ``approve`` raises
    when there is no yes. What an undo needs is written down before the names change: whatever fails afterwards, the
    swap can be taken back. Again, it finds what was done and does the rest.
    """
    destination = ctx.destination(order)
    if order.strategy is not Strategy.SWAP or order.dry_run or order.target is None:
        raise RestoreRefusedError(f"order {seal} asks for no swap; nothing was changed")
    with target_lock(destination.connection, order.database, holder=ctx.holder) as session:
        done = _is_swapped(session, order)
        needed = order.needs_approval or destination.production
        approval = _approved(ctx, seal, approve, done=done) if needed else None
        new = _new_oid(session_facts=lambda name: database_facts(session, name), order=order)
        require_compared(ctx, order, seal, new)
        now = order.database if done else order.beside
        keep_written(ctx.store, order.restore_id, destination.connection, now, encryption=ctx.encryption)
        _keep(ctx, order, order.target.oid, name=KEPT)
        report = swap(
            session,
            destination.connection,
            SwapRequest(
                database=order.database,
                beside=order.beside,
                kept=order.kept,
                database_oid=order.target.oid,
                beside_oid=new,
                end_sessions=order.ends_sessions,
                slots=order.target.slots,
                subscriptions=order.target.subscriptions,
            ),
        )
        ctx.log.info("%s", report.line())
        report = replace(report, warning=_let_act(ctx, order, destination))
    record_restore(ctx, order, {**report.to_dict(), **({} if approval is None else approval.to_dict())})
    return report


def _is_swapped(session: psycopg.Connection[dict[str, Any]], order: RestoreOrder) -> bool:
    kept = database_facts(session, order.kept)
    return order.target is not None and kept is not None and kept.oid == order.target.oid


def _approved(ctx: RestoreContext, seal: str, approve: Callable[[], Approval], *, done: bool) -> Approval | None:
    """Return the yes to exactly this order; what is done needs none again, whose time may be over."""
    try:
        approval = approve()
    except ApprovalError as error:
        if not done:
            raise
        ctx.log.warning("the names were changed before, by a yes that does not count any more: %s", error)
        return None
    approval.require(seal)
    return approval


def _let_act(ctx: RestoreContext, order: RestoreOrder, destination: Destination) -> str:
    """Release what has become production: its jobs and webhooks are wanted again. Any other copy stays quarantined.

    So does what only the cluster's identifier makes production: a clone of that cluster has it too. Returns what a
    person has to do then, or when the release failed: the database is in place all the same.
    """
    acts = destination.acts(replaces=order.strategy is not Strategy.NEW)
    if not acts and (destination.production or not order.production):
        return ""
    target = Target(destination.connection, database=destination.database)
    try:
        if not quarantined(target.endpoint):
            return ""
        if acts:
            released = release(target.endpoint)
            ctx.log.info("released: %s", ", ".join(item.line() for item in released.items))
            return ""
        why = "its server may be a clone, since the policy does not call it production"
    except (QuarantineError, SourceError, psycopg.Error) as error:
        why = " ".join(str(error).split())
    warning = (
        f"{target.describe()} does not act yet ({why}): look, then `quarantine release {ctx.source.name} "
        f"--connection {destination.conn_id} --database {target.database}`"
    )
    ctx.log.warning("%s", warning)
    return warning


def check_afterwards(ctx: RestoreContext, order: RestoreOrder) -> int:
    """Run the verification queries where the restore ended, as people reach it; return how many there were.

    Raises RestoreDiffersError naming those that failed.
    """
    destination = ctx.destination(order)
    target = Target(destination.connection, database=order.database)
    with connect(target.endpoint) as session:
        results = run_checks(session, ctx.source.name)
    for result in results:
        ctx.log.info("%s: %s (%s)", result.name, "passed" if result.passed else "FAILED", result.detail)
    failed = [f"{result.name}: {result.detail}" for result in results if not result.passed]
    if failed:
        undo = f"; `restore {order.source} --undo {order.restore_id}` gives the old database back"
        back = undo if order.strategy is Strategy.SWAP else ""
        raise RestoreDiffersError(f"{target.describe()} is in place and these checks fail: {shown(failed)}{back}")
    return len(results)


def keep_old(ctx: RestoreContext, order: RestoreOrder) -> KeptDatabase:
    """Return until when the replaced database is kept, as the swap has recorded it."""
    destination = ctx.destination(order)
    with connect(destination.connection, settings={}) as session:
        return _keep(ctx, order, _facts(database_facts(session, order.kept), order.kept).oid, name=KEPT)


def reopen_target(ctx: RestoreContext, order: RestoreOrder) -> bool:
    """Let people connect again when a swap was killed after it had closed the target; say whether it had to."""
    if order.target is None:
        return False
    destination = ctx.destination(order)
    with target_lock(destination.connection, order.database, holder=ctx.holder) as session:
        new = database_facts(session, order.database)
        if new is not None and not new.allows_connections and database_facts(session, order.kept) is not None:
            return reopen(session, database=order.database, oid=new.oid)
        return reopen(session, database=order.database, oid=order.target.oid)


def read_backup(ctx: RestoreContext, order: RestoreOrder) -> tuple[Manifest, bytes]:
    """Return the manifest that the order is about; raises RestoreRefusedError when it is another one now."""
    manifest, content = ctx.catalog.read(order.backup_id)
    if fingerprint(content) != order.manifest_sha256:
        raise RestoreRefusedError(f"the manifest of {order.backup_id} is not what was shown; trigger a new run")
    return manifest, content


def require_compared(ctx: RestoreContext, order: RestoreOrder, seal: str, oid: int) -> Compared:
    """Return the record that exactly this database was compared; raises RestoreRefusedError without one.

    A task that was only marked as a success has left none.
    """
    key = _compared_key(order, oid)
    if ctx.store.head(key) is None:
        raise RestoreRefusedError(
            f"nobody has compared {order.beside} with its manifest, whatever the tasks' states say; "
            "clear the comparison"
        )
    found = from_json(Compared, ctx.store.get(key), format_version=FORMAT_VERSION, name=key)
    if (found.seal, found.oid) != (seal, oid):
        raise RestoreRefusedError(f"{key} is about another restore; clear the comparison")
    return found


def expect_target(facts: DatabaseFacts | None, order: RestoreOrder) -> None:
    """Raise RestoreRefusedError unless the target is the very database that the preview saw."""
    expected = None if order.target is None else order.target.oid
    found = None if facts is None else facts.oid
    if found != expected:
        raise RestoreRefusedError(
            f"{order.database} is another database than the preview saw (oid {found}, not {expected}): somebody has "
            "replaced it meanwhile; nothing was changed, trigger a new run"
        )


def record_restore(ctx: RestoreContext, order: RestoreOrder, facts: dict[str, Any]) -> None:
    """Leave the evidence of what was restored, who asked, and who agreed."""
    ctx.ledger.append(
        EventKind.RESTORE,
        subject=order.restore_id,
        actor=ctx.run.actor,
        facts={
            "backup_id": order.backup_id,
            "database": order.database,
            "address": order.address,
            "production": order.production,
            "strategy": order.strategy.value,
            "requested_by": order.requested_by,
            "reason": order.reason,
            **facts,
        },
        once=f"restore:{order.restore_id}",
    )


def _new_oid(session_facts: Callable[[str], DatabaseFacts | None], order: RestoreOrder) -> int:
    """Return the restored database's oid, by the name that it has before the swap or after it."""
    beside = session_facts(order.beside)
    if beside is not None:
        return beside.oid
    if session_facts(order.kept) is not None:
        return _facts(session_facts(order.database), order.database).oid
    raise RestoreRefusedError(f"there is no {order.beside}; nothing was changed, trigger a new run")


def _keep(ctx: RestoreContext, order: RestoreOrder, oid: int, *, name: str) -> KeptDatabase:
    days = timedelta(days=restore_policy(ctx.source).keep_old_days)
    return keep(
        ctx.store,
        KeptDatabase(
            restore_id=order.restore_id,
            source=order.source,
            server=order.server,
            database=order.kept if name == KEPT else order.beside,
            oid=oid,
            replaced_by=order.database,
            what="replaced by a restore" if name == KEPT else "restored beside, and not swapped in",
            drop_after=ctx.clock() + days,
        ),
        name=name,
        encryption=ctx.encryption,
    )


def _facts(facts: DatabaseFacts | None, name: str) -> DatabaseFacts:
    if facts is None:
        raise RestoreRefusedError(f"there is no database {name}; nothing was changed, trigger a new run")
    return facts


def _compared_key(order: RestoreOrder, oid: int) -> str:
    return record_key(order.restore_id, f"{COMPARED}-{oid}")
