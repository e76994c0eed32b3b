"""Find out what a restore would do, and every reason not to, before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from include.backup.errors import RestoreRefusedError
from include.backup.inventory import standing_of
from include.backup.manifest import Manifest, fingerprint
from include.backup.postgres.session import connect
from include.backup.proof.large_objects import archived_large_objects
from include.backup.proof.record import Proof
from include.backup.restore.context import RestoreContext
from include.backup.restore.destination import Destination, find_destination
from include.backup.restore.erasure import erased_since
from include.backup.restore.history import history_estimate
from include.backup.restore.in_place import own_schemas
from include.backup.restore.in_the_way import in_the_way
from include.backup.restore.order import RestoreOrder, Strategy, TargetBefore, name_beside
from include.backup.restore.plan import RestorePlan, RestoreRequest, plan_restore
from include.backup.restore.survey import (
    DatabaseFacts,
    RowCount,
    count_rows,
    database_facts,
    obstacles,
    publications,
    table_changes,
)
from include.backup.restore.swap import opening
from include.backup.restore.target import Target, shown
from include.backup.restore.target_lock import MEETING_PLACE, target_lock
from include.backup.restore.undo import closed_by
from include.backup.restore.words import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for; every ``bool`` is an explicit yes to something that is refused otherwise."""

    backup_id: str
    where: Where
    server: str | None = None
    database: str | None = None
    in_place: bool = False
    replace: bool = False
    end_sessions: bool = False
    give_up_slots: bool = False
    give_up_writes: bool = False
    unproven: bool = False
    with_roles: bool = False
    dry_run: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What is at the target now; None: nothing."""

    facts: DatabaseFacts
    rows: dict[str, RowCount]
    publications: tuple[str, ...]


def prepare(ctx: RestoreContext, wish: Wish) -> RestoreOrder:
    """Return the order of a restore that nothing speaks against; changes nothing.

    Raises RestoreRefusedError, TargetBusyError, ParameterError, or what reading the archive or the target raises.
    """
    destination = find_destination(
        ctx.policy,
        ctx.source,
        ctx.connections,
        where=wish.where,
        server=wish.server,
        database=wish.database,
        scratch_name=f"restored_{ctx.restore_id}",
    )
    manifest, content = ctx.catalog.read(wish.backup_id)
    proofs = ctx.catalog.proofs(wish.backup_id)
    with target_lock(destination.connection, destination.database, holder=ctx.holder):
        before = _before(ctx, destination)
    strategy = _strategy(wish, destination, before)
    beside = destination.database
    if strategy is not Strategy.NEW:
        beside = name_beside(destination.database, "restored", ctx.restore_id)
    plan = plan_restore(
        RestoreRequest(
            store=ctx.store,
            manifest=manifest,
            standing=standing_of(content, proofs),
            proofs=proofs,
            target=Target(destination.connection, database=beside),
            sources=ctx.sources(),
            create=True,
            with_roles=wish.with_roles,
            unproven=wish.unproven,
            compare=True,
            quarantine=not destination.acts(replaces=strategy is not Strategy.NEW),
            jobs=ctx.jobs,
        )
    )
    refusals = list(_refusals(wish, before)) if strategy is not Strategy.NEW else []
    schemas: tuple[str, ...] = ()
    if strategy is Strategy.IN_PLACE:
        schemas = _schemas(destination, plan)
        refusals += _in_the_way(destination, plan, schemas)
    if refusals and not wish.dry_run:
        raise RestoreRefusedError(f"{destination.database} cannot be replaced as it is: {'; '.join(refusals)}")
    return _order(ctx, wish, destination, plan, before, strategy, fingerprint(content), proofs, refusals, schemas)


def _before(ctx: RestoreContext, destination: Destination) -> Before | None:
    with connect(destination.connection, settings={}) as session:
        facts = database_facts(session, destination.database)
    if facts is None:
        return None
    if not facts.allows_connections:
        raise RestoreRefusedError(_closed(ctx, destination, facts))
    return Before(
        facts=facts,
        rows=count_rows(destination.connection, destination.database),
        publications=publications(destination.connection, destination.database),
    )


def _strategy(wish: Wish, destination: Destination, before: Before | None) -> Strategy:
    if before is None:
        if wish.in_place:
            raise RestoreRefusedError(f"there is no {destination.database} into which to restore in place")
        return Strategy.NEW
    if not wish.in_place and destination.database in (destination.connection.dbname, MEETING_PLACE):
        raise RestoreRefusedError(
            f"{destination.database} cannot be renamed: restores themselves connect to it; let "
            f"{destination.conn_id} lead to another database, or choose in place (`restore --in-place`)"
        )
    if wish.where is not Where.PRODUCTION and not wish.replace:
        raise RestoreRefusedError(
            f"there is a database {destination.database} on {destination.address} already, and it holds "
            f"{sum(count.rows for count in before.rows.values())} rows; give another name, or say replace"
        )
    return Strategy.IN_PLACE if wish.in_place else Strategy.SWAP


def _refusals(wish: Wish, before: Before | None) -> Iterator[str]:
    """Yield what a person has to say yes to, and has not."""
    if before is None:
        return
    facts = before.facts
    # In place nobody's session is ended: what they write is looked for when it matters.
    if facts.sessions and not wish.end_sessions and not wish.in_place:
        shown = ", ".join(facts.sessions[:5])
        yield f"{len(facts.sessions)} sessions are in it ({shown}): end them, or say end_sessions"
    if not wish.give_up_slots:
        for text in obstacles(facts, in_place=wish.in_place):
            yield f"{text}: remove them, or say give_up_slots"


def _closed(ctx: RestoreContext, destination: Destination, facts: DatabaseFacts) -> str:
    """Return who has closed the target, and what opens it."""
    restore_id = closed_by(ctx, destination, facts)
    if restore_id is None:
        return f"{facts.name} takes no connections, and no restore has closed it; {opening(facts.name)} opens it"
    return (
        f"{facts.name} takes no connections: restore {restore_id} closed it and was killed. `restore "
        f"{ctx.source.name} --undo {restore_id}` makes it what it was before; {opening(facts.name)} opens it as it is"
    )


def _order(
    ctx: RestoreContext,
    wish: Wish,
    destination: Destination,
    plan: RestorePlan,
    before: Before | None,
    strategy: Strategy,
    manifest_sha256: str,
    proofs: tuple[Proof, ...],
    refusals: list[str],
    schemas: tuple[str, ...],
) -> RestoreOrder:
    manifest = plan.request.manifest
    replaces = strategy is not Strategy.NEW
    production = destination.production or _is_the_dumped_one(plan, destination)
    guess = history_estimate(ctx.store, manifest, proofs, replaces=replaces)
    return RestoreOrder(
        restore_id=ctx.restore_id,
        source=ctx.source.name,
        backup_id=manifest.backup_id,
        manifest_sha256=manifest_sha256,
        snapshot_time=manifest.dump.snapshot.time,
        standing=plan.request.standing.value,
        connection=destination.conn_id,
        server=destination.server,
        address=destination.address,
        database=destination.database,
        beside=plan.request.target.database,
        kept=name_beside(destination.database, "old", ctx.restore_id),
        strategy=strategy,
        production=production,
        dry_run=wish.dry_run,
        unproven=wish.unproven,
        with_roles=wish.with_roles,
        requested_by=ctx.run.triggered_by or "unknown",
        reason=wish.reason,
        created_at=ctx.clock(),
        target=None if before is None else _target_before(before),
        backup_rows=manifest.rows,
        backup_tables=manifest.tables,
        archive_bytes=manifest.archive.size,
        uncompressed_bytes=manifest.uncompressed_bytes,
        estimated_seconds=guess.seconds,
        estimate_basis=guess.basis,
        erased_subjects=erased_since(ctx.store, ctx.source.name, manifest.dump.snapshot.time),
        changes=table_changes({} if before is None else before.rows, manifest),
        warnings=(
            *plan.preview.warnings,
            *refusals,
            *_left_out(manifest, before, strategy),
            *_window(wish, strategy),
            *_stays_off(destination, strategy, production=production),
        ),
        schemas=schemas,
        gives_up_writes=wish.give_up_writes,
        ends_sessions=wish.end_sessions,
    )


def _schemas(destination: Destination, plan: RestorePlan) -> tuple[str, ...]:
    """Return the schemas that this role may drop and make anew; raises RestoreRefusedError when there is none."""
    with connect(destination.connection, settings={}) as session:
        rows = session.execute(
            "SELECT rolname::text AS name FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, 'USAGE')"
        ).fetchall()
    roles = {str(row["name"]) for row in rows}
    found = own_schemas(plan.toc, may_own=lambda role: role in roles)
    if not found:
        raise RestoreRefusedError(f"{plan.facts.role} owns no schema of {plan.request.manifest.backup_id}")
    return found


def _in_the_way(destination: Destination, plan: RestorePlan, schemas: tuple[str, ...]) -> Iterator[str]:
    """Yield what makes a restore in place fail as a whole, which is better known before."""
    target = Target(destination.connection, database=destination.database)
    if found := in_the_way(target, plan.toc, schemas):
        yield f"the backup does not know {shown(found)}, which keep what it has from being dropped: move them away"


def _target_before(before: Before) -> TargetBefore:
    facts = before.facts
    return TargetBefore(
        oid=facts.oid,
        fingerprint=facts.fingerprint,
        bytes=facts.bytes,
        rows=sum(count.rows for count in before.rows.values()),
        sessions=len(facts.sessions),
        slots=facts.slots,
        subscriptions=facts.subscriptions,
        publications=before.publications,
    )


def _is_the_dumped_one(plan: RestorePlan, destination: Destination) -> bool:
    """Say whether the target is the very database that was dumped, by whatever name its server goes."""
    server = plan.request.manifest.dump.server
    known = server.system_identifier is not None and plan.facts.system_identifier == server.system_identifier
    return known and destination.database == server.database


def _stays_off(destination: Destination, strategy: Strategy, *, production: bool) -> Iterator[str]:
    if production and not destination.production and strategy is not Strategy.IN_PLACE:
        yield (
            "it stays quarantined: its server has the source's identifier, as a clone has, and the policy does not "
            "call it production; cron jobs, webhooks and subscriptions are off until `quarantine release`"
        )


def _left_out(manifest: Manifest, before: Before | None, strategy: Strategy) -> Iterator[str]:
    in_place = strategy is Strategy.IN_PLACE
    excluded = [*manifest.excluded_schemas, *manifest.excluded_tables]
    if before is not None and excluded:
        after = "in place they stay as they are" if in_place else "afterwards they are only in the old database"
        yield f"the backup leaves out {', '.join(excluded)}: {after}"
    if in_place and (objects := archived_large_objects(manifest)):
        yield (
            f"{len(objects)} large objects of the backup are neither restored nor compared in place: what is gone "
            "stays gone, and rows may name it; restore the backup into a scratch database to have them"
        )


def _window(wish: Wish, strategy: Strategy) -> Iterator[str]:
    """Yield what becomes of rows that are written between the safety backup and the restore."""
    if strategy is Strategy.IN_PLACE and wish.give_up_writes:
        yield "whatever is written once the safety backup has begun is lost: no copy has it"
    elif strategy is Strategy.IN_PLACE:
        yield (
            "nobody's session is ended: stop what writes to these schemas before the safety backup begins; whatever is "
            "written later is in no copy, and the restore refuses then"
        )
