"""The command line against real servers, each command as a person runs it."""

from __future__ import annotations

import os
import pty
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backports import zstd

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.errors import StoreUnreachableError
from include.backup.policy import SourcePolicy
from include.backup.postgres.lock import lock_key
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.toc import parse_copy
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.steps import upload
from include.backup.steps.context import open_catalog, open_store
from include.local.credentials import load_credentials
from include.local.ports import free_port_base
from include.local.source import SUPERUSER
from include.local.stack import Stack
from tests.support import source15 as fifteen
from tests.support.command_line import CommandLine, Server, command_environment, wait_for
from tests.support.proofs import StoredBackup

SOURCE = "pulse_messages"
TARGET = ("--connection", "restore_target")
NO_SUCH = "pulse_messages_daily_full_20200101T000000Z_3fa9c1"


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[Server]:
    """The embedded server as its superuser; what the tests restore there goes at the end."""
    password = load_credentials(stack.layout.credentials).source_superuser_password
    superuser = replace(stack.database_connection(), user=SUPERUSER, dbname="postgres", password=Secret(password))
    found = Server(superuser)
    before = found.databases()
    yield found
    for name in found.databases() - before:
        found.drop(name)


@pytest.fixture(scope="module")
def cli(stack: Stack, server: Server, state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line on the embedded stack, in a folder that is not the project's."""
    staging = state_dir / "cli-staging"
    credentials = load_credentials(stack.layout.credentials)
    environment = {**stack.environment(), "BACKUP_STAGING_DIR": str(staging)}
    return CommandLine(
        environment=command_environment(environment, restore_target=server.superuser),
        secrets=(
            credentials.source_superuser_password,
            credentials.source_backup_password,
            credentials.store_secret_key,
            credentials.slack_token,
        ),
        folder=tmp_path_factory.mktemp("elsewhere"),
    )


@pytest.fixture(scope="module")
def staging(cli: CommandLine) -> Path:
    return Path(cli.environment["BACKUP_STAGING_DIR"])


@pytest.fixture(scope="module")
def taken(cli: CommandLine, staging: Path) -> dict[str, Any]:
    """One proven backup, taken by the command line; the document that told of it."""
    answer = cli.run("run", SOURCE, "--tier", "daily", "--json")
    assert answer.code == 0, answer.err
    assert list(staging.iterdir()) == []
    document: dict[str, Any] = answer.document
    return document


@pytest.fixture(scope="module")
def stored(taken: dict[str, Any], stack: Stack, policy_source: SourcePolicy) -> StoredBackup:
    """That backup as it lies in the store, for forging others after it."""
    store = open_store(policy_source, stack.store_connection())
    manifest = open_catalog(policy_source, store).manifest(taken["backup_id"])
    return StoredBackup(store=store, manifest=manifest, scratch_root=stack.layout.scratch)


class Forger:
    """Puts backups into the store that are not as they should be."""

    def __init__(self, stored: StoredBackup) -> None:
        self.stored = stored
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"pulse_messages_daily_full_20200101T000000Z_{self._count:06x}"

    def put(self, key: str, body: bytes) -> None:
        self.stored.store.s3.put_object(Bucket=self.stored.store.bucket, Key=key, Body=body)

    def backup(self, forged: StoredBackup) -> str:
        """Store a manifest under an id of its own; return the id."""
        backup_id = self.new_id()
        manifest = replace(forged.manifest, backup_id=backup_id)
        self.put(f"daily/{backup_id}.manifest.json", manifest.to_json())
        return backup_id


@pytest.fixture(scope="module")
def forger(stored: StoredBackup) -> Iterator[Forger]:
    forger = Forger(stored)
    yield forger
    for number in range(forger._count + 1):
        for suffix in ("tar", "manifest.json"):
            key = f"daily/pulse_messages_daily_full_20200101T000000Z_{number:06x}.{suffix}"
            stored.store.s3.delete_object(Bucket=stored.store.bucket, Key=key)


# --- run -------------------------------------------------------------------------------------------


def test_run_takes_a_backup_and_proves_it(taken: dict[str, Any], stored: StoredBackup) -> None:
    assert taken["proven"] is True
    assert taken["run_id"].startswith("command_line__")
    assert set(taken["steps"]) == {
        "preflight",
        "dump",
        "compress",
        "upload",
        "verify",
        "restore_test",
        "close_staging",
    }
    assert taken["steps"]["restore_test"]["rows"] == taken["steps"]["compress"]["rows"] == stored.manifest.rows
    assert stored.manifest.run.dag_id == "command_line"
    assert stored.manifest.run.run_id == taken["run_id"]


def test_run_guards_a_release_and_says_what_it_did_in_plain_lines(cli: CommandLine) -> None:
    answer = cli.run(
        "run", SOURCE, "--tier", "pre_deployment", "--release", "2025.3.1", "--git-sha", "4f2c91e", "--no-proof"
    )
    assert answer.code == 0, answer.err
    assert "is stored and verified" in answer.out
    assert "not proven (--no-proof)" in answer.out
    assert "SHA-256" in answer.err
    shown = cli.here("show", SOURCE, "latest", "--tier", "pre_deployment", "--json").document
    assert shown["manifest"]["release"] == {"name": "2025.3.1", "git_sha": "4f2c91e"}
    assert shown["standing"] == "unproven"
    assert cli.here("verify", SOURCE, "latest-proven", "--tier", "pre_deployment").code == 2


def test_run_refuses_while_another_backup_of_the_source_runs(cli: CommandLine, server: Server, staging: Path) -> None:
    with server.session(SOURCE) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key(SOURCE),))
        answer = cli.run("run", SOURCE, "--tier", "daily", "--wait", "0")
    assert answer.code == 1
    assert "another backup of pulse_messages is running (pid " in answer.error
    assert list(staging.iterdir()) == []


