"""A restored copy does not act by itself until it is released, and then it is exactly what it was."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.audit.people import restore_rows, unapproved
from include.backup.chain import user_name
from include.backup.connections import DatabaseConnection
from include.backup.errors import QuarantineError
from include.backup.evidence import open_ledger
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.quarantine import quarantine, quarantined, release
from include.backup.quarantine.kinds import Item, Kind
from include.backup.quarantine.record import SCHEMA
from include.backup.steps import verify
from tests.support.command_line import SOURCE, TARGET, CommandLine, Server
from tests.support.contexts import ContextMaker, run_chain

pytest_plugins = ["tests.support.cli_fixtures"]
ACTING_SQL = Path(__file__).parents[1] / "support" / "sql" / "acting.sql"
STATE = """
SELECT (SELECT jsonb_agg(to_jsonb(j) ORDER BY jobid) FROM cron.job j) AS jobs,
       (SELECT jsonb_agg(to_jsonb(q) ORDER BY id) FROM net.http_request_queue q) AS requests,
       (SELECT jsonb_agg(jsonb_build_array(tgrelid::regclass, tgname, tgenabled)
                         ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger WHERE NOT tgisinternal) AS triggers,
       (SELECT jsonb_agg(jsonb_build_array(subname, subenabled)) FROM pg_subscription s
         WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS subscriptions,
       (SELECT jsonb_agg(x ORDER BY x) FROM (
          SELECT jsonb_build_array(p.oid::regprocedure, a.grantee::regrole, a.privilege_type, a.is_grantable) AS x
            FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           WHERE p.pronamespace::regnamespace::text IN ('net', 'supabase_functions', 'public')) g) AS grants,
       (SELECT jsonb_agg(nspname ORDER BY nspname) FROM pg_namespace) AS schemas
"""
# Two roles may have jobs of the same name.
CRON_JOBS = {
    "nightly cleanup (job 1 of postgres)",
    'send reminders; it\'s "odd" (job 2 of postgres)',
    'nightly cleanup (job 4 of Pulse "Ops" \\ team)',
}
# A source's own setting, by which its functions would be called in the place of PostgreSQL's.
HOSTILE_PATH = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS
  'BEGIN RAISE EXCEPTION ''code of the copy ran''; END';
ALTER DATABASE acting SET search_path TO hostile, pg_catalog, public;
"""
# As many keep one: its table is found by the source's own search_path.
DDL_LOG = """
CREATE TABLE public.ddl_log (tag text, logged_as text DEFAULT current_user);
GRANT INSERT ON public.ddl_log TO PUBLIC;
CREATE FUNCTION public.log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO ddl_log (tag) VALUES (tg_tag); END';
CREATE EVENT TRIGGER log_ddl ON ddl_command_end EXECUTE FUNCTION public.log_ddl();
"""


@pytest.fixture
def acting(cli_server: Server) -> Iterator[DatabaseConnection]:
    """A database that has jobs, webhooks, a queued request and an enabled subscription."""
    with cli_server.session("postgres") as session:
        session.execute("CREATE DATABASE acting TEMPLATE template0")
    try:
        with cli_server.session("acting") as session:
            session.execute(ACTING_SQL.read_bytes())
            session.execute(HOSTILE_PATH)
            session.execute(
                "CREATE SUBSCRIPTION \"from elsewhere\" CONNECTION 'host=localhost port=1 dbname=nowhere'"
                " PUBLICATION p WITH (connect = false, slot_name = 'no_such_slot')"
            )
            session.execute('ALTER SUBSCRIPTION "from elsewhere" ENABLE')
            session.execute(DDL_LOG)
        yield replace(cli_server.superuser, dbname="acting")
    finally:
        with cli_server.session("acting") as session:
            session.execute('ALTER SUBSCRIPTION "from elsewhere" DISABLE')
            session.execute('ALTER SUBSCRIPTION "from elsewhere" SET (slot_name = NONE)')
            session.execute('DROP SUBSCRIPTION "from elsewhere"')
        cli_server.drop("acting")


def state(server: Server) -> tuple[Any, ...]:
    with server.session("acting") as session:
        row = session.execute(STATE).fetchone()
    assert row is not None
    return tuple(row)


def requests(server: Server) -> int:
    with server.session("acting") as session:
        row = session.execute("SELECT count(*) FROM net.http_request_queue").fetchone()
    assert row is not None
    return int(row[0])


def logged_as(server: Server) -> set[str]:
    with server.session("acting") as session:
        return {row[0] for row in session.execute("SELECT logged_as FROM public.ddl_log").fetchall()}


def insert_order(server: Server, number: int) -> None:
    with server.session("acting") as session:
        session.execute("INSERT INTO public.orders VALUES (%s, 'x')", (number,))
        session.execute("INSERT INTO public.events VALUES (%s, '2020-07-01')", (number,))


def test_what_was_quarantined_no_longer_acts_and_a_release_puts_exactly_that_back(
    acting: DatabaseConnection, cli_server: Server
) -> None:
    before = state(cli_server)
    assert requests(cli_server) == 6  # it does act: two webhooks for each of three orders; the partition's is off

    report = quarantine(acting, source=SOURCE)

    assert report.not_switched_off == ()
    names = {(item.kind, item.name) for item in report.items}
    assert {name for kind, name in names if kind == "cron job"} == CRON_JOBS
    assert {name for kind, name in names if kind == "trigger"} == {
        "public.orders: new order's webhook",
        "public.orders: told_by_hand",
        "public.events: tell_events",
        "public.events_old: tell_events",
    }
    assert {name for kind, name in names if kind == "subscription"} == {"from elsewhere"}
    assert sum(kind == "request" for kind, _ in names) == 6
    assert "3 cron jobs" in report.line()
    assert requests(cli_server) == 0
    insert_order(cli_server, 10)
    assert requests(cli_server) == 0
    with cli_server.session("acting") as session:
        touched = session.execute("SELECT changed_at FROM public.orders WHERE id = 10").fetchone()
        active = session.execute("SELECT count(*) FROM cron.job WHERE active").fetchone()
        may = session.execute(
            "SELECT has_function_privilege('anon', 'net.http_post(text,jsonb,jsonb,jsonb,integer)', 'EXECUTE')"
        ).fetchone()
    assert touched is not None
    assert touched[0] is not None  # a trigger that only keeps data right goes on
    assert (active, may) == ((0,), (False,))

    released = release(acting)

    assert {(item.kind, item.name) for item in released.items} == names
    assert state(cli_server) == before
    assert quarantined(acting) == ()
    assert logged_as(cli_server) == set()  # a superuser leaves the source's log as it was
    insert_order(cli_server, 11)
    assert requests(cli_server) == 8


def test_a_second_quarantine_changes_nothing_and_forgets_nothing(
    acting: DatabaseConnection, cli_server: Server
) -> None:
    before = state(cli_server)
    first = quarantine(acting, source=SOURCE)
    assert quarantine(acting, source=SOURCE) == first
    release(acting)
    assert state(cli_server) == before


def test_a_release_that_cannot_put_everything_back_puts_back_nothing(
    acting: DatabaseConnection, cli_server: Server
) -> None:
    quarantine(acting, source=SOURCE)
    with cli_server.session("acting") as session:
        session.execute("DELETE FROM cron.job WHERE jobname = 'nightly cleanup'")
    off = state(cli_server)
    with pytest.raises(QuarantineError, match=r"nightly cleanup \(job .* of acting cannot be put back.*nothing was"):
        release(acting)
    assert state(cli_server) == off
    assert quarantined(acting)


def test_functions_recorded_by_an_earlier_version_are_put_back(acting: DatabaseConnection, cli_server: Server) -> None:
    with cli_server.session("acting") as session:
        session.execute("ALTER DATABASE acting SET search_path TO hostile, pg_catalog, public, net, supabase_functions")
    before = state(cli_server)
    quarantine(acting, source=SOURCE)
    with cli_server.session("acting") as session:
        # It named them by the copy's own search_path.
        session.execute(f"UPDATE {SCHEMA}.items SET name = name::regprocedure::text WHERE kind = 'function'")
    assert "http_get(text)" in {item.name for item in release(acting).items}
    assert state(cli_server) == before


def test_erasures_run_before_anything_acts_again(acting: DatabaseConnection, cli_server: Server) -> None:
    quarantine(acting, source=SOURCE)
    with pytest.raises(QuarantineError, match="erasure 2 of 2 failed"):
        release(acting, erasures=("DELETE FROM public.orders WHERE id = 1", "DELETE FROM public.nothing"))
    with cli_server.session("acting") as session:
        assert session.execute("SELECT count(*) FROM public.orders").fetchone() == (3,)
    assert release(acting, erasures=("DELETE FROM orders WHERE id = 1",)).erasures == 1
    with cli_server.session("acting") as session:
        assert session.execute("SELECT count(*) FROM public.orders").fetchone() == (2,)


def test_the_record_is_shown_to_nobody_else(acting: DatabaseConnection, cli_server: Server) -> None:
    with cli_server.session("acting") as session:
        session.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon")
        session.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon")
    quarantine(acting, source=SOURCE)
    with cli_server.session("acting") as session:
        session.execute("SET ROLE anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f"SELECT * FROM {SCHEMA}.items")
    release(acting)


# What a role that may only make schemas can put into the source, to have it run by whoever releases a copy.
PLANTED = f"""
CREATE ROLE planter;
GRANT CREATE ON DATABASE acting TO planter;
SET ROLE planter;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.items (kind text, name text, state jsonb, switched_off_at timestamptz);
INSERT INTO {SCHEMA}.items VALUES
    ('function', 'pg_catalog.pg_read_file(text)', '{{"acl": "{{planter=X/pulse_backup}}"}}', now());
CREATE FUNCTION {SCHEMA}.ran() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN RAISE EXCEPTION ''code of the copy ran''; END';
CREATE TRIGGER ran BEFORE INSERT OR DELETE ON {SCHEMA}.items FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.ran();
RESET ROLE;
"""
MAY_READ_FILES = "SELECT has_function_privilege('planter', 'pg_catalog.pg_read_file(text)', 'EXECUTE')"


def test_what_a_source_brings_along_by_the_records_name_is_never_run(
    acting: DatabaseConnection, cli: CommandLine, cli_server: Server
) -> None:
    with cli_server.session("acting") as session:
        session.execute(PLANTED)
    try:
        before = state(cli_server)
        assert quarantined(acting) == ()
        strange = f"{SCHEMA} of planter was made neither by this role nor by a superuser"
        with pytest.raises(QuarantineError, match=strange):
            release(acting)
        # Its owner may have restored the copy: then it is off, and only that role may say so.
        shown = cli.here("quarantine", "show", SOURCE, "--database", "acting", *TARGET, "--json")
        assert shown.document["others_records"] == [f"{SCHEMA} of planter"]
        assert strange in cli.here("quarantine", "show", SOURCE, "--database", "acting", *TARGET).out
        first = quarantine(acting, source=SOURCE)
        assert {item.kind for item in first.items} == {"cron job", "subscription", "trigger", "request", "function"}
        assert quarantine(acting, source=SOURCE) == first
        release(acting)
        assert state(cli_server) == before
        with cli_server.session("acting") as session:
            assert session.execute(MAY_READ_FILES).fetchone() == (False,)
            # A relation of somebody's by the name of pg_cron's is not read, and nothing beside it is called.
            session.execute(
                "ALTER SCHEMA cron RENAME TO real; CREATE SCHEMA cron AUTHORIZATION planter; SET ROLE planter;"
                " CREATE FUNCTION cron.ran() RETURNS boolean LANGUAGE plpgsql AS"
                " 'BEGIN RAISE EXCEPTION ''code of the copy ran''; END';"
                " CREATE VIEW cron.job AS SELECT 1 AS jobid, cron.ran() AS active"
            )
        scheduled = Item(
            kind=Kind.CRON_SCHEDULE,
            name="nightly",
            state={"schedule": "0 3 * * *", "command": "SELECT 1", "username": "postgres", "active": True},
        )
        assert "cron job" not in {item.kind for item in quarantine(acting, source=SOURCE, also=(scheduled,)).items}
        with pytest.raises(QuarantineError, match=r"nightly of acting cannot be put back \(there is no table cron.job"):
            release(acting)
    finally:
        with cli_server.session("acting") as session:
            session.execute("DROP OWNED BY planter CASCADE; DROP ROLE planter")


def test_what_a_role_may_not_switch_off_is_named(acting: DatabaseConnection, cli_server: Server) -> None:
    with cli_server.session("acting") as session:
        session.execute("GRANT CREATE ON DATABASE acting TO postgres")
        session.execute("GRANT USAGE ON SCHEMA cron TO postgres; GRANT SELECT ON cron.job TO postgres")
        session.execute("GRANT ALL ON net.http_request_queue TO postgres")
        session.execute("GRANT postgres TO pulse_backup WITH INHERIT TRUE")
        session.execute("ALTER ROLE postgres PASSWORD 'ordinary'")
    try:
        report = quarantine(replace(acting, user="postgres", password="ordinary"), source=SOURCE)  # type: ignore[arg-type]
        # By cron.alter_job, as on a hosted project.
        assert {item.name for item in report.items if item.kind == "cron job"} == CRON_JOBS
        assert any("told_by_hand" in text for text in report.not_switched_off)
        assert "NOT switched off" in report.line()
        assert "postgres" in logged_as(cli_server)
    finally:
        with cli_server.session("acting") as session:
            session.execute("REVOKE postgres FROM pulse_backup; ALTER ROLE postgres PASSWORD NULL")


def test_the_command_line_shows_and_releases_and_leaves_evidence(
    acting: DatabaseConnection, cli: CommandLine, cli_server: Server, make_context: ContextMaker
) -> None:
    before = state(cli_server)
    refused = cli.here("quarantine", "release", SOURCE, "--database", "acting", *TARGET, "--yes")
    assert refused.code == 1
    assert "is not quarantined" in refused.error
    quarantine(acting, source=SOURCE)
    shown = cli.here("quarantine", "show", SOURCE, "--database", "acting", *TARGET, "--json").document
    assert {"kind": "cron job", "name": "nightly cleanup (job 1 of postgres)"} in shown["items"]
    assert "state" not in shown["items"][0]
    asked = cli.here("quarantine", "release", SOURCE, "--database", "acting", *TARGET)
    assert asked.code == 2
    assert "add --yes" in asked.error
    with cli_server.session("acting") as session:
        row = session.execute("SELECT obj_description(%s::regnamespace)", (SCHEMA,)).fetchone()
    assert row is not None
    # The copy itself says how it is released.
    python, module, package, *command = shlex.split(row[0].split("`")[1])
    assert (python, module, package) == ("python", "-m", "include.backup")
    as_told = cli.with_environment(PGPASSWORD=str(acting.password))
    done = as_told.run(*command, "--yes", "--reason", "CHG-7", "--json")
    assert done.code == 0, done.err
    assert state(cli_server) == before
    assert done.document["recorded"] is True
    ledger = open_ledger(load_policy(SHIPPED_POLICY).source(SOURCE), make_context().store)
    event = ledger.find(f"release:{done.document['release_id']}")
    assert event is not None
    assert event.actor.endswith(f" by {user_name()}")
    assert (event.facts["database"], event.facts["reason"]) == ("acting", "CHG-7")
    assert event.facts["released"] == Counter(item["kind"] for item in shown["items"])
    (row,) = restore_rows([event])
    assert (row.what, unapproved(row)) == ("acting acts again", False)


def test_a_restored_copy_is_quarantined_compared_and_can_be_released(
    acting: DatabaseConnection, cli: CommandLine, cli_server: Server, make_context: ContextMaker
) -> None:
    backup_id = backup_of(make_context, acting)
    before = state(cli_server)
    arguments = ("restore", SOURCE, backup_id, "--to-database", "copy", "--create", *TARGET, "--unproven", "--yes")
    try:
        answer = cli.here(*arguments, "--json")
        assert answer.code == 0, answer.err
        report = answer.document["report"]
        assert {item["kind"] for item in report["quarantine"]["items"]} == {
            "cron job",
            "trigger",
            "request",
            "function",
        }
        assert report["compared"]["differences"] == []
        with cli_server.session("copy") as session:
            session.execute("INSERT INTO public.orders VALUES (10, 'x')")
            assert session.execute("SELECT count(*) FROM net.http_request_queue").fetchone() == (0,)
            session.execute("DELETE FROM public.orders WHERE id = 10")
        released = cli.here("quarantine", "release", SOURCE, "--database", "copy", *TARGET, "--yes")
        assert released.code == 0, released.err
        assert "copy is released" in released.out
        with cli_server.session("copy") as session:
            row = session.execute(STATE).fetchone()
        assert row is not None
        wanted = list(before)
        wanted[3] = [["from elsewhere", False]]  # pg_dump makes every subscription anew without connecting it
        assert list(row) == wanted
    finally:
        drop_copy(cli_server)


def test_a_copy_of_a_database_that_is_quarantined_itself_adds_to_its_record(
    acting: DatabaseConnection, cli: CommandLine, cli_server: Server, make_context: ContextMaker
) -> None:
    off = quarantine(acting, source=SOURCE)
    with cli_server.session("acting") as session:
        session.execute("INSERT INTO cron.job (schedule, command, jobname) VALUES ('* * * * *', 'SELECT 1', 'new')")
    backup_id = backup_of(make_context, acting)
    try:
        answer = cli.here(
            "restore", SOURCE, backup_id, "--to-database", "copy", "--create", *TARGET, "--unproven", "--yes", "--json"
        )
        assert answer.code == 0, answer.err
        items = quarantined(replace(acting, dbname="copy"))
        assert [item for item in items if item in off.items] == list(off.items)
        assert len(items) == len(off.items) + 1
    finally:
        drop_copy(cli_server)
    release(acting)


def test_without_quarantine_the_copy_acts_and_the_preview_says_so(
    acting: DatabaseConnection, cli: CommandLine, cli_server: Server, make_context: ContextMaker
) -> None:
    backup_id = backup_of(make_context, acting)
    try:
        answer = cli.here(
            "restore",
            SOURCE,
            backup_id,
            "--to-database",
            "copy",
            "--create",
            *TARGET,
            "--unproven",
            "--no-quarantine",
            "--yes",
        )
        assert answer.code == 0, answer.err
        assert "act once the copy is in place" in answer.out
        with cli_server.session("copy") as session:
            session.execute("INSERT INTO public.orders VALUES (10, 'x')")
            assert session.execute("SELECT count(*) FROM net.http_request_queue").fetchone() == (8,)
    finally:
        drop_copy(cli_server)


def backup_of(make_context: ContextMaker, database: DatabaseConnection) -> str:
    ctx = make_context.on(database)()
    run_chain(ctx, until=verify)
    return ctx.backup_id


def drop_copy(server: Server) -> None:
    if "copy" in server.databases():
        with server.session("copy") as session:
            session.execute('ALTER SUBSCRIPTION "from elsewhere" SET (slot_name = NONE)')
            session.execute('DROP SUBSCRIPTION "from elsewhere"')
        server.drop("copy")
