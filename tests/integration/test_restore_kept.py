"""What a swap has replaced: kept beside, taken back, and dropped when its time is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg import sql

from include.backup.errors import RestoreDiffersError
from include.backup.evidence.check import check_ledger
from include.backup.holds import add_hold, release_hold
from include.backup.proof.record import CheckResult
from include.backup.restore import work
from include.backup.restore.undo import find_undo, undo
from include.backup.restore.work import (
    back_up_target,
    check_afterwards,
    keep_old,
    swap_in,
)
from include.backup.retention.cleanup import CleanupContext, plan_cleanup
from include.backup.retention.databases import Fate
from include.backup.retention.execute import dry_run, execute
from include.backup.steps.context import utc_now
from tests.support.restores import RestoreLab, kept_names, yes

pytest_plugins = ["tests.support.cli_fixtures", "tests.support.swap_fixtures"]
NAMES = ("prod_fail", "prod_kept")


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


def test_a_swap_whose_check_fails_can_be_taken_back_and_what_was_written_since_stays_aside(
    lab: RestoreLab, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.state("prod_fail")
    ctx = lab.context("prod_fail")
    order, seal = lab.loaded(ctx, backup_id=failing)
    swap_in(ctx, order, seal, approve=lambda: yes(seal))
    lab.value("prod_fail", "INSERT INTO orders (customer, note) VALUES (1, 'since') RETURNING 1")
    failed = CheckResult(name="common/smoke", passed=False, detail="a row too few")
    monkeypatch.setattr(work, "run_checks", lambda *_: (failed,))
    back = f"`restore prod_fail --undo {order.restore_id}` gives the old database back"
    with pytest.raises(RestoreDiffersError, match=f"common/smoke: a row too few; {back}"):
        check_afterwards(ctx, order)
    found = find_undo(ctx, order.restore_id)
    undo(ctx, found, end_sessions=True)
    assert lab.state("prod_fail") == before
    lab.do("postgres", f'ALTER DATABASE "{found.aside}" WITH ALLOW_CONNECTIONS true')
    assert lab.value(found.aside, "SELECT count(*) FROM orders WHERE note = 'since'") == 1