def test_an_interrupted_run_ends_its_children_and_leaves_nothing(
    cli: CommandLine, server: Server, staging: Path
) -> None:
    with server.session(SOURCE) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (lock_key(SOURCE),))
        with cli.started("run", SOURCE, "--tier", "daily") as child:
            assert child.stderr is not None
            while "waiting up to" not in child.stderr.readline():
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            rest = child.stderr.read()
            assert child.wait(30) == 130
    assert rest.splitlines()[-1] == "error: ended by SIGINT"
    assert "Traceback" not in rest
    assert list(staging.iterdir()) == []


def test_a_run_that_failed_to_store_its_dump_goes_on_with_it(
    cli: CommandLine, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(ctx: object) -> None:
        raise StoreUnreachableError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(upload, "run", away)
        failed = cli.here("run", SOURCE, "--tier", "daily", "--no-proof")
    assert (failed.code, failed.error) == (3, "error: the store is away")
    (left,) = staging.iterdir()
    assert f"--resume {left.name}" in failed.err

    resumed = cli.here("run", SOURCE, "--resume", left.name, "--no-proof", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.document["backup_id"] == left.name
    assert resumed.document["steps"]["dump"]["reused"] is True
    assert list(staging.iterdir()) == []


# --- list, show, verify ----------------------------------------------------------------------------


def test_list_shows_each_backup_with_its_standing(cli: CommandLine, taken: dict[str, Any]) -> None:
    backups = {item["backup_id"]: item for item in cli.run("list", SOURCE, "--json").document["backups"]}
    found = backups[taken["backup_id"]]
    assert (found["tier"], found["completeness"], found["standing"]) == ("daily", "complete", "proven")
    assert found["size"] == taken["steps"]["upload"]["size"]
    plain = cli.run("list", SOURCE, "--tier", "daily")
    assert plain.code == 0
    (line,) = [line for line in plain.out.splitlines() if line.startswith(taken["backup_id"])]
    assert line.split()[-2:] == ["complete", "proven"]
    assert "pre_deployment" not in plain.out


def test_list_shows_what_is_half_there(cli: CommandLine, forger: Forger) -> None:
    no_manifest, no_archive = forger.new_id(), forger.new_id()
    forger.put(f"daily/{no_manifest}.tar", b"x")
    forger.put(f"daily/{no_archive}.manifest.json", b"{}")
    states = {
        item["backup_id"]: item["completeness"] for item in cli.here("list", SOURCE, "--json").document["backups"]
    }
    assert states[no_manifest] == "no manifest"
    assert states[no_archive] == "no archive"


@pytest.mark.parametrize("wanted", ["id", "latest-proven"])
def test_show_tells_what_a_backup_holds(cli: CommandLine, taken: dict[str, Any], wanted: str) -> None:
    name = taken["backup_id"] if wanted == "id" else wanted
    shown = cli.run("show", SOURCE, name, "--json").document
    assert shown["backup_id"] == taken["backup_id"]
    assert shown["rows"] == taken["steps"]["compress"]["rows"]
    assert shown["manifest"]["format_version"] == 1
    assert shown["proofs"][0]["result"] == "passed"
    plain = cli.here("show", SOURCE, name).out
    assert "public.messages" in plain
    assert "passed (complete)" in plain


def test_verify_asks_the_store(cli: CommandLine, taken: dict[str, Any]) -> None:
    document = cli.run("verify", SOURCE, taken["backup_id"], "--json").document
    assert document["store"]["method"] == "kept by the store"
    assert document["proof"] is None
    assert "verified" in cli.here("verify", SOURCE, taken["backup_id"]).out


def test_verify_can_prove_a_backup_that_is_not(cli: CommandLine, stored: StoredBackup, forger: Forger) -> None:
    backup_id = forger.backup(stored)
    answer = cli.run("verify", SOURCE, backup_id, "--restore-test", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["proof"]["result"] == "passed"
    assert cli.here("show", SOURCE, backup_id, "--json").document["standing"] == "proven"


def test_verify_says_of_a_forged_backup_what_differs(cli: CommandLine, stored: StoredBackup, forger: Forger) -> None:
    name = stored.data_member("public.users").name
    forged = stored.repacked({name: stored.stored(name)[:-9] + b"corrupted"}, rehashed=False)
    backup_id = forger.backup(forged)
    answer = cli.here("verify", SOURCE, backup_id, "--restore-test", "--json")
    # The forged object was not encrypted with the key that the manifest names.
    assert answer.code == 4
    assert answer.document["error"]["kind"] == "ObjectDiffersError"
    assert answer.document["error"]["message"] in answer.error


# --- restore ---------------------------------------------------------------------------------------


def test_restore_brings_back_identical_content(
    cli: CommandLine, taken: dict[str, Any], server: Server, staging: Path
) -> None:
    answer = cli.run(
        "restore", SOURCE, taken["backup_id"], "--to-database", "restored", "--create", *TARGET, "--yes", "--json"
    )
    assert answer.code == 0, answer.err
    report = answer.document["report"]
    assert report["compared"]["rows"] == report["rows"] == taken["steps"]["compress"]["rows"]
    assert report["compared"]["differences"] == []
    assert set(report["durations"]) == {"objects", "rows", "indexes", "analyze", "compare"}
    assert report["refused_properties"] == []
    assert server.contents("restored") == server.contents(SOURCE)
    assert properties(server, "restored") == properties(server, SOURCE)
    assert list(staging.iterdir()) == []


def properties(server: Server, database: str) -> tuple[Any, ...]:
    """Return what a database itself has: owner, grants, comment, settings."""
    with server.session("postgres") as session:
        row = session.execute(
            "SELECT datdba::regrole::text, datacl::text, shobj_description(oid, 'pg_database'), datcollate,"
            " (SELECT array_agg(setrole::text || setconfig::text ORDER BY setrole) FROM pg_db_role_setting"
            "   WHERE setdatabase = d.oid)"
            " FROM pg_database d WHERE datname = %s",
            (database,),
        ).fetchone()
    assert row is not None
    return tuple(row)


def test_restore_fills_an_existing_empty_database_and_says_so_in_plain_lines(
    cli: CommandLine, taken: dict[str, Any], server: Server
) -> None:
    name = "x'; DROP DATABASE pulse_messages; --\""
    with server.session("postgres") as session:
        session.execute(psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(psycopg.sql.Identifier(name)))
    answer = cli.here(
        "restore", SOURCE, taken["backup_id"], "--to-database", name, *TARGET, "--yes", "--jobs", "1", "--no-compare"
    )
    assert answer.code == 0, answer.err
    assert "an existing, empty database" in answer.out
    assert "nothing was compared" in answer.out
    assert server.contents(name) == server.contents(SOURCE)


def test_a_dry_run_only_tells(cli: CommandLine, taken: dict[str, Any], server: Server) -> None:
    arguments = ("restore", SOURCE, "latest-proven", "--to-database", "never", "--create", *TARGET, "--dry-run")
    plain = cli.run(*arguments)
    assert plain.code == 0, plain.err
    assert f"{taken['steps']['compress']['rows']} rows" in plain.out
    assert "its restore test of" in plain.out
    preview = cli.here(*arguments, "--json").document["preview"]
    assert preview["estimated_seconds"] > 0
    assert preview["archive_bytes"] == taken["steps"]["upload"]["size"]
    assert "never" not in server.databases()


def test_a_person_at_a_terminal_is_asked_and_sees_a_bar(
    cli: CommandLine, taken: dict[str, Any], server: Server
) -> None:
    for answer, code in (("no", 2), ("asked", 0)):
        ours, theirs = pty.openpty()
        arguments = (
            "restore",
            SOURCE,
            taken["backup_id"],
            "--to-database",
            "asked",
            "--create",
            *TARGET,
            "--no-compare",
        )
        with cli.started(*arguments, stdin=theirs, stderr=theirs) as child:
            os.close(theirs)
            seen = Terminal(ours)
            seen.wait_for("Type the name")
            os.write(ours, f"{answer}\n".encode())
            assert child.wait(60) == code, seen.text
            seen.thread.join(10)
        os.close(ours)
        assert ("asked" in server.databases()) is (code == 0)
    assert "\x1b[" in seen.text


class Terminal:
    """Reads what a child shows on its terminal."""

    def __init__(self, descriptor: int) -> None:
        self.text = ""
        self._descriptor = descriptor
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text, text)

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:  # the child has closed its side
                return


def test_without_a_terminal_nobody_is_asked(cli: CommandLine, taken: dict[str, Any]) -> None:
    answer = cli.run("restore", SOURCE, taken["backup_id"], "--to-database", "unasked", "--create", *TARGET)
    assert answer.code == 2
    assert "add --yes" in answer.error


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--to-database", SOURCE, *TARGET), 5, "is the source itself"),
        (("--to-database", SOURCE, "--create", *TARGET), 5, "is the source itself"),
        (("--to-database", "postgres", "--create", *TARGET), 5, "is there already"),
        (("--to-database", "nowhere", *TARGET), 5, "add --create to make it"),
        (("--to-database", "new", "--create"), 5, "pulse_backup may not create databases"),
        (("--to-database", "template1", *TARGET), 2, "PostgreSQL's own"),
        (("--to-database", "x" * 64, *TARGET), 2, "1 to 63 bytes"),
        (("--to-database", "new", "--create", "--connection", "unknown"), 2, "there is no connection unknown"),
        (("--to-database", "new", "--create", "--connection", "pulse_backups_s3"), 2, "has type 'aws'"),
        (("--to-database", "new", "--create", *TARGET, "--host", "x"), 2, "give one"),
        (("--to-database", "new", "--create", "--port", "5"), 2, "--port goes with --host only"),
        (("--to-database", "new", "--create", "--host", "x", "--sslmode", "bad"), 2, "sslmode 'bad'"),
    ],
)
def test_restore_refuses_before_anything_is_changed(
    cli: CommandLine, taken: dict[str, Any], server: Server, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = server.databases()
    answer = cli.here("restore", SOURCE, taken["backup_id"], *arguments, "--yes")
    assert (answer.code, words in answer.error) == (code, True), answer.err
    assert server.databases() == before


def test_a_target_with_anything_in_it_is_refused(cli: CommandLine, taken: dict[str, Any], server: Server) -> None:
    with server.session("postgres") as session:
        session.execute("CREATE DATABASE in_use TEMPLATE template0")
    with server.session("in_use") as session:
        session.execute("CREATE FUNCTION keep() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    answer = cli.here("restore", SOURCE, taken["backup_id"], "--to-database", "in_use", *TARGET, "--yes")
    assert answer.code == 5
    assert "is not empty, it holds function public.keep" in answer.error
    with server.session("in_use") as session:
        assert session.execute("SELECT keep()").fetchone() == (1,)


def test_an_unreachable_target_and_a_wrong_password_are_3(
    cli: CommandLine, taken: dict[str, Any], server: Server
) -> None:
    arguments = (
        "restore",
        SOURCE,
        taken["backup_id"],
        "--to-database",
        "new",
        "--create",
        "--yes",
        "--host",
        "localhost",
    )
    closed = cli.here(*arguments, "--port", str(free_port_base()))
    assert closed.code == 3
    there = (*arguments, "--port", str(server.superuser.port), "--user", SUPERUSER)
    ca = server.superuser.sslrootcert or ""
    wrong = cli.with_environment(PGPASSWORD="not-the-password").here(*there, "--sslrootcert", ca)
    assert wrong.code == 3
    assert "password authentication failed" in wrong.error
    assert "not-the-password" not in wrong.err
    untrusted = cli.here(*there, "--sslrootcert", str(Path(__file__)))
    assert untrusted.code == 3


def test_an_unproven_backup_is_refused_unless_a_person_insists(
    cli: CommandLine, stored: StoredBackup, forger: Forger
) -> None:
    arguments = ("restore", SOURCE, forger.backup(stored), "--to-database", "new", "--create", *TARGET, "--dry-run")
    answer = cli.here(*arguments)
    assert answer.code == 5
    assert "nobody has shown that it restores" in answer.error
    insisted = cli.here(*arguments, "--unproven")
    assert insisted.code == 0
    assert "warning     this backup is unproven" in insisted.out


def test_an_interrupted_restore_ends_pg_restore(cli: CommandLine, taken: dict[str, Any], server: Server) -> None:
    """A lock on pg_namespace lets nobody make a schema, so that pg_restore waits for as long as the test wants."""
    with server.session("postgres") as session:
        session.execute("CREATE DATABASE slow TEMPLATE template0")
    with server.session("slow") as other, server.session("postgres") as look:
        other.autocommit = False
        other.execute("LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE")
        arguments = ("restore", SOURCE, taken["backup_id"], "--to-database", "slow", *TARGET, "--yes")
        with cli.started(*arguments) as child:
            wait_for(lambda: waiting(look) > 0, "pg_restore's wait")
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 143
            assert child.stderr is not None
            lines = child.stderr.read().splitlines()
        wait_for(lambda: waiting(look) == 0, "the end of pg_restore's session")
    assert "error: ended by SIGTERM" in lines
    assert any("slow" in line and "may hold a part of the backup" in line for line in lines)


def waiting(session: psycopg.Connection[Any]) -> int:
    row = session.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'slow' AND application_name = 'pulse_restore'"
        " AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(row[0]) if row else 0


# --- what may be wrong with a backup ---------------------------------------------------------------


def damaged(stored: StoredBackup, forger: Forger, how: str) -> str:
    """Forge a backup that is wrong in one way; return its id."""
    key = stored.manifest.archive.key
    manifest = stored.manifest.to_json()
    backup_id = forger.new_id()
    if how == "nothing is there":
        return NO_SUCH
    if how == "no manifest":
        forger.put(f"daily/{backup_id}.tar", b"x")
    elif how == "no archive":
        return forger.backup(stored.saying(archive=replace(stored.manifest.archive, key=f"daily/{backup_id}.tar")))
    elif how == "short archive":
        forger.put(f"daily/{backup_id}.tar", stored.archive[:-1024])
        return forger.backup(stored.saying(archive=replace(stored.manifest.archive, key=f"daily/{backup_id}.tar")))
    elif how == "unknown version":
        forger.put(
            f"daily/{backup_id}.manifest.json", manifest.replace(b'"format_version": 1', b'"format_version": 99')
        )
    elif how == "no JSON":
        forger.put(f"daily/{backup_id}.manifest.json", manifest[:-100])
    elif how == "another backup's manifest":
        forger.put(f"daily/{backup_id}.manifest.json", manifest)
    else:
        pytest.fail(f"{how} of {key} is not known")
    return backup_id


@pytest.mark.parametrize(
    ("how", "kind", "code"),
    [
        ("nothing is there", "BackupMissingError", 2),
        ("no manifest", "ArchiveWithoutManifestError", 4),
        ("no archive", "ManifestWithoutArchiveError", 4),
        ("short archive", "ObjectShortError", 4),
        ("unknown version", "FormatVersionError", 4),
        ("no JSON", "ManifestError", 4),
        ("another backup's manifest", "ManifestError", 4),
    ],
)
def test_a_backup_that_is_not_whole_is_named_by_every_command(
    cli: CommandLine, stored: StoredBackup, forger: Forger, server: Server, how: str, kind: str, code: int
) -> None:
    backup_id = damaged(stored, forger, how)
    restoring = ("--to-database", "new", "--create", *TARGET, "--yes", "--unproven")
    for arguments in (("show",), ("verify",), ("verify", "--restore-test"), ("restore", *restoring)):
        answer = cli.here(arguments[0], SOURCE, backup_id, *arguments[1:], "--json")
        assert (answer.code, answer.document["error"]["kind"]) == (code, kind), answer.err
        assert answer.document["error"]["message"] in answer.error
        assert ";" in answer.error  # what to do next
    assert "new" not in server.databases()


def test_a_restore_of_damaged_rows_is_taken_back(
    cli: CommandLine, stored: StoredBackup, forger: Forger, server: Server, staging: Path
) -> None:
    """One member holds the rows of another backup of the same table: each frame and each row is as it should be."""
    name = stored.data_member("public.messages").name
    rows = stored.content(name).split(b"\n")
    rows[0], rows[1] = rows[1], rows[0]
    backup_id = forger.backup(stored.repacked({name: zstd.compress(b"\n".join(rows))}, rehashed=False))
    arguments = ("--to-database", "new", "--create", *TARGET, "--yes", "--unproven", "--json")
    answer = cli.here("restore", SOURCE, backup_id, *arguments)
    assert (answer.code, answer.document["error"]["kind"]) == (4, "MemberHashError"), answer.err
    assert "new" not in server.databases()
    assert list(staging.iterdir()) == []


def test_a_restore_that_differs_from_the_dump_is_kept_and_said_to_differ(
    cli: CommandLine, stored: StoredBackup, forger: Forger, server: Server
) -> None:
    """The hashes of what is stored fit; only the comparison with what the dump read can tell."""
    member = stored.data_member("public.workspaces")
    assert member.table_data is not None
    columns = parse_copy(member.table_data.copy_statement).columns.strip(" ()").split(", ")
    lines = stored.content(member.name).split(b"\n")
    fields = lines[0].split(b"\t")
    fields[columns.index("name")] += b" (changed)"
    changed = b"\n".join([b"\t".join(fields), *lines[1:]])
    backup_id = forger.backup(stored.repacked({member.name: zstd.compress(changed)}, rehashed=True))
    arguments = ("--to-database", "differs", "--create", *TARGET, "--yes", "--unproven", "--json")
    answer = cli.here("restore", SOURCE, backup_id, *arguments)
    assert (answer.code, answer.document["error"]["kind"]) == (4, "RestoreDiffersError"), answer.err
    assert "public.workspaces" in answer.error
    assert "it is kept as it is, do not use it" in answer.error
    assert "differs" in server.databases()


# --- other servers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(state_dir: Path) -> Iterator[Server]:
    """A new PostgreSQL 17 server that knows none of the source's roles, reached by its unix socket."""
    user = source_user()
    folder = state_dir / "bare"
    folder.mkdir()
    base = runtime_dir(folder, user)
    password = Secret("bare-superuser")
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(17, server=True),
            data=base / "data",
            socket_dir=base / "s",
            superuser="bare_admin",
            password=password,
            user=user,
            settings={"fsync": "off"},
        ),
        runner=Runner(),
    )
    server.start()
    try:
        yield Server(
            DatabaseConnection(
                host=str(base / "s"),
                port=5432,
                dbname="postgres",
                user="bare_admin",
                password=password,
                sslmode="disable",
            )
        )
    finally:
        server.stop()


