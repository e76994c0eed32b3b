"""What fails on the way of a restore into production: it stays as it was, or becomes it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.connection_spec import Secret
from include.backup.errors import (
    ApprovalError,
    RestoreDiffersError,
    RestoreRefusedError,
    SwapError,
    TargetFullError,
)
from include.backup.point_in_time.room import free_bytes
from include.backup.restore import swap as swapping
from include.backup.restore.survey import database_facts
from include.backup.restore.swap import undo_swap
from include.backup.restore.target_lock import target_lock
from include.backup.restore.undo import find_undo
from include.backup.restore.work import (
    back_up_target,
    compare,
    load,
    reopen_target,
    require_compared,
    swap_in,
)
from tests.support.airflow_runs import until
from tests.support.restores import QUIET, RestoreLab, yes
from tests.support.small_disk import empty, fill, small_tablespace

pytest_plugins = ["tests.support.cli_fixtures", "tests.support.swap_fixtures"]
NAMES = ("prod_fail",)


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
    with pytest.raises(RestoreRefusedError, match=r"prod_fail is what it was before .*; nothing is to be given back"):
        find_undo(ctx, order.restore_id)
    # The same task, cleared, gets to the end.
    monkeypatch.setattr(swapping, "_rename", rename)
    assert swap_in(ctx, order, seal, approve=lambda: yes(seal)).kept == order.kept
    with target_lock(lab.superuser, "prod_fail", holder="a test") as session:
        undo_swap(session, lab.superuser, database="prod_fail", kept=order.kept, aside=order.beside, end_sessions=True)


# Its autovacuum takes half a minute, and begins when somebody has deleted.
SLOWLY_VACUUMED = """
CREATE TABLE slow WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
  autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)
  AS SELECT n, repeat('x', 500) AS text FROM generate_series(1, 5000) n
"""
LEFT = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'vacuumed' AND usesysid IS NOT NULL"


def test_an_ordinary_role_sees_who_is_connected_and_swaps_while_autovacuum_works(lab: RestoreLab) -> None:
    lab.do("postgres", "CREATE ROLE plain LOGIN CREATEDB PASSWORD 'plain'")
    lab.do("postgres", "ALTER SYSTEM SET autovacuum_naptime = 1")
    lab.do("postgres", "SELECT pg_reload_conf()")
    plain = replace(lab.superuser, user="plain", password=Secret("plain"))
    names = ("vacuumed", "vacuumed_beside")
    try:
        for name in names:
            lab.do("postgres", f"CREATE DATABASE {name} OWNER plain")
        lab.do("vacuumed", SLOWLY_VACUUMED)
        lab.do("vacuumed", "DELETE FROM slow WHERE n % 2 = 0")
        at_work = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'vacuumed' AND backend_type LIKE 'autovacuum%'"
        until(lambda: lab.value("postgres", at_work) > 0, seconds=30, what="autovacuum at work")
        with target_lock(plain, "vacuumed", holder="a test") as session:
            now, beside = (database_facts(session, name) for name in names)
            assert now is not None
            assert beside is not None
            request = swapping.SwapRequest(
                database="vacuumed",
                beside="vacuumed_beside",
                kept="vacuumed_old",
                database_oid=now.oid,
                beside_oid=beside.oid,
                end_sessions=False,
            )
            with (
                lab.session("vacuumed"),
                pytest.raises(RestoreRefusedError, match=r"in vacuumed .*nobody agreed to end them"),
            ):
                swapping.swap(session, plain, request)
            until(lambda: lab.value("postgres", LEFT) == 0, seconds=30, what="the end of somebody's session")
            assert lab.value("postgres", at_work) > 0
            swapping.swap(session, plain, replace(request, end_sessions=True))
        assert lab.value("postgres", "SELECT oid::bigint FROM pg_database WHERE datname = 'vacuumed'") == beside.oid
    finally:
        lab.do("postgres", "ALTER SYSTEM RESET autovacuum_naptime")
        lab.do("postgres", "SELECT pg_reload_conf()")
        for name in (*names, "vacuumed_old"):
            lab.drop(name)
        lab.do("postgres", "DROP ROLE plain")


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
    empty_database = free - free_bytes(small_disk)
    lab.drop("probe")
    before, databases = lab.state("prod_fail"), lab.databases()
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing)
    fill(small_disk, leave=empty_database + int(rows * room))
    with pytest.raises(TargetFullError, match=r"disk is full \(.*No space left on device.*free space"):
        load(ctx, order, progress=QUIET)
    assert (lab.state("prod_fail"), lab.databases()) == (before, databases)
    with pytest.raises(RestoreRefusedError, match="there is no"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))
    # With room again, the same task gets to the end.
    empty(small_disk)
    load(ctx, order, progress=QUIET)
    assert compare(ctx, order, seal, progress=QUIET).rows == order.backup_rows
    lab.drop(order.beside)


@pytest.fixture
def small_disk(lab: RestoreLab) -> Iterator[Path]:
    """A disk on which every new database is made, while those that are there stay where they are."""

    def do(statement: str) -> None:
        lab.do("postgres", statement)

    with small_tablespace(do) as disk:
        do("ALTER DATABASE template0 SET TABLESPACE small")
        try:
            yield disk
        finally:
            do("ALTER DATABASE template0 SET TABLESPACE pg_default")


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


def test_what_came_or_was_replaced_since_the_preview_is_left_alone(
    lab: RestoreLab, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = lab.context("prod_fail")
    order, seal = lab.loaded(ctx, backup_id=failing)
    assert order.target is not None
    other = replace(order, target=replace(order.target, oid=order.target.oid + 1))
    before = lab.state("prod_fail")
    with pytest.raises(RestoreRefusedError, match="somebody has replaced it meanwhile"):
        swap_in(ctx, other, seal, approve=lambda: yes(seal))
    with pytest.raises(RestoreRefusedError, match=r"somebody has\s+replaced it meanwhile"):
        back_up_target(ctx, other)
    with lab.session("prod_fail") as person:
        quiet = replace(order, ends_sessions=False)
        with pytest.raises(RestoreRefusedError, match=r"in prod_fail \(.*somebody\), and nobody agreed to end them"):
            swap_in(ctx, quiet, seal, approve=lambda: yes(seal))
        person.execute("SELECT pg_create_logical_replication_slot('late', 'pgoutput')")
        try:
            with pytest.raises(RestoreRefusedError, match="the logical slot late of prod_fail came after the preview"):
                swap_in(ctx, order, seal, approve=lambda: yes(seal))
        finally:
            person.execute("SELECT pg_drop_replication_slot('late')")
        # Who connects after that look is found once nobody else can, and stays.
        monkeypatch.setattr(swapping, "_check", lambda *_: None)
        with pytest.raises(RestoreRefusedError, match="nobody agreed to end them"):
            swap_in(ctx, quiet, seal, approve=lambda: yes(seal))
        person.execute("SELECT 1")
    assert lab.state("prod_fail") == before
    lab.drop(order.beside)
