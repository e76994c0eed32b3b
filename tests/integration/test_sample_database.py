"""The sample database: what is in it, that it is the same each time, and that plain pg_dump and pg_restore carry it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.backup.postgres.server import PostgresServer, ServerSpec, scratch_user
from include.backup.postgres.tools import PostgresTools
from include.local.sample import SampleError, load_sample, replace_database, sample_is_loaded
from include.local.sample.__main__ import main
from include.local.sample.summary import count_rows
from tests.integration.servers import enterable_folder, tools_of

SMALL_MB = 1
SUPERUSER_PASSWORD = "superuser-secret"
BACKUP_PASSWORD = 'it\'s a "backup" \\ secret'


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running throw-away server and the tools of its version."""

    tools: PostgresTools
    superuser: str
    socket_dir: Path

    def conninfo(self, dbname: str = "pulse_messages") -> str:
        return make_conninfo(host=str(self.socket_dir), user=self.superuser, password=SUPERUSER_PASSWORD, dbname=dbname)

    def query(self, query: str, dbname: str = "pulse_messages") -> list[tuple[object, ...]]:
        with psycopg.connect(self.conninfo(dbname)) as connection:
            return connection.execute(query.encode()).fetchall()

    def run(self, program: str, *arguments: str, user: str = "", password: str = SUPERUSER_PASSWORD) -> str:
        """Run a tool against this cluster; it must succeed and must not have said a word on stderr."""
        argv = [self.tools.path(program), "-h", str(self.socket_dir), "-U", user or self.superuser, *arguments]
        done = subprocess.run(
            argv, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


StartCluster = Callable[[PostgresTools, str], Cluster]


@pytest.fixture(scope="module")
def start_cluster() -> Iterator[StartCluster]:
    with ExitStack() as stack:

        def start(tools: PostgresTools, superuser: str) -> Cluster:
            folder = stack.enter_context(enterable_folder())
            spec = ServerSpec(
                tools=tools,
                data=folder / "data",
                socket_dir=folder / "s",
                superuser=superuser,
                password=SUPERUSER_PASSWORD,
                user=scratch_user(),
                settings={"fsync": "off"},
            )
            server = PostgresServer(spec)
            server.start()
            stack.callback(server.stop)
            return Cluster(tools=tools, superuser=superuser, socket_dir=spec.socket_dir)

        yield start


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((17, "supabase_admin"), id="17, postgres is no superuser"),
        pytest.param((15, "postgres"), id="15, postgres is the superuser", marks=pytest.mark.postgres15),
    ],
)
def source(request: pytest.FixtureRequest, start_cluster: StartCluster) -> Cluster:
    """A server with a small sample in it."""
    major, superuser = request.param
    cluster = start_cluster(tools_of(major), superuser)
    replace_database(cluster.conninfo())
    load_sample(cluster.conninfo(), size_mb=SMALL_MB, backup_password=BACKUP_PASSWORD)
    return cluster


@pytest.fixture
def empty(source: Cluster) -> Iterator[str]:
    """Another, empty database of the same server."""
    conninfo = source.conninfo("empty")
    replace_database(conninfo)
    yield conninfo
    with psycopg.connect(source.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE empty WITH (FORCE)")


def contents(conninfo: str) -> dict[str, tuple[object, ...]]:
    """Digest the rows of every table, whatever their order, and every large object."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found: dict[str, tuple[object, ...]] = {}
        for table in count_rows(connection):
            query = f"""SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE "C")) FROM {table} AS t"""
            found[table] = connection.execute(query.encode()).fetchone() or ()
        blobs = connection.execute("SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid").fetchall()
        return found | {f"large object {oid}": (digest,) for oid, digest in blobs}


def schema_text(cluster: Cluster) -> list[str]:
    """Return the schema's lines, sorted: default privileges are written in the order in which roles were created."""
    lines = cluster.run("pg_dump", "--schema-only", "--create", "pulse_messages").splitlines()
    return sorted(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def test_dump_by_the_backup_role_restores_into_an_empty_cluster_without_a_word(
    source: Cluster, start_cluster: StartCluster, tmp_path: Path
) -> None:
    archive, roles = tmp_path / "archive", tmp_path / "roles.sql"
    source.run("pg_dump", "-Fc", "-f", str(archive), "pulse_messages", user="pulse_backup", password=BACKUP_PASSWORD)
    text = source.run("pg_dumpall", "--globals-only")
    roles.write_text(text.replace(f"CREATE ROLE {source.superuser};", ""))

    target = start_cluster(source.tools, source.superuser)
    with psycopg.connect(target.conninfo("postgres"), autocommit=True) as connection:
        for statement in sql_statements(roles.read_text()):
            connection.execute(statement.encode())
    target.run("pg_restore", "--exit-on-error", "--create", "-d", "postgres", str(archive))

    assert contents(target.conninfo()) == contents(source.conninfo())
    assert schema_text(target) == schema_text(source)


def sql_statements(script: str) -> list[str]:
    """Return the statements of a file of globals, which has neither bodies nor a semicolon at a line's end within."""
    lines = [line for line in script.splitlines() if line and not line.startswith(("--", "\\"))]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]


