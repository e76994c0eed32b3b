"""A restore into production without Airflow: beside, compared, swapped; and what happens when it fails on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    AmbiguousChoiceError,
    ApprovalError,
    BackupMissingError,
    ParameterError,
    RestoreDiffersError,
    RestoreRefusedError,
    SwapError,
    TargetBusyError,
    TargetFullError,
)
from include.backup.evidence.check import check_ledger
from include.backup.holds import add_hold, release_hold
from include.backup.policy import RestoreServer
from include.backup.postgres.account import give, source_user
from include.backup.restore import swap as swapping
from include.backup.restore.choice import Choice, choose, parse_time
from include.backup.restore.context import RestoreContext
from include.backup.restore.kept import drop_kept, kept_databases
from include.backup.restore.order import Strategy
from include.backup.restore.properties import read_properties
from include.backup.restore.swap import undo_swap
from include.backup.restore.target_lock import target_lock
from include.backup.restore.words import Choosing, Where
from include.backup.restore.work import (
    back_up_target,
    check_afterwards,
    compare,
    keep_old,
    load,
    reopen_target,
    require_compared,
    swap_in,
)
from include.backup.retention.cleanup import CleanupContext, plan_cleanup
from include.backup.retention.databases import Fate
from include.backup.retention.execute import dry_run, execute
from include.backup.steps.context import Release, utc_now
from include.local.stack import Stack
from tests.integration.servers import enterable_folder
from tests.support import source15 as fifteen
from tests.support.command_line import Server
from tests.support.restores import QUIET, RestoreLab, make_lab, yes
from tests.support.small_disk import mounted_disk
from tests.support.small_sources import SmallSource

pytest_plugins = ["tests.support.cli_fixtures"]
NAMES = ("prod_swap", "prod_fail", "prod_bad", "prod_release", "prod_acts", "prod_kept")
# What a database itself may have, each thing awkward in its own way.
OWN_PROPERTIES = """
DO $$ BEGIN CREATE ROLE "Odd, ""role" NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER DATABASE prod_swap OWNER TO "Odd, ""role";
GRANT CONNECT ON DATABASE prod_swap TO pulse_backup WITH GRANT OPTION;
REVOKE TEMPORARY ON DATABASE prod_swap FROM PUBLIC;
COMMENT ON DATABASE prod_swap IS 'it''s {production}';
ALTER DATABASE prod_swap CONNECTION LIMIT 77;
ALTER DATABASE prod_swap SET search_path TO "$user", public, "a, b";
ALTER DATABASE prod_swap SET work_mem TO '7MB';
ALTER DATABASE prod_swap SET my.setting TO 'x y''z';
ALTER ROLE pulse_backup IN DATABASE prod_swap SET statement_timeout TO '9min';
"""


@pytest.fixture(scope="module")
def lab(stack: Stack, cli_server: Server, state_dir: Path) -> Iterator[RestoreLab]:
    made = make_lab(
        {name: SmallSource(name=name) for name in NAMES},
        superuser=cli_server.superuser,
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=state_dir / "restores",
        conninfo=stack.source.superuser_conninfo,
    )
    before = made.databases()
    yield made
    for name in (made.databases() - before) | {*NAMES, "small"}:
        made.drop(name)


@pytest.fixture(scope="module")
def failing(lab: RestoreLab) -> str:
    """A backup of the source whose restores fail; production has changed since."""
    backup_id = lab.backup("prod_fail")
    lab.value("prod_fail", "UPDATE orders SET note = 'later' WHERE id = 1 RETURNING id")
    return backup_id


def properties(lab: RestoreLab, database: str) -> Any:
    from include.backup.postgres.session import connect

    with connect(lab.superuser, settings={}) as session:
        return read_properties(session, database)


def kept_names(ctx: RestoreContext, source: str) -> set[str]:
    return {kept.database for _, kept in kept_databases(ctx.store, source)}


def cleanup(lab: RestoreLab, source: str, *, days: int) -> CleanupContext:
    """Return the context of a cleanup some days from now."""
    ctx = lab.context(source, clock=lambda: utc_now() + timedelta(days=days))
    return CleanupContext(
        source=ctx.source,
        store=ctx.store,
        ledger=ctx.ledger,
        encryption=ctx.encryption,
        actor="a test",
        log=ctx.log,
        restores=lambda: ctx,
        clock=ctx.clock,
    )


def evidence(lab: RestoreLab, source: str) -> dict[str, int]:
    found = check_ledger(lab.context(source).store, source)
    assert found.intact, found.findings
    return dict(found.kinds)


# --- the good way ----------------------------------------------------------------------------------


def test_production_becomes_what_the_backup_has_and_keeps_what_is_its_own(lab: RestoreLab) -> None:
    with lab.session("postgres") as session:
        session.execute(OWN_PROPERTIES)
    good = lab.state("prod_swap")
    backup_id = lab.backup("prod_swap", prove=True)
    lab.value("prod_swap", "DELETE FROM orders WHERE id > 10 RETURNING 1")
    lab.do("prod_swap", "CREATE PUBLICATION all_orders FOR TABLE orders")
    own = properties(lab, "prod_swap")
    ctx = lab.context("prod_swap")
    order, seal = lab.ordered(ctx, backup_id=choose(ctx.catalog, "prod_swap", Choice(how=Choosing.LATEST_PROVEN)))
    assert (order.backup_id, order.strategy, order.production, order.needs_approval) == (
        backup_id,
        Strategy.SWAP,
        True,
        True,
    )
    assert order.target is not None
    assert (order.target.rows, order.target.publications) == (510, ("all_orders",))
    assert next(change for change in order.changes if change.table == "public.orders").now == 10
    assert "its restore test of" in order.estimate_basis
    assert seal in order.question().text

    safety = back_up_target(ctx, order)
    with lab.session("prod_swap") as person:
        load(ctx, order, progress=QUIET)
        assert compare(ctx, order, seal, progress=QUIET).rows == order.backup_rows
        assert lab.state("prod_swap")["orders"] == 10
        report = swap_in(ctx, order, seal, approve=lambda: yes(seal))
        with pytest.raises(psycopg.OperationalError):
            person.execute("SELECT 1")
    assert (report.kept, report.already_done) == (order.kept, False)
    assert report.ended_sessions >= 1
    found = lab.state("prod_swap")
    assert (found["orders"], found["notes"], found["open"]) == (good["orders"], good["notes"], True)
    assert found["oid"] != order.target.oid
    assert properties(lab, "prod_swap") == own
    assert own.connection_limit == 77
    assert check_afterwards(ctx, order) >= 2
    # The old one is there, takes nobody in, and its end is written down.
    assert lab.value("postgres", f"SELECT datallowconn FROM pg_database WHERE datname = '{order.kept}'") is False
    kept = keep_old(ctx, order)
    assert keep_old(ctx, order) == kept
    assert (kept.database, kept.oid) == (order.kept, order.target.oid)
    assert order.kept in kept_names(ctx, "prod_swap")
    # A second try finds what was done.
    again = swap_in(ctx, order, seal, approve=lambda: yes(seal))
    assert again.already_done
    assert lab.state("prod_swap") == found
    assert ctx.catalog.manifest(safety["backup_id"]).rows == 510
    assert evidence(lab, "prod_swap")["restore"] == 1
    with pytest.raises(RestoreRefusedError, match="is kept until"):
        drop_kept(ctx, kept)


def test_cleanup_drops_what_a_swap_has_kept_when_its_time_is_over_and_nothing_else(lab: RestoreLab) -> None:
    ctx = lab.context("prod_kept")
    order, seal = lab.loaded(ctx, backup_id=lab.backup("prod_kept"))
    safety = back_up_target(ctx, order)["backup_id"]
    swap_in(ctx, order, seal, approve=lambda: yes(seal))
    keep_old(ctx, order)
    # Of the same pattern, and made by somebody else.
    foreign = order.kept[:-6] + "000000"
    with lab.session("postgres") as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(foreign)))
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(order.kept)))
    there = lab.databases()

    def fate(cleaning: CleanupContext) -> tuple[Fate, str]:
        found = {one.name: one for one in plan_cleanup(cleaning).databases}
        return found["kept"].fate, found["kept"].why

    assert fate(cleanup(lab, "prod_kept", days=6))[0] is Fate.WITHIN
    later = cleanup(lab, "prod_kept", days=8)
    assert fate(later) == (Fate.KEPT, "no full backup of later than that restore is proven")
    assert safety in {one.backup.backup_id for one in plan_cleanup(later).decisions if not one.expires}
    lab.backup("prod_kept", prove=True)
    hold = add_hold(
        ctx.store,
        ctx.ledger,
        encryption=ctx.encryption,
        backup_id=safety,
        reason="investigation 12",
        set_by="ann",
        now=utc_now(),
    )
    assert fate(later)[0] is Fate.KEPT
    assert "investigation 12" in fate(later)[1]
    release_hold(
        ctx.store,
        ctx.ledger,
        encryption=ctx.encryption,
        hold_id=hold.hold_id,
        released_by="ann",
        reason="it is over",
        now=utc_now(),
    )
    early = plan_cleanup(later)
    with lab.session(order.kept):
        assert "sessions are in it" in fate(later)[1]
        # Whoever came after the plan was made keeps it as well.
        assert "sessions are in it" in execute(later, replace(early, decisions=())).skipped[0]
    plan = plan_cleanup(later)
    shown = dry_run(later, plan)
    assert [one.name for one in shown.removed if one.what == "database"] == [order.kept]
    assert lab.databases() == there
    done = execute(later, plan)
    assert done.failures == ()
    assert {one.name for one in done.removed} >= {order.kept, safety}
    assert lab.databases() == there - {order.kept}
    assert kept_names(ctx, "prod_kept") == set()
    assert plan_cleanup(later).databases == ()
    assert check_ledger(ctx.store, "prod_kept").subjects["deletion"] >= {order.kept, safety}


def test_production_acts_while_its_copy_beside_does_not_and_what_takes_its_place_acts_again(lab: RestoreLab) -> None:
    lab.do(
        "prod_acts",
        "CREATE SCHEMA net; CREATE TABLE net.http_request_queue (id bigserial, url text);"
        "CREATE FUNCTION net.http_post(url text) RETURNS bigint LANGUAGE sql AS"
        " 'INSERT INTO net.http_request_queue (url) VALUES (url) RETURNING id';"
        "CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM net.http_post(TG_NAME); RETURN NEW; END';"
        "CREATE TRIGGER webhook AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION public.tell()",
    )
    ctx = lab.context("prod_acts")
    order, seal = lab.ordered(ctx, backup_id=lab.backup("prod_acts", prove=True))
    load(ctx, order, progress=QUIET)
    insert = "INSERT INTO orders (customer, note) VALUES (1, 'x') RETURNING id"
    queued = "SELECT count(*) FROM net.http_request_queue"
    compare(ctx, order, seal, progress=QUIET)
    with lab.session(order.beside) as session, session.transaction(force_rollback=True):
        session.execute(insert.encode())
        assert session.execute(queued.encode()).fetchone() == (0,)
    lab.value("prod_acts", insert)
    assert lab.value("prod_acts", queued) == 1
    swap_in(ctx, order, seal, approve=lambda: yes(seal))
    assert lab.value("prod_acts", queued) == 0
    lab.value("prod_acts", insert)
    assert lab.value("prod_acts", queued) == 1


def test_a_swap_can_be_taken_back_and_what_was_written_since_stays_aside(lab: RestoreLab, failing: str) -> None:
    before = lab.state("prod_fail")
    ctx = lab.context("prod_fail")
    order, seal = lab.loaded(ctx, backup_id=failing)
    swap_in(ctx, order, seal, approve=lambda: yes(seal))
    lab.value("prod_fail", "INSERT INTO orders (customer, note) VALUES (1, 'since') RETURNING 1")
    with target_lock(lab.superuser, "prod_fail", holder="a test") as session:
        undo_swap(session, lab.superuser, database="prod_fail", kept=order.kept, aside="prod_fail_aside")
    assert lab.state("prod_fail") == before
    with lab.session("postgres") as session:
        session.execute("ALTER DATABASE prod_fail_aside WITH ALLOW_CONNECTIONS true")
    assert lab.value("prod_fail_aside", "SELECT count(*) FROM orders WHERE note = 'since'") == 1


def test_a_lost_production_database_is_made_anew_under_its_name(lab: RestoreLab) -> None:
    backup_id = lab.backup("prod_release")
    good = lab.state("prod_release")
    lab.drop("prod_release")
    ctx = lab.context("prod_release")
    order, seal = lab.ordered(ctx, backup_id=backup_id)
    assert (order.strategy, order.needs_approval, order.beside) == (Strategy.NEW, False, "prod_release")
    load(ctx, order, progress=QUIET)
    compare(ctx, order, seal, progress=QUIET)
    found = lab.state("prod_release")
    assert (found["orders"], found["notes"]) == (good["orders"], good["notes"])
    with pytest.raises(RestoreRefusedError, match="asks for no swap"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))


# --- what fails on the way -------------------------------------------------------------------------


def test_a_backend_killed_between_the_renames_leaves_production_as_it_was(
    lab: RestoreLab, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, databases = lab.state("prod_fail"), lab.databases()
    ctx = lab.context("prod_fail")
    order, seal = lab.loaded(ctx, backup_id=failing)
    rename, renamed = swapping._rename, []

    def killed(session: psycopg.Connection[Any], old: str, new: str) -> None:
        if renamed:
            with lab.session("postgres") as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
        rename(session, old, new)
        renamed.append(old)

    monkeypatch.setattr(swapping, "_rename", killed)
    with pytest.raises(SwapError, match="it was undone: everything has its old name"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))
    assert renamed == ["prod_fail"]
    assert lab.state("prod_fail") == before
    assert lab.databases() == databases | {order.beside}
    # The same task, cleared, gets to the end.
    monkeypatch.setattr(swapping, "_rename", rename)
    assert swap_in(ctx, order, seal, approve=lambda: yes(seal)).kept == order.kept
    with target_lock(lab.superuser, "prod_fail", holder="a test") as session:
        undo_swap(session, lab.superuser, database="prod_fail", kept=order.kept, aside=order.beside)


def test_a_worker_killed_while_production_is_closed_is_made_good_by_the_teardown(lab: RestoreLab, failing: str) -> None:
    before = lab.state("prod_fail")
    ctx = lab.context("prod_fail")
    order, _ = lab.ordered(ctx, backup_id=failing)
    assert reopen_target(ctx, order) is False
    with lab.session("postgres") as session:
        session.execute("ALTER DATABASE prod_fail WITH ALLOW_CONNECTIONS false")
    assert reopen_target(ctx, order) is True
    assert lab.state("prod_fail") == before


def test_a_failed_load_leaves_nothing_beside(lab: RestoreLab, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, databases = lab.state("prod_fail"), lab.databases()
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing)
    key = ctx.catalog.manifest(failing).archive.key
    whole = ctx.store.get(key)
    member = max(ctx.catalog.manifest(failing).members, key=lambda item: item.stored_length)
    middle = member.offset + member.stored_length // 2
    ctx.store.s3.put_object(
        Bucket=ctx.store.bucket, Key=key, Body=whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    )
    try:
        with pytest.raises(Exception, match=r"damaged|does not restore|zstd"):
            load(ctx, order, progress=QUIET)
    finally:
        ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=key, Body=whole)
    assert (lab.state("prod_fail"), lab.databases()) == (before, databases)
    with pytest.raises(RestoreRefusedError, match="there is no"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))


@pytest.mark.parametrize("room", [0.2, -1.0])
def test_a_full_disk_at_the_target_leaves_production_alone_and_nothing_beside(
    lab: RestoreLab, failing: str, small_disk: Path, room: float
) -> None:
    """What is beside gets the room of an empty database, and a part of what the rows take; or not even that."""
    rows = lab.value("postgres", "SELECT pg_database_size('prod_fail') - pg_database_size('template0')")
    free = free_bytes(small_disk)
    lab.do("postgres", "CREATE DATABASE probe TEMPLATE template0")
    empty = free - free_bytes(small_disk)
    lab.drop("probe")
    before, databases = lab.state("prod_fail"), lab.databases()
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing)
    (small_disk / "filler").write_bytes(bytes(free - empty - int(rows * room)))
    with pytest.raises(TargetFullError, match=r"disk is full \(.*No space left on device.*free space"):
        load(ctx, order, progress=QUIET)
    assert (lab.state("prod_fail"), lab.databases()) == (before, databases)
    with pytest.raises(RestoreRefusedError, match="there is no"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))
    # With room again, the same task gets to the end.
    (small_disk / "filler").unlink()
    load(ctx, order, progress=QUIET)
    assert compare(ctx, order, seal, progress=QUIET).rows == order.backup_rows
    lab.drop(order.beside)


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


@pytest.fixture
def small_disk(lab: RestoreLab) -> Iterator[Path]:
    """A disk on which every new database is made, while those that are there stay where they are."""
    with enterable_folder() as folder, mounted_disk(folder / "disk", kib=32 << 10) as disk:
        give(disk, source_user())
        lab.do("postgres", f"CREATE TABLESPACE small LOCATION '{disk}'")
        lab.do("postgres", "ALTER DATABASE template0 SET TABLESPACE small")
        try:
            yield disk
        finally:
            lab.do("postgres", "ALTER DATABASE template0 SET TABLESPACE pg_default")
            lab.do("postgres", "DROP TABLESPACE small")


def test_a_restored_database_that_differs_is_never_swapped_in(lab: RestoreLab, failing: str) -> None:
    before = lab.state("prod_fail")
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing)
    load(ctx, order, progress=QUIET)
    lab.value(order.beside, "UPDATE orders SET note = 'wrong' WHERE id = 5 RETURNING 1")
    with pytest.raises(RestoreDiffersError, match=r"public\.orders"):
        compare(ctx, order, seal, progress=QUIET)
    # Marking the comparison as a success does not help.
    with pytest.raises(RestoreRefusedError, match="nobody has compared"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))
    assert lab.state("prod_fail") == before
    lab.drop(order.beside)


def test_a_record_of_another_comparison_does_not_help(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, _ = lab.loaded(ctx, backup_id=failing)
    with lab.session("postgres") as session:
        oid = session.execute("SELECT oid::bigint FROM pg_database WHERE datname = %s", (order.beside,)).fetchone()
    assert oid is not None
    with pytest.raises(RestoreRefusedError, match="is about another restore"):
        require_compared(ctx, order, "0" * 64, int(oid[0]))
    lab.drop(order.beside)


@pytest.mark.parametrize("answer", ["none", "another"])
def test_without_a_yes_to_exactly_this_nothing_is_swapped(lab: RestoreLab, failing: str, answer: str) -> None:
    before = lab.state("prod_fail")
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing)

    def approve() -> Any:
        if answer == "none":
            raise ApprovalError("bea said no; nothing was changed")
        return yes("0" * 64)

    with pytest.raises(ApprovalError, match="nothing was changed"):
        swap_in(ctx, order, seal, approve=approve)
    assert lab.state("prod_fail") == before


def test_a_database_that_was_replaced_since_the_preview_is_left_alone(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, seal = lab.loaded(ctx, backup_id=failing)
    assert order.target is not None
    other = replace(order, target=replace(order.target, oid=order.target.oid + 1))
    before = lab.state("prod_fail")
    with pytest.raises(RestoreRefusedError, match="somebody has replaced it meanwhile"):
        swap_in(ctx, other, seal, approve=lambda: yes(seal))
    with pytest.raises(RestoreRefusedError, match=r"somebody has\s+replaced it meanwhile"):
        back_up_target(ctx, other)
    assert lab.state("prod_fail") == before
    lab.drop(order.beside)


# --- bad input -------------------------------------------------------------------------------------


def test_a_second_restore_at_once_is_refused_with_who_holds_the_first(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, _ = lab.ordered(ctx, backup_id=failing)
    before = lab.state("prod_fail")
    second = lab.context("prod_fail", run=lab.run("restore_database", by="mallory"))
    with target_lock(lab.superuser, "prod_fail", holder=ctx.holder):
        for work in (
            lambda: lab.ordered(second, backup_id=failing),
            lambda: load(second, order, progress=QUIET),
        ):
            with pytest.raises((TargetBusyError, RestoreRefusedError), match=f"pulse_restore {ctx.restore_id} of al"):
                work()
    assert lab.state("prod_fail") == before


def test_what_a_person_must_say_yes_to_is_refused_without(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    before = lab.state("prod_fail")
    with lab.session("prod_fail") as person:
        person.execute("SELECT pg_create_logical_replication_slot('a_reader', 'pgoutput')")
        try:
            with pytest.raises(RestoreRefusedError) as refused:
                lab.ordered(ctx, backup_id=failing, end_sessions=False)
            seen, _ = lab.ordered(ctx, backup_id=failing, end_sessions=False, dry_run=True)
        finally:
            person.execute("SELECT pg_drop_replication_slot('a_reader')")
    for words in ("sessions are in it", "somebody", "say end_sessions", "a_reader", "say give_up_slots"):
        assert words in str(refused.value)
    assert seen.target is not None
    assert seen.target.slots == ("a_reader",)
    assert any("say give_up_slots" in warning for warning in seen.warnings)
    assert lab.state("prod_fail") == before


@pytest.mark.parametrize(
    ("wishes", "kind", "words"),
    [
        ({"unproven": False}, RestoreRefusedError, "nobody has shown that it restores"),
        ({"server": "beside"}, ParameterError, "leave server and database empty"),
        ({"where": Where.NAMED}, ParameterError, "needs its name"),
        ({"where": Where.NAMED, "database": "x", "server": "elsewhere"}, RestoreRefusedError, "allowed: beside"),
        ({"where": Where.NAMED, "database": "template1"}, ParameterError, "PostgreSQL's own"),
        ({"where": Where.NAMED, "database": "postgres"}, RestoreRefusedError, "cannot be renamed"),
        ({"where": Where.NAMED, "database": "prod_bad"}, RestoreRefusedError, "already, and it holds"),
        ({"where": Where.SCRATCH, "database": "x"}, ParameterError, "gets its name by itself"),
        ({"where": Where.NAMED, "database": "nothing_there", "in_place": True}, RestoreRefusedError, "there is no"),
        ({"backup_id": "prod_fail_daily_full_20200101T000000Z_000000"}, BackupMissingError, "has no backup"),
        ({"backup_id": "x; DROP"}, BackupMissingError, "has no backup"),
    ],
)
def test_bad_wishes_are_refused_and_production_stays(
    lab: RestoreLab, failing: str, wishes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    before, databases = lab.state("prod_fail"), lab.databases()
    with pytest.raises(kind, match=words):
        lab.ordered(lab.context("prod_fail"), **{"backup_id": failing, **wishes})
    assert (lab.state("prod_fail"), lab.databases()) == (before, databases)


@pytest.mark.postgres15
def test_an_older_server_is_refused_before_anything_is_made_there(
    lab: RestoreLab, failing: str, source15: DatabaseConnection
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    lab.extra_connections["old_server"] = superuser
    ctx = lab.context("prod_fail")
    assert ctx.source.restore is not None
    old = RestoreServer(name="old", connection="old_server", production=False)
    source = replace(ctx.source, restore=replace(ctx.source.restore, servers={"old": old}))
    with pytest.raises(RestoreRefusedError, match="the target is PostgreSQL 15 and the backup is of 17"):
        lab.ordered(lab.context("prod_fail", source=source), backup_id=failing, where=Where.SCRATCH)


def test_a_source_of_another_name_counts_as_production_too(lab: RestoreLab, failing: str) -> None:
    order, _ = lab.ordered(
        lab.context("prod_fail"), backup_id=failing, where=Where.NAMED, database="prod_bad", replace=True
    )
    assert (order.production, order.needs_approval) == (True, True)


def test_the_policy_is_asked_again_by_every_step(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing, where=Where.SCRATCH)
    assert not order.needs_approval
    assert ctx.source.restore is not None
    closed = replace(ctx.source, restore=replace(ctx.source.restore, servers={}))
    later = lab.context("prod_fail", source=closed)
    for work in (
        lambda: load(later, order, progress=QUIET),
        lambda: swap_in(later, order, seal, approve=lambda: yes(seal)),
        lambda: back_up_target(later, order),
    ):
        with pytest.raises(RestoreRefusedError, match=r"is no server of prod_fail's restore\.servers"):
            work()
    assert order.beside not in lab.databases()


# --- choosing --------------------------------------------------------------------------------------


def test_a_release_finds_the_backup_that_was_taken_before_it_and_two_are_ambiguous(lab: RestoreLab) -> None:
    source = "prod_bad"
    first = lab.backup(source, release=Release(name="2025.3.1", git_sha="0123abc"))
    catalog = lab.context(source).catalog
    assert choose(catalog, source, Choice(how=Choosing.RELEASE, release="2025.3.1")) == first
    second = lab.backup(source, release=Release(name="2025.3.1", git_sha="4567def"))
    with pytest.raises(AmbiguousChoiceError) as refused:
        choose(catalog, source, Choice(how=Choosing.RELEASE, release="2025.3.1"))
    assert first in str(refused.value)
    assert second in str(refused.value)
    by_commit = Choice(how=Choosing.RELEASE, release="2025.3.1", git_sha="4567def")
    assert choose(catalog, source, by_commit) == second
    with pytest.raises(BackupMissingError, match="taken before release 1"):
        choose(catalog, source, Choice(how=Choosing.RELEASE, release="1"))
    times = {name: catalog.manifest(name).dump.snapshot.time for name in (first, second)}
    before = Choice(how=Choosing.BEFORE, before=times[second] - timedelta(microseconds=1))
    assert choose(catalog, source, before, unproven=True) == first
    with pytest.raises(BackupMissingError, match="has no proven full backup of"):
        choose(catalog, source, before)
    with pytest.raises(BackupMissingError, match="has no proven full backup"):
        choose(catalog, source, Choice(how=Choosing.LATEST_PROVEN))
    old = Choice(how=Choosing.BEFORE, before=parse_time("2020-01-01T00:00:00Z"))
    with pytest.raises(BackupMissingError, match="or earlier"):
        choose(catalog, source, old, unproven=True)