def test_a_new_server_gets_the_roles_that_it_lacks(
    cli: CommandLine, taken: dict[str, Any], bare: Server, server: Server
) -> None:
    place = ("--host", bare.superuser.host, "--user", "bare_admin", "--sslmode", "disable")
    arguments = ("restore", SOURCE, taken["backup_id"], "--to-database", SOURCE, "--create", *place, "--yes")
    known = cli.with_environment(PGPASSWORD=str(bare.superuser.password))
    known = replace(known, secrets=(*cli.secrets, str(bare.superuser.password)))
    refused = known.here(*arguments)
    assert refused.code == 5
    assert "lacks the roles " in refused.error
    assert "anon, authenticated" in refused.error
    assert "--with-roles" in refused.error

    answer = known.run(*arguments, "--with-roles", "--json")
    assert answer.code == 0, answer.err
    assert "anon" in answer.document["preview"]["creates_roles"]
    assert answer.document["report"]["compared"]["differences"] == []
    assert bare.contents(SOURCE) == server.contents(SOURCE)
    with bare.session("postgres") as session:
        superusers = session.execute("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1").fetchall()
    assert superusers == [("bare_admin",), (SUPERUSER,)]
    assert f"the role {SUPERUSER} is a superuser at the source and becomes one here" in answer.err