def test_same_seed_gives_the_same_database(source: Cluster, empty: str) -> None:
    load_sample(empty, size_mb=SMALL_MB)
    assert contents(empty) == contents(source.conninfo())


def test_same_seed_gives_messages_in_the_same_order(source: Cluster, empty: str) -> None:
    load_sample(empty, size_mb=SMALL_MB)
    query = "SELECT md5(string_agg(m::text, '|' ORDER BY ctid)) FROM public.messages AS m"
    assert source.query(query, "empty") == source.query(query)


def test_another_seed_gives_other_messages(source: Cluster, empty: str) -> None:
    load_sample(empty, size_mb=SMALL_MB, seed=2**40 + 1)
    ours, others = contents(source.conninfo()), contents(empty)
    assert ours['"public"."messages"'] != others['"public"."messages"']


def test_loading_again_changes_nothing(source: Cluster) -> None:
    before = contents(source.conninfo())
    summary = load_sample(source.conninfo(), size_mb=SMALL_MB, backup_password=BACKUP_PASSWORD)
    assert summary.seconds == 0.0
    assert summary.tables['"private"."no_columns"'] == 7
    assert (summary.messages, summary.large_objects) == (5_000, 5)
    assert contents(source.conninfo()) == before


def test_another_size_and_no_size_are_refused(source: Cluster) -> None:
    with pytest.raises(SampleError, match="0 MB cannot be made"):
        load_sample(source.conninfo(), size_mb=0)
    with pytest.raises(SampleError, match=r"pulse_messages holds the sample with size 1 MB .* not 2 MB .*--replace"):
        load_sample(source.conninfo(), size_mb=2)


def test_a_database_with_other_content_is_refused(source: Cluster, empty: str) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE public.precious ()")
    with pytest.raises(SampleError, match=r"empty is not empty \(1 relations\)"):
        load_sample(empty, size_mb=SMALL_MB)
    assert source.query("SELECT count(*) FROM public.precious", "empty") == [(0,)]


def test_a_role_that_is_no_superuser_is_refused(source: Cluster, empty: str) -> None:
    conninfo = make_conninfo(empty, user="pulse_backup", password=BACKUP_PASSWORD)
    with pytest.raises(SampleError, match="only a superuser"):
        load_sample(conninfo, size_mb=SMALL_MB)


def test_an_interrupted_load_leaves_the_database_empty_and_can_be_repeated(source: Cluster, empty: str) -> None:
    class InterruptedLoadError(Exception):
        pass

    def interrupt(line: str) -> None:
        if line.startswith("Policies"):
            raise InterruptedLoadError

    with pytest.raises(InterruptedLoadError):
        load_sample(empty, size_mb=SMALL_MB, on_progress=interrupt)
    assert not sample_is_loaded(empty)
    load_sample(empty, size_mb=SMALL_MB)
    assert contents(empty) == contents(source.conninfo())


def test_size_is_kept_and_messages_are_most_of_the_rows_bytes(source: Cluster, empty: str, tmp_path: Path) -> None:
    summary = load_sample(empty, size_mb=60)
    assert summary.database_bytes == pytest.approx(60e6, rel=0.05)
    everything = tmp_path / "all.sql"
    source.run("pg_dump", "-Fp", "-f", str(everything), "empty")
    messages = everything.read_bytes().partition(b"\nCOPY public.messages ")[2].partition(b"\n\\.\n")[0]
    assert len(messages) / everything.stat().st_size > 0.75


