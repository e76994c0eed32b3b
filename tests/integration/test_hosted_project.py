"""A backup of one Supabase project comes up in another, whose postgres is no superuser, and says what it left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import QuarantineError, RestoreDiffersError, RestoreError, RestoreRefusedError
from include.backup.hosted.plan import ProjectPlan, ProjectRequest, plan_project_restore
from include.backup.hosted.restore import ProjectReport, restore_project
from include.backup.inventory import Standing
from include.backup.process import Runner
from include.backup.quarantine import quarantined, release
from include.backup.steps import verify
from include.local.stack import Stack
from tests.support.command_line import SOURCE, CommandLine, Server, restore_on_record
from tests.support.contexts import ContextMaker, run_chain
from tests.support.hosted_project import HostedProject, hosted_project
from tests.support.proofs import StoredBackup
from tests.support.restores import Marks

pytest_plugins = ["tests.support.cli_fixtures"]
ACTING_SQL = Path(__file__).parents[1] / "support" / "sql" / "acting.sql"


@pytest.fixture(scope="module")
def hosted(state_dir: Path, cli_server: Server) -> Iterator[HostedProject]:
    with hosted_project(state_dir / "hosted", like=replace(cli_server.superuser, dbname="pulse_messages")) as project:
        yield project


def planned(backup: StoredBackup, endpoint: DatabaseConnection, **changes: Any) -> ProjectPlan:
    values: dict[str, Any] = {
        "store": backup.store,
        "manifest": backup.manifest,
        "standing": Standing.PROVEN,
        "endpoint": endpoint,
        "sources": (),
        "unproven": False,
        "jobs": 2,
    }
    return plan_project_restore(ProjectRequest(**{**values, **changes}))


def restored(plan: ProjectPlan, folder: Path) -> ProjectReport:
    manifest = plan.request.manifest
    marks = Marks(plan.request.store, manifest.source)
    report = restore_project(
        plan, runner=Runner(), log=logging.getLogger("tests.hosted"), progress=marks, work_root=folder
    )
    assert marks.seen.keys() == {manifest.backup_id}
    return report


# What a customer's role may not do in a project without supautils; each is told, and nothing else.
REFUSED = {
    "POLICY auth.users Own account",
    "POLICY storage.objects Public buckets are readable",
    "POLICY storage.objects Workspace's folder",
    "PUBLICATION TABLE public.supabase_realtime conversations",
    "PUBLICATION TABLE public.supabase_realtime messages",
    "PUBLICATION TABLE public.supabase_realtime reactions",
    'PUBLICATION TABLES IN SCHEMA audit.Audit, "all" audit',
}
ACCESS = """
SELECT jsonb_object_agg(r.rolname || ' ' || c.oid::regclass, (
    SELECT coalesce(string_agg(p, ',' ORDER BY p), '')
      FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
     WHERE has_table_privilege(r.rolname, c.oid, p)))
  FROM pg_class c, pg_roles r
 WHERE c.relnamespace::regnamespace::text IN ('public', 'private', 'audit') AND c.relkind IN ('r', 'p', 'v', 'm')
   AND r.rolname IN ('anon', 'authenticated', 'service_role')
"""
# An owner's own rights may be listed or not; they are the same.
DEFAULTS = """
SELECT jsonb_agg(x ORDER BY x) FROM (
    SELECT jsonb_build_array(defaclobjtype, defaclnamespace::regnamespace, grantee::regrole, privilege_type) AS x
      FROM pg_default_acl, aclexplode(defaclacl)
     WHERE defaclrole = 'postgres'::regrole AND defaclnamespace <> 0 AND grantee <> defaclrole) d