@pytest.mark.postgres15
def test_a_postgresql_15_source_comes_back_into_15(
    cli: CommandLine, source15: DatabaseConnection, state_dir: Path
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    fields = command_environment({}, pulse_messages_db=source15, restore_target=superuser)
    old = replace(cli.with_environment(**fields), secrets=(*cli.secrets, fifteen.PASSWORD, fifteen.BACKUP_PASSWORD))
    taken = old.here("run", SOURCE, "--tier", "daily", "--no-proof", "--json")
    assert taken.code == 0, taken.err
    answer = old.run(
        "restore",
        SOURCE,
        taken.document["backup_id"],
        "--to-database",
        "restored",
        "--create",
        *TARGET,
        "--yes",
        "--unproven",
        "--json",
    )
    assert answer.code == 0, answer.err
    server = Server(superuser)
    assert answer.document["preview"]["pg_restore"].startswith("15.")
    assert answer.document["report"]["compared"]["large_objects"] == 5
    assert server.contents("restored") == server.contents(SOURCE)


@pytest.mark.postgres15
def test_a_17_backup_is_refused_by_a_15_server(
    cli: CommandLine, taken: dict[str, Any], source15: DatabaseConnection
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    old = cli.with_environment(**command_environment({}, restore_target=superuser))
    answer = old.here("restore", SOURCE, taken["backup_id"], "--to-database", "new", "--create", *TARGET, "--yes")
    assert answer.code == 5
    assert "use a server of 17 or newer" in answer.error