@pytest.mark.parametrize(
    ("what", "query"),
    [
        ("forced row security", "SELECT FROM pg_class WHERE relforcerowsecurity"),
        ("hash partition", "SELECT FROM pg_partitioned_table WHERE partstrat = 'h'"),
        ("partition of a partition", "SELECT FROM pg_class WHERE relkind = 'p' AND relispartition"),
        ("unlogged table", "SELECT FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'"),
        ("matview without rows", "SELECT FROM pg_class WHERE relkind = 'm' AND NOT relispopulated"),
        ("matview with rows", "SELECT FROM public.conversation_activity"),
        ("exclusion constraint", "SELECT FROM pg_constraint WHERE contype = 'x'"),
        ("deferred constraint", "SELECT FROM pg_constraint WHERE condeferred"),
        ("constraint not validated", "SELECT FROM pg_constraint WHERE NOT convalidated"),
        ("rule", "SELECT FROM pg_rules WHERE schemaname = 'private'"),
        ("event trigger", "SELECT FROM pg_event_trigger"),
        ("publication with a row filter", "SELECT FROM pg_publication_rel WHERE prqual IS NOT NULL"),
        ("statistics of expressions", "SELECT FROM pg_statistic_ext WHERE stxexprs IS NOT NULL"),
        ("column grant", "SELECT FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384"),
        (
            "grant of an extension's member",
            "SELECT FROM pg_proc WHERE oid = 'extensions.crypt'::regproc AND proacl IS NOT NULL",
        ),
        ("setting of a role in a database", "SELECT FROM pg_db_role_setting WHERE setdatabase <> 0 AND setrole <> 0"),
        ("default privileges", "SELECT FROM pg_default_acl"),
        ("rows without columns", "SELECT FROM private.no_columns"),
        ("dropped column", "SELECT FROM pg_attribute WHERE attisdropped AND attrelid >= 16384"),
        ("schema with a newline", "SELECT FROM pg_namespace WHERE nspname LIKE E'%\\n%'"),
        ("table with a newline", "SELECT FROM pg_class WHERE relkind = 'r' AND relname LIKE E'%\\n%'"),
        ("column with a newline", "SELECT FROM pg_attribute WHERE attrelid >= 16384 AND attname LIKE E'%\\n%'"),
        ("message that looks like COPY's end", "SELECT FROM public.messages WHERE body LIKE E'%\\n\\\\\\\\.\\n%'"),
        ("message that looks like null", "SELECT FROM public.messages WHERE body LIKE E'\\\\\\\\N%'"),
        ("not a number", "SELECT FROM public.invoices WHERE amount = 'NaN'"),
        ("infinite time", "SELECT FROM public.workspaces WHERE expires_at = '-infinity'"),
        ("empty large object", "SELECT FROM pg_largeobject_metadata WHERE octet_length(lo_get(oid)) = 0"),
        ("large object over a megabyte", "SELECT FROM pg_largeobject_metadata WHERE length(lo_get(oid)) > 1048576"),
        ("sequence never called", "SELECT FROM pg_sequences WHERE last_value IS NULL AND start_value = 42"),
        ("sequence that descends", "SELECT FROM pg_sequences WHERE increment_by < 0 AND start_value < 0"),
    ],
)
def test_it_holds(source: Cluster, what: str, query: str) -> None:
    assert source.query(query), f"no {what}"


def test_members_read_the_messages_of_their_workspace_only(source: Cluster) -> None:
    with psycopg.connect(source.conninfo()) as connection:
        row = connection.execute("SELECT user_id, workspace_id FROM public.workspace_members LIMIT 1").fetchone()
        assert row is not None
        theirs = sql.SQL(
            "SELECT m.id FROM public.messages AS m JOIN public.conversations AS c ON c.id = m.conversation_id "
            "WHERE c.workspace_id = {} AND m.deleted_at IS NULL ORDER BY m.id"
        ).format(sql.Literal(row[1]))
        expected = connection.execute(theirs).fetchall()
        connection.execute("SELECT set_config('request.jwt.claim.sub', %s, true)", (str(row[0]),))
        connection.execute("SET LOCAL ROLE authenticated")
        assert connection.execute("SELECT id FROM public.messages ORDER BY id").fetchall() == expected
        assert 0 < len(expected) < 5_000


def test_every_view_can_be_read(source: Cluster) -> None:
    views = source.query(
        "SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE schemaname !~ '^(pg_|info|ext)'"
    )
    assert len(views) == 4
    for (view,) in views:
        source.query(f"SELECT * FROM {view} LIMIT 5")


def test_command_line_replaces_a_database_and_says_what_is_in_it(
    source: Cluster, empty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE public.old ()")
    assert main(["--dsn", empty, "--size-mb", "1"]) == 1
    assert "empty is not empty" in capsys.readouterr().err
    assert main(["--dsn", empty, "--size-mb", "1", "--replace"]) == 0
    assert "empty: loaded in " in capsys.readouterr().out


def test_command_line_explains_itself() -> None:
    argv = [sys.executable, "-m", "include.local.sample", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "--size-mb" in done.stdout