"""
MEMBER_OF_A_MADE_ROLE = "SELECT pg_has_role('postgres', 'Pulse \"Ops\" \\ team', 'USAGE')"
SEEN = "SELECT jsonb_build_array((SELECT count(*) FROM public.messages), (SELECT count(*) FROM public.users))"


def as_role(session: Any, role: str, question: str) -> Any:
    session.execute(f"SET ROLE {role}")
    try:
        return session.execute(question).fetchone()[0]
    finally:
        session.execute("RESET ROLE")


def test_the_sample_comes_up_in_another_project_and_is_as_closed_as_it_was(
    hosted: HostedProject, taken_backup: StoredBackup, cli_server: Server, tmp_path: Path
) -> None:
    endpoint = hosted.new()
    plan = planned(taken_backup, endpoint)
    report = restored(plan, tmp_path)

    assert report.compared.differences == ()
    assert report.schema_objects > 200
    manifest = taken_backup.manifest
    migrations = {"schema_migrations", "migrations"}
    assert report.rows == manifest.rows - sum(t.rows for t in manifest.table_data if t.table in migrations)
    what = {item.what for item in report.left_out}
    assert what >= REFUSED
    assert {text.partition(" ")[0] for text in what - REFUSED} <= {"ACL", "setting:", "of"}, what - REFUSED
    name = endpoint.dbname
    # Supabase's own state is untouched, and what the sample has in its place is in it.
    assert hosted.value(name, "SELECT count(*) FROM auth.schema_migrations") == 70
    assert hosted.value(name, "SELECT count(*) FROM pg_event_trigger") == 1
    owner = "SELECT pubowner::regrole::text FROM pg_publication WHERE pubname = 'supabase_realtime'"
    assert hosted.value(name, owner) == "supabase_admin"
    assert hosted.value(name, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'auth'") == (
        "supabase_auth_admin"
    )
    with cli_server.session("pulse_messages") as there, hosted.session(name) as here:
        for question in (
            ACCESS,
            "SELECT jsonb_agg(jsonb_build_array(polname, polrelid::regclass, polcmd, pg_get_expr(polqual, polrelid))"
            " ORDER BY polrelid::regclass::text, polname) FROM pg_policy"
            " WHERE polrelid::regclass::text !~ '^(auth|storage)'",
            "SELECT jsonb_agg(jsonb_build_array(relname, relowner::regrole) ORDER BY relname) FROM pg_class"
            " WHERE relnamespace::regnamespace::text IN ('public', 'private', 'audit') AND relkind IN ('r', 'v', 'S')",
            DEFAULTS,
            "SELECT count(*) FROM auth.users",
            "SELECT last_value FROM auth.refresh_tokens_id_seq",
            "SELECT count(*) FROM storage.objects",
        ):
            wanted, found = there.execute(question).fetchone(), here.execute(question).fetchone()
            assert wanted == found, question
        for role in ("anon", "authenticated"):
            assert as_role(here, role, SEEN) == as_role(there, role, SEEN)
        assert here.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'public'").fetchone() != (0,)
    # Nobody is left with a membership that only the restore needed.
    assert hosted.value(name, MEMBER_OF_A_MADE_ROLE) is False


def test_where_the_role_may_do_more_more_is_carried_over(
    hosted: HostedProject, taken_backup: StoredBackup, tmp_path: Path
) -> None:
    endpoint = hosted.new()
    hosted.do("postgres", "GRANT supabase_storage_admin, supabase_auth_admin TO postgres WITH INHERIT TRUE")
    hosted.do(endpoint.dbname, "ALTER PUBLICATION supabase_realtime OWNER TO postgres")
    try:
        report = restored(planned(taken_backup, endpoint), tmp_path)
    finally:
        hosted.do("postgres", "REVOKE supabase_storage_admin, supabase_auth_admin FROM postgres")
    assert {item.what for item in report.left_out} & REFUSED == {
        'PUBLICATION TABLES IN SCHEMA audit.Audit, "all" audit'
    }
    assert (
        hosted.value(endpoint.dbname, "SELECT count(*) FROM pg_policy WHERE polrelid = 'storage.objects'::regclass")
        == 2
    )
    assert hosted.value(endpoint.dbname, "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'messages'") == 1


def test_default_privileges_that_stay_in_force_would_open_tables_and_are_noticed(
    hosted: HostedProject, taken_backup: StoredBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.hosted.statements.DefaultPrivileges.take_away", lambda self: None)
    with pytest.raises(RestoreDiffersError, match=r"definitions in project\d+ .* differ.*ACL"):
        restored(planned(taken_backup, hosted.new()), tmp_path)


def test_a_failed_restore_gives_the_default_privileges_back(
    hosted: HostedProject, taken_backup: StoredBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = hosted.new()
    question = "SELECT array_agg(defaclacl::text ORDER BY oid) FROM pg_default_acl"
    before = hosted.value(endpoint.dbname, question)

    def fail(*_: Any, **__: Any) -> None:
        raise RestoreError("the disk is full")

    monkeypatch.setattr("include.backup.hosted.restore.TableLoader.load", fail)
    with pytest.raises(RestoreError, match="disk is full"):
        restored(planned(taken_backup, endpoint), tmp_path)
    rights = "SELECT count(*) FROM pg_default_acl d, aclexplode(d.defaclacl) WHERE d.defaclrole = 'postgres'::regrole"
    assert hosted.value(endpoint.dbname, rights) == hosted.value("hosted", rights)
    assert before


@pytest.fixture
def acting_backup(cli_server: Server, make_context: ContextMaker, stack: Stack) -> Iterator[StoredBackup]:
    """A backup of a database with cron jobs, webhooks and requests, and with secrets of the vault."""
    with cli_server.session("postgres") as session:
        session.execute("CREATE DATABASE acting_project TEMPLATE template0")
    try:
        with cli_server.session("acting_project") as session:
            session.execute(ACTING_SQL.read_bytes())
            session.execute(
                "CREATE SCHEMA vault; CREATE TABLE vault.secrets (id uuid, name text, secret text NOT NULL)"
            )
            session.execute("INSERT INTO vault.secrets VALUES (gen_random_uuid(), 'key', 'c2VjcmV0')")
            session.execute(
                "INSERT INTO cron.job (schedule, command, jobname, username)"
                " VALUES ('0 5 * * *', 'SELECT 3', 'the provider''s', 'supabase_admin')"
            )
            # Its owner is none that a customer's role can name, so that it would become the releasing role's own.
            session.execute(
                "CREATE SCHEMA backup_quarantine AUTHORIZATION authenticator; SET ROLE authenticator;"
                " CREATE TABLE backup_quarantine.items (kind text, name text, state jsonb);"
                " INSERT INTO backup_quarantine.items VALUES ('subscription', 'planted', '{}'); RESET ROLE"
            )
        ctx = make_context.on(replace(stack.database_connection(), dbname="acting_project"))()
        run_chain(ctx, until=verify)
        yield StoredBackup(store=ctx.store, manifest=ctx.catalog.manifest(ctx.backup_id), scratch_root=ctx.scratch_root)
    finally:
        cli_server.drop("acting_project")


def test_cron_jobs_come_back_only_when_the_copy_is_released(
    hosted: HostedProject, acting_backup: StoredBackup, tmp_path: Path
) -> None:
    endpoint = hosted.new()
    report = restored(planned(acting_backup, endpoint), tmp_path)
    said = {item.what: item.why for item in report.left_out}
    assert "root key" in said["rows of vault.secrets"]
    assert "not sent a second time" in said["rows of net.http_request_queue"]
    assert any("new order's webhook" in what for what in said)
    assert "of the source itself" in said["SCHEMA backup_quarantine"]
    assert "planted" not in {item.name for item in report.quarantine.items}
    assert "postgres may not act as supabase_admin" in said["cron job the provider's (job 5 of supabase_admin)"]
    assert {item.name for item in report.quarantine.items if item.kind == "cron schedule"} == {
        "nightly cleanup (job 1 of postgres)",
        'send reminders; it\'s "odd" (job 2 of postgres)',
        "off at the source (job 3 of postgres)",
        'nightly cleanup (job 4 of Pulse "Ops" \\ team)',
    }
    with pytest.raises(QuarantineError, match="cannot be put back"):
        release(endpoint)  # the project has no pg_cron yet
    cron = ACTING_SQL.read_text().partition("\nINSERT INTO cron.job (schedule")[0].partition("CREATE SCHEMA cron;")[2]
    team = 'GRANT USAGE ON SCHEMA cron TO postgres, "Pulse ""Ops"" \\ team"'
    hosted.do(endpoint.dbname, f"CREATE SCHEMA cron; {cron}; {team}")
    # As an earlier version has recorded it: the job's own name is its item's alone.
    hosted.do(
        endpoint.dbname,
        "UPDATE backup_quarantine.items SET name = state ->> 'jobname', state = state - 'jobname'"
        " WHERE state ->> 'jobname' = 'off at the source'",
    )
    release(endpoint)
    assert quarantined(endpoint) == ()
    shown = "jobname || ' ' || schedule || ' ' || active || ' ' || username"
    jobs = f"SELECT array_agg({shown} ORDER BY jobname, schedule) FROM cron.job"
    assert hosted.value(endpoint.dbname, jobs) == [
        "nightly cleanup 0 3 * * * true postgres",
        'nightly cleanup 0 4 * * * true Pulse "Ops" \\ team',
        "off at the source 0 0 1 1 * false postgres",
        'send reminders; it\'s "odd" */5 * * * * true postgres',
    ]
    assert hosted.value(endpoint.dbname, MEMBER_OF_A_MADE_ROLE) is False


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("CREATE TABLE public.already (id int)", "holds public.already"),
        ("INSERT INTO auth.users (id) VALUES (gen_random_uuid())", "auth.users of the target already has rows"),
        ("ALTER TABLE auth.users DROP COLUMN is_anonymous", "auth.users of the target lacks the columns is_anonymous"),
        ("DROP TABLE auth.mfa_factors", "mfa_factors"),
        ("DROP SCHEMA storage CASCADE", "is no Supabase project"),
        ("REVOKE SET ON PARAMETER session_replication_role FROM postgres", "may not set session_replication_role"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_before_anything_is_changed(
    hosted: HostedProject, taken_backup: StoredBackup, change: str, words: str
) -> None:
    endpoint = hosted.new()
    hosted.do(endpoint.dbname, change)
    try:
        if "mfa_factors" in change and not rows_of(taken_backup, "mfa_factors"):
            planned(taken_backup, endpoint)  # without rows there is nothing to lose
            return
        with pytest.raises(RestoreRefusedError, match=words):
            planned(taken_backup, endpoint)
    finally:
        hosted.do("postgres", "GRANT SET ON PARAMETER session_replication_role TO postgres")


def rows_of(backup: StoredBackup, table: str) -> int:
    return sum(item.rows for item in backup.manifest.table_data if item.table == table)


def test_an_unproven_backup_and_the_source_itself_are_refused(
    hosted: HostedProject, taken_backup: StoredBackup
) -> None:
    endpoint = hosted.new()
    with pytest.raises(RestoreRefusedError, match="nobody has shown that it restores"):
        planned(taken_backup, endpoint, standing=Standing.UNPROVEN)
    with pytest.raises(RestoreRefusedError, match="is a source itself"):
        planned(taken_backup, endpoint, sources=(endpoint,))


def test_the_command_line_previews_and_restores(
    hosted: HostedProject, taken: dict[str, Any], taken_backup: StoredBackup, cli: CommandLine
) -> None:
    endpoint = hosted.new()
    target = {
        "conn_type": "postgres", "host": endpoint.host, "port": 5432, "schema": endpoint.dbname, "login": "postgres",
        "password": str(endpoint.password), "extra": {"sslmode": "disable"},
    }  # fmt: skip
    command = cli.with_environment(AIRFLOW_CONN_NEW_PROJECT=json.dumps(target))
    arguments = ("restore-project", SOURCE, taken["backup_id"], "--connection", "new_project")
    shown = command.here(*arguments, "--dry-run")
    assert shown.code == 0, shown.err
    assert "beside what Supabase has made there" in shown.out
    assert hosted.value(endpoint.dbname, "SELECT to_regclass('public.messages') IS NULL") is True
    assert command.here(*arguments).code == 2
    done = command.run(*arguments, "--yes", "--json")
    assert done.code == 0, done.err
    assert done.document["report"]["compared"]["differences"] == []
    told = restore_on_record(taken_backup.store, done.document)
    assert (told["database"], told["rows"]) == (endpoint.dbname, done.document["report"]["rows"])
    assert str(endpoint.password) not in done.out + done.err
    again = command.here(*arguments, "--yes")
    assert again.code == 5
    assert "restore into a new project" in again.error
