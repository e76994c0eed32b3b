"""A restore of tables into production by its steps, without Airflow: the order, the yes, the copy, the evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.backup.errors import ApprovalError, ParameterError, RestoreRefusedError
from include.backup.evidence.check import check_ledger
from include.backup.restore.destination import Where
from include.backup.table_restore.preview import Mode
from include.backup.table_restore.steps import (
    TablesWish,
    back_up_tables,
    carry_out_tables,
    changes_key,
    check_tables_afterwards,
    preview_tables,
    tables_order,
)
from include.local.stack import Stack
from tests.support.command_line import Server
from tests.support.restores import QUIET, RestoreLab, make_lab, yes
from tests.support.small_sources import SmallSource

pytest_plugins = ["tests.support.cli_fixtures"]
NAME = "prod_tables"
EXTRA = """
ALTER TABLE public.orders ADD PRIMARY KEY (id);
CREATE TABLE public.lines (
  id int PRIMARY KEY, "order" bigint REFERENCES public.orders ON DELETE CASCADE, note text
);
INSERT INTO public.lines VALUES (1, 50, 'of before');
"""
LOSE = "DELETE FROM orders WHERE id > 100; UPDATE orders SET note = 'defaced' WHERE id = 1"


@pytest.fixture(scope="module")
def lab(stack: Stack, cli_server: Server, state_dir: Path) -> Iterator[RestoreLab]:
    source = SmallSource(name=NAME, extra_sql=EXTRA)
    made = make_lab(
        {NAME: source},
        superuser=cli_server.superuser,
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=state_dir / "tables-lab",
        conninfo=stack.source.superuser_conninfo,
    )
    yield made
    for database in (NAME, "small"):
        made.drop(database)


@pytest.fixture(scope="module")
def backup_id(lab: RestoreLab) -> str:
    return lab.backup(NAME)


def wish(backup_id: str, **changes: Any) -> TablesWish:
    values: dict[str, Any] = {
        "backup_id": backup_id,
        "tables": ("public.orders",),
        "mode": Mode.REPLACE,
        "where": Where.PRODUCTION,
        "unproven": True,
        "dry_run": False,
        "reason": "lost",
    }
    return TablesWish(**{**values, **changes})


def test_with_a_yes_the_rows_are_back_and_the_copy_of_before_is_a_backup(lab: RestoreLab, backup_id: str) -> None:
    good = lab.state(NAME)
    lab.do(NAME, LOSE)
    before = lab.value(NAME, "SELECT string_agg(id || note, ',' ORDER BY id) FROM orders")
    ctx = lab.context(NAME)
    order, seal = preview_tables(ctx, wish(backup_id), progress=QUIET)
    assert order.needs_approval
    assert seal in order.question().text
    assert "defaced" not in order.to_json().decode() + order.question().text
    listed = ctx.store.get(changes_key(ctx, order)).decode()
    assert '"changed","public.orders","id=1","note"' in listed
    with pytest.raises(RestoreRefusedError, match=r"_safety_tables_.* is not stored, whatever the tasks' states say"):
        carry_out_tables(ctx, tables_order(ctx, seal), seal, approve=lambda: yes(seal), progress=QUIET)
    copy = back_up_tables(ctx, order)
    assert copy["backup_id"].startswith(f"{NAME}_safety_tables_")
    report = carry_out_tables(ctx, tables_order(ctx, seal), seal, approve=lambda: yes(seal), progress=QUIET)
    assert (report.merged[0].inserted, report.merged[0].updated) == (4900, 1)
    assert lab.state(NAME) == good
    assert check_tables_afterwards(ctx, order) > 0
    assert check_ledger(ctx.store, NAME).intact
    undo(lab, copy["backup_id"], "public.orders")
    assert lab.value(NAME, "SELECT string_agg(id || note, ',' ORDER BY id) FROM orders") == before


def test_rows_that_go_with_a_deleted_one_are_in_the_copy_and_come_back_from_it(lab: RestoreLab, backup_id: str) -> None:
    lab.do(
        NAME,
        "INSERT INTO orders (id, customer, note) OVERRIDING SYSTEM VALUE VALUES (9001, 1, 'since');"
        "INSERT INTO lines VALUES (2, 9001, 'since'), (3, 9001, 'since')",
    )
    lines = "SELECT string_agg(lines::text, ',' ORDER BY id) FROM lines"
    before = lab.value(NAME, lines)
    wanted = wish(backup_id, touches_children=True)
    ctx = lab.context(NAME)
    order, seal = preview_tables(ctx, wanted, progress=QUIET)
    copy = back_up_tables(ctx, order)
    carry_out_tables(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert lab.value(NAME, lines) == '(1,50,"of before")'
    undo(lab, copy["backup_id"], "public.orders", "public.lines")
    assert lab.value(NAME, lines) == before
    assert lab.value(NAME, "SELECT note FROM orders WHERE id = 9001") == "since"


def test_a_copy_of_before_another_preview_that_lacks_a_child_is_refused(lab: RestoreLab, backup_id: str) -> None:
    """A preview that is cleared counts anew, and the copy of this run is stored already."""
    ctx, wanted = lab.context(NAME), wish(backup_id, touches_children=True)
    lab.do(
        NAME,
        "DELETE FROM lines WHERE id > 1;"
        "INSERT INTO orders (id, customer, note) OVERRIDING SYSTEM VALUE VALUES (9002, 1, 'since')",
    )
    back_up_tables(ctx, preview_tables(ctx, wanted, progress=QUIET)[0])
    lab.do(NAME, "INSERT INTO lines VALUES (4, 9002, 'later')")
    order, seal = preview_tables(ctx, wanted, progress=QUIET)
    before = lab.state(NAME)
    back_up_tables(ctx, order)
    with pytest.raises(RestoreRefusedError, match=r"has no rows of public\.lines"):
        carry_out_tables(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert lab.state(NAME) == before


def undo(lab: RestoreLab, backup_id: str, *tables: str) -> None:
    """Go back to what was there, by the copy that was stored first."""
    ctx = lab.context(NAME)
    order, seal = preview_tables(ctx, wish(backup_id, tables=tables), progress=QUIET)
    back_up_tables(ctx, order)
    carry_out_tables(ctx, tables_order(ctx, seal), seal, approve=lambda: yes(seal), progress=QUIET)


def test_without_the_right_yes_nothing_is_changed(lab: RestoreLab, backup_id: str) -> None:
    lab.do(NAME, LOSE)
    before = lab.state(NAME)
    ctx = lab.context(NAME)
    order, seal = preview_tables(ctx, wish(backup_id), progress=QUIET)

    def nobody() -> Any:
        raise ApprovalError("nobody has answered")

    for approve in (nobody, lambda: yes("0" * 64)):
        with pytest.raises(ApprovalError):
            carry_out_tables(ctx, order, seal, approve=approve, progress=QUIET)
    other = lab.context(NAME)
    ctx.store.s3.copy_object(
        Bucket=ctx.store.bucket,
        CopySource={"Bucket": ctx.store.bucket, "Key": f"restores/{ctx.restore_id}/order-{seal[:16]}.json"},
        Key=f"restores/{other.restore_id}/order-{seal[:16]}.json",
    )
    with pytest.raises(RestoreRefusedError, match="order of another restore"):
        tables_order(other, seal)
    assert lab.state(NAME) == before


def test_a_look_changes_nothing_and_cannot_be_carried_out(lab: RestoreLab, backup_id: str) -> None:
    before = lab.state(NAME)
    ctx = lab.context(NAME)
    order, seal = preview_tables(ctx, wish(backup_id, dry_run=True), progress=QUIET)
    assert not order.needs_approval
    with pytest.raises(RestoreRefusedError, match="only shows"):
        carry_out_tables(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert lab.state(NAME) == before


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"where": Where.SCRATCH}, ParameterError, "go into a database that is there"),
        ({"where": Where.NAMED, "server": "elsewhere", "database": "x"}, RestoreRefusedError, "is no server of"),
        ({"where": Where.NAMED, "database": "nowhere"}, RestoreRefusedError, "there is no nowhere"),
        ({"tables": ("public.orders", "orders")}, ParameterError, "is named twice"),
        ({"unproven": False}, RestoreRefusedError, "nobody has shown that it restores"),
    ],
)
def test_what_is_not_allowed_is_refused_before_anybody_is_asked(
    lab: RestoreLab, backup_id: str, changes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        preview_tables(lab.context(NAME), wish(backup_id, **changes), progress=QUIET)
