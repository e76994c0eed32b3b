"""A restore into production without Airflow: beside, compared, swapped; and what production does meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.backup.approval import Approval
from include.backup.errors import ApprovalError, RestoreRefusedError, SourceUnreachableError
from include.backup.evidence.check import check_ledger
from include.backup.quarantine import ReleaseReport, quarantined
from include.backup.restore import work
from include.backup.restore.choice import Choice, choose
from include.backup.restore.kept import drop_kept
from include.backup.restore.order import Strategy
from include.backup.restore.properties import read_properties
from include.backup.restore.undo import find_undo
from include.backup.restore.words import Choosing, Where
from include.backup.restore.work import (
    back_up_target,
    check_afterwards,
    compare,
    keep_old,
    load,
    swap_in,
)
from tests.support.restores import QUIET, EndsTheLock, RestoreLab, kept_names, yes

pytest_plugins = ["tests.support.cli_fixtures", "tests.support.swap_fixtures"]
NAMES = ("prod_swap", "prod_release", "prod_acts")
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


WEBHOOK = """
CREATE SCHEMA net;
CREATE TABLE net.http_request_queue (id bigserial, url text);
CREATE FUNCTION net.http_post(url text) RETURNS bigint LANGUAGE sql AS
  'INSERT INTO net.http_request_queue (url) VALUES (url) RETURNING id';
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM net.http_post(TG_NAME); RETURN NEW; END';
CREATE TRIGGER webhook AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION public.tell()
"""
ORDERED = "INSERT INTO orders (customer, note) VALUES (1, 'x') RETURNING id"
QUEUED = "SELECT count(*) FROM net.http_request_queue"


def properties(lab: RestoreLab, database: str) -> Any:
    from include.backup.postgres.session import connect

    with connect(lab.superuser, settings={}) as session:
        return read_properties(session, database)


def too_late() -> Approval:
    raise ApprovalError("the answer is too old; trigger a new run")


def no_place(*_: object) -> ReleaseReport:
    raise SourceUnreachableError("too many clients")


def evidence(lab: RestoreLab, source: str) -> dict[str, int]:
    found = check_ledger(lab.context(source).store, source)
    assert found.intact, found.findings
    return dict(found.kinds)


def test_production_becomes_what_the_backup_has_and_keeps_what_is_its_own(lab: RestoreLab) -> None:
    with lab.session("postgres") as session:
        session.execute(OWN_PROPERTIES)
    good = lab.state("prod_swap")
    backup_id = lab.backup("prod_swap", prove=True)
    lab.value("prod_swap", "DELETE FROM orders WHERE id > 10 RETURNING 1")
    lab.do("prod_swap", "CREATE PUBLICATION all_orders FOR TABLE orders")
    own = properties(lab, "prod_swap")
    ctx = lab.context("prod_swap")
    ctx.store.put_if_absent("erasures/prod_swap/subject-7.json", b"{}", encryption=ctx.encryption)
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
    for words in (seal, "| erased | subject-7 |", f"oid {order.target.oid}, of the cluster", "| publishes | all"):
        assert words in order.question().text

    safety = back_up_target(ctx, order)
    with lab.session("prod_swap") as person:
        ending = EndsTheLock(lab, order.restore_id)
        load(ctx, order, progress=ending)
        assert ending.ended
        assert compare(ctx, order, seal, progress=QUIET).rows == order.backup_rows
        assert lab.state("prod_swap")["orders"] == 10
        report = swap_in(ctx, order, seal, approve=lambda: yes(seal))
        with pytest.raises(psycopg.OperationalError):
            person.execute("SELECT 1")
    assert (report.kept, report.already_done) == (order.kept, False)
    assert report.ended_sessions >= 1
    # Whatever fails from here on, it can be taken back.
    undo = find_undo(ctx, order.restore_id)
    assert (undo.kept, undo.kept_oid, undo.written) == (order.kept, order.target.oid, ())
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
    # A second try finds what was done, also when the yes has run out meanwhile.
    assert swap_in(ctx, order, seal, approve=too_late).already_done
    assert lab.state("prod_swap") == found
    assert ctx.catalog.manifest(safety["backup_id"]).rows == 510
    assert evidence(lab, "prod_swap")["restore"] == 1
    with pytest.raises(RestoreRefusedError, match="is kept until"):
        drop_kept(ctx, kept)


def test_production_acts_while_its_copy_beside_does_not_and_what_takes_its_place_acts_again(
    lab: RestoreLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.do("prod_acts", WEBHOOK)
    ctx = lab.context("prod_acts")
    order, seal = lab.ordered(ctx, backup_id=lab.backup("prod_acts", prove=True))
    load(ctx, order, progress=QUIET)
    compare(ctx, order, seal, progress=QUIET)
    with lab.session(order.beside) as session, session.transaction(force_rollback=True):
        session.execute(ORDERED.encode())
        assert session.execute(QUEUED.encode()).fetchone() == (0,)
    lab.value("prod_acts", ORDERED)
    assert lab.value("prod_acts", QUEUED) == 1
    # Everybody comes back at once, and the release finds no place: the swap is done and evident all the same.
    with monkeypatch.context() as crowded:
        crowded.setattr(work, "release", no_place)
        report = swap_in(ctx, order, seal, approve=lambda: yes(seal))
    assert "does not act yet (too many clients): look, then `quarantine release prod_acts --connection" in report.line()
    assert evidence(lab, "prod_acts")["restore"] == 1
    lab.value("prod_acts", ORDERED)
    assert lab.value("prod_acts", QUEUED) == 0
    # By another name of its server it may be a clone, which must not act a second time.
    clone = replace(ctx.destination(order), production=False)
    assert "does not act yet (its server may be a clone" in work._let_act(ctx, order, clone)
    lab.value("prod_acts", ORDERED)
    assert lab.value("prod_acts", QUEUED) == 0
    assert swap_in(ctx, order, seal, approve=lambda: yes(seal)).warning == ""
    assert lab.value("prod_acts", QUEUED) == 0
    lab.value("prod_acts", ORDERED)
    assert lab.value("prod_acts", QUEUED) == 1


def test_a_lost_production_database_is_made_anew_under_its_name_and_acts_again(lab: RestoreLab) -> None:
    lab.do("prod_release", WEBHOOK)
    backup_id = lab.backup("prod_release")
    good = lab.state("prod_release")
    lab.drop("prod_release")
    ctx = lab.context("prod_release")
    order, seal = lab.ordered(ctx, backup_id=backup_id)
    assert (order.strategy, order.needs_approval, order.beside) == (Strategy.NEW, False, "prod_release")
    assert any("act once the copy is in place" in warning for warning in order.warnings)
    load(ctx, order, progress=QUIET)
    assert compare(ctx, order, seal, progress=QUIET).warning == ""
    found = lab.state("prod_release")
    assert (found["orders"], found["notes"]) == (good["orders"], good["notes"])
    lab.value("prod_release", ORDERED)
    assert lab.value("prod_release", QUEUED) == 1
    with pytest.raises(RestoreRefusedError, match="asks for no swap"):
        swap_in(ctx, order, seal, approve=lambda: yes(seal))


def test_a_copy_on_a_production_server_stays_quarantined(lab: RestoreLab) -> None:
    """There nothing is replaced without approval; a copy replaces nothing, and must not act beside its source."""
    backup_id = lab.backup("prod_release")  # its webhook acts again
    source = lab.policy.source("prod_release")
    assert source.restore is not None
    servers = {name: replace(server, production=True) for name, server in source.restore.servers.items()}
    ctx = lab.context("prod_release", source=replace(source, restore=replace(source.restore, servers=servers)))
    order, seal = lab.ordered(ctx, backup_id=backup_id, where=Where.SCRATCH)
    assert (ctx.destination(order).production, order.strategy, order.needs_approval) == (True, Strategy.NEW, False)
    assert not any("act once the copy is in place" in warning for warning in order.warnings)
    load(ctx, order, progress=QUIET)
    assert compare(ctx, order, seal, progress=QUIET).warning == ""
    assert quarantined(ctx.target(order).endpoint)
