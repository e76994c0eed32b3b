"""What is wrong with a source gets a named error that says what to do, and leaves nothing half-written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import trustme
from botocore.exceptions import ClientError

from include.backup.connection_spec import Secret
from include.backup.errors import (
    BackupError,
    ClientTooOldError,
    PoolerError,
    RoleCannotReadError,
    RunRefusedError,
    SourceBusyError,
    SourceLockedError,
    SourceLoginError,
    SourceTlsError,
    SourceUnreachableError,
    StagingFullError,
    StoreDeniedError,
    TableRewrittenError,
    TornReferenceError,
)
from include.backup.manifest import Extension
from include.backup.policy import SourcePolicy
from include.backup.postgres import lock
from include.backup.postgres import session as postgres_session
from include.backup.steps import compress, dump, preflight
from include.backup.steps.context import StepContext
from include.local.ports import free_port_base
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, make_run, run_chain
from tests.support.pooler import transaction_pooler
from tests.support.small_disk import mounted_disk
from tests.support.source_sql import as_superuser, changed


@pytest.fixture
def nothing_stored(make_context: ContextMaker) -> Iterator[list[StepContext]]:
    """Contexts appended here must have left no object, no unfinished upload and no dump behind."""
    contexts: list[StepContext] = []
    yield contexts
    for ctx in contexts:
        assert ctx.store.head(ctx.archive_key) is None
        assert ctx.store.head(ctx.manifest_key) is None
        assert "Uploads" not in ctx.store.s3.list_multipart_uploads(Bucket=ctx.store.bucket, Prefix=ctx.archive_key)
        assert not ctx.staging.dump.exists()


def refused(ctx: StepContext, error: type[BackupError], *words: str) -> str:
    """Run preflight; return the message of the expected error, which names what ``words`` say."""
    with pytest.raises(error) as caught:
        preflight.run(ctx)
    text = str(caught.value)
    for word in words:
        assert word in text
    assert str(ctx.database.password) not in text
    return text


def test_an_unreachable_server(make_context: ContextMaker, nothing_stored: list[StepContext]) -> None:
    database = replace(make_context.database, port=free_port_base())
    ctx = make_context(database=database)
    nothing_stored.append(ctx)
    refused(ctx, SourceUnreachableError, str(database.port), "check host, port and network")


def test_a_wrong_password(make_context: ContextMaker, nothing_stored: list[StepContext]) -> None:
    ctx = make_context(database=replace(make_context.database, password=Secret("wrong-password")))
    nothing_stored.append(ctx)
    refused(ctx, SourceLoginError, "correct user, password or database name")


def test_a_role_that_may_not_log_in(make_context: ContextMaker, stack: Stack) -> None:
    with changed(stack, "ALTER ROLE pulse_backup NOLOGIN", "ALTER ROLE pulse_backup LOGIN"):
        refused(make_context(), SourceLoginError, "not permitted to log in")


def test_a_database_that_does_not_exist(make_context: ContextMaker) -> None:
    ctx = make_context(database=replace(make_context.database, dbname="no'such; DROP TABLE x"))
    refused(ctx, SourceLoginError, "does not exist")


def test_a_certificate_that_nobody_trusts(make_context: ContextMaker, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    ctx = make_context(database=replace(make_context.database, sslrootcert=str(other)))
    refused(ctx, SourceTlsError, "sslrootcert")


def test_an_expired_certificate(make_context: ContextMaker, stack: Stack, tmp_path: Path) -> None:
    """The server gets an expired certificate and reloads; afterwards it gets its own back."""
    authority = trustme.CA()
    yesterday = datetime.now(tz=UTC) - timedelta(days=1)
    expired = authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with as_superuser(stack) as connection:
        names = ("ssl_cert_file", "ssl_key_file")
        paths = {name: Path(_setting(connection, "data_directory")) / _setting(connection, name) for name in names}
        kept = {name: path.read_bytes() for name, path in paths.items()}
        try:
            paths["ssl_cert_file"].write_bytes(b"".join(blob.bytes() for blob in expired.cert_chain_pems))
            paths["ssl_key_file"].write_bytes(expired.private_key_pem.bytes())
            connection.execute("SELECT pg_reload_conf()")
            ctx = make_context(database=replace(make_context.database, sslrootcert=str(ca)))
            refused(ctx, SourceTlsError, "certificate verify failed", "date of the server's certificate")
        finally:
            for name, path in paths.items():
                path.write_bytes(kept[name])
            connection.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_a_connection_that_tls_does_not_protect(make_context: ContextMaker, sslmode: str) -> None:
    ctx = make_context(database=replace(make_context.database, sslmode=sslmode))
    with pytest.raises((SourceTlsError, SourceLoginError)) as caught:
        preflight.run(ctx)
    assert "sslmode" in str(caught.value) or "pg_hba" in str(caught.value)


@pytest.mark.postgres15
def test_a_client_older_than_the_server(make_context: ContextMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.backup.postgres import tools

    old = [found for found in tools.installed_tools() if found.major == 15]
    if not old:
        pytest.skip("postgresql-15 is not installed: apt-get install postgresql-15")
    monkeypatch.setattr(tools, "installed_tools", lambda *_, **__: tuple(old))
    refused(make_context(), ClientTooOldError, "PostgreSQL 17", "pg_dump of 17")


def test_a_role_that_row_level_security_hides_rows_from(make_context: ContextMaker, stack: Stack) -> None:
    with changed(stack, "ALTER ROLE pulse_backup NOBYPASSRLS", "ALTER ROLE pulse_backup BYPASSRLS"):
        refused(make_context(), RoleCannotReadError, "public.messages", "row level security", "BYPASSRLS")


def test_a_table_that_the_role_may_not_read(make_context: ContextMaker, stack: Stack) -> None:
    with changed(stack, "REVOKE pg_read_all_data FROM pulse_backup", "GRANT pg_read_all_data TO pulse_backup"):
        refused(make_context(), RoleCannotReadError, "no USAGE on its schema", "grant pg_read_all_data")


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        ("public.users", "public.messages: its foreign key messages_sender_id_fkey leads to public.users"),
        ("public.conversation_activity", "public.busiest_conversations: it reads public.conversation_activity"),
        ("public.reactions", "public.reactions_p0: it is a part of public.reactions"),
        ("auth.refresh_tokens_id_seq", "auth.refresh_tokens: a default needs auth.refresh_tokens_id_seq"),
    ],
)
def test_what_is_kept_needs_what_the_policy_leaves_out(make_context: ContextMaker, left_out: str, reason: str) -> None:
    """pg_dump says nothing of it, and no restore of such a dump comes to its end."""
    source = replace(make_context.source, excluded_tables=(left_out,))
    refused(make_context(source=source), TornReferenceError, reason, "leave them out too, or keep")


def test_who_may_not_ask_for_the_buckets_lock_hears_of_it_before_the_dump(
    make_context: ContextMaker, nothing_stored: list[StepContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = make_context()
    nothing_stored.append(ctx)
    denied = {"Error": {"Code": "AccessDenied", "Message": "denied"}}

    def refuse(**_: object) -> None:
        raise ClientError(denied, "GetObjectLockConfiguration")

    monkeypatch.setattr(ctx.store.s3, "get_object_lock_configuration", refuse)
    refused(ctx, StoreDeniedError, "lock configuration")


def test_what_nobody_needs_may_be_left_out(make_context: ContextMaker) -> None:
    """The whole schema with all that leads into it; extensions come with what is theirs."""
    source = replace(make_context.source, excluded_schemas=("audit",), excluded_tables=("public.attachments",))
    report = preflight.run(make_context(source=source))
    assert any("audit" in warning and "public.attachments" in warning for warning in report.warnings)


def test_a_large_object_that_the_role_may_not_read(make_context: ContextMaker, stack: Stack) -> None:
    """pg_read_all_data does not cover large objects."""
    with changed(stack, "SELECT lo_create(4711)", "SELECT lo_unlink(4711)"):
        refused(make_context(), RoleCannotReadError, "4711: no SELECT on the large object")


def test_a_pooler_in_transaction_mode(make_context: ContextMaker, stack: Stack, state_dir: Path) -> None:
    with transaction_pooler(stack, state_dir / "pooler") as database:
        refused(make_context(database=database), PoolerError, "transaction mode", "port 5432")


def test_a_backfill_is_refused(make_context: ContextMaker) -> None:
    refused(make_context(run=make_run(run_type="backfill")), RunRefusedError, "trigger a new run")


def test_an_old_run_that_was_cleared_is_refused(make_context: ContextMaker) -> None:
    due = datetime.now(tz=UTC) - timedelta(days=30)
    refused(make_context(run=make_run(run_after=due, try_number=2)), RunRefusedError, "30 days")


def test_a_staging_disk_without_room(make_context: ContextMaker, small_disk: Path) -> None:
    refused(make_context(staging_root=small_disk), StagingFullError, "BACKUP_STAGING_DIR", str(small_disk))


def test_a_staging_disk_that_becomes_full_in_the_dump(make_context: ContextMaker, small_disk: Path) -> None:
    ctx = make_context(staging_root=small_disk)
    ctx.staging.make()
    with pytest.raises(StagingFullError, match="became full"):
        dump.run(ctx)
    assert not ctx.staging.dump.exists()


def test_two_runs_at_once(make_context: ContextMaker, policy_source: SourcePolicy) -> None:
    first = make_context()
    second = make_context(source=replace(policy_source, lock_wait_seconds=0))
    for ctx in (first, second):
        ctx.staging.make()
    with (
        postgres_session.connect(first.database) as connection,
        lock.source_lock(connection, "pulse_messages", wait_seconds=0, on_wait=print),
        pytest.raises(SourceBusyError, match=r"another backup of pulse_messages is running \(pid \d+"),
    ):
        dump.run(second)
    dump.run(second)
    assert second.staging.dump.is_dir()


def test_the_second_of_two_runs_waits_for_the_first(make_context: ContextMaker) -> None:
    first, second = make_context(), make_context()
    for ctx in (first, second):
        ctx.staging.make()
    threads = [threading.Thread(target=dump.run, args=(ctx,)) for ctx in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.staging.dump.is_dir()
    assert second.staging.dump.is_dir()


def test_a_table_truncated_between_snapshot_and_lock_is_dumped_again(make_context: ContextMaker, stack: Stack) -> None:
    """The trap of POSTGRES.md 6: pg_dump alone would see no row and end with exit code 0."""
    ctx = make_context()
    ctx.staging.make()
    with (
        changed(
            stack,
            "CREATE TABLE public.rewritten AS SELECT generate_series(1, 500) AS id",
            "DROP TABLE public.rewritten",
        ),
        as_superuser(stack) as admin,
    ):
        blocker = psycopg.connect(stack.source.superuser_conninfo())
        blocker.execute("LOCK TABLE public.rewritten IN ACCESS EXCLUSIVE MODE")
        writer = threading.Thread(target=_when_pg_dump_waits, args=(admin, lambda: _truncate(blocker)))
        writer.start()
        dump.run(ctx)
        writer.join()
        blocker.close()
        report = compress.run(ctx)
    rows = {m.name: m for m in compress.read_pack(ctx).members if m.dump_id is not None}
    toc = {entry.dump_id: entry for entry in compress.read_staged_toc(ctx).table_data}
    (found,) = [m.facts.rows for m in rows.values() if toc[m.dump_id or 0].tag == "rewritten"]
    assert found == 7
    assert report is not None


@pytest.mark.parametrize("dropped", [False, True], ids=["renamed", "dropped"])
def test_a_table_that_takes_anothers_name_between_snapshot_and_lock_is_dumped_again(
    make_context: ContextMaker, stack: Stack, dropped: bool
) -> None:
    """As a reload swaps its tables: pg_dump alone would read the new one, of which its snapshot sees no row."""
    ctx = make_context()
    ctx.staging.make()
    swap = [
        "CREATE TABLE public.rewritten_new AS SELECT generate_series(1, 7) AS id",
        "ALTER TABLE public.rewritten RENAME TO rewritten_old",
        "ALTER TABLE public.rewritten_new RENAME TO rewritten",
        *(["DROP TABLE public.rewritten_old"] if dropped else []),
    ]
    with (
        changed(
            stack,
            "CREATE TABLE public.rewritten AS SELECT generate_series(1, 500) AS id",
            "DROP TABLE public.rewritten; DROP TABLE IF EXISTS public.rewritten_old",
        ),
        as_superuser(stack) as admin,
        psycopg.connect(stack.source.superuser_conninfo()) as blocker,
    ):
        for statement in swap:
            blocker.execute(statement)
        writer = threading.Thread(target=_when_pg_dump_waits, args=(admin, blocker.commit))
        writer.start()
        dump.run(ctx)
        writer.join()
        compress.run(ctx)
    toc = {entry.dump_id: entry for entry in compress.read_staged_toc(ctx).table_data}
    rows = [m.facts.rows for m in compress.read_pack(ctx).members if m.dump_id and toc[m.dump_id].tag == "rewritten"]
    assert rows == [7]


def test_a_table_that_is_rewritten_every_time_fails_by_name(
    make_context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = make_context()
    ctx.staging.make()
    numbers = iter(range(10_000))
    real = dump.query

    def moving(connection: psycopg.Connection[dict[str, object]], name: str, *rest: object) -> object:
        rows = real(connection, name, *rest)  # type: ignore[arg-type]
        if name == "relation_files":
            rows = [{**row, "filenode": next(numbers)} if row["name"] == "public.users" else row for row in rows]
        return rows

    monkeypatch.setattr(dump, "query", moving)
    with pytest.raises(TableRewrittenError, match=r"public\.users was truncated, rewritten or replaced"):
        dump.run(ctx)
    assert not ctx.staging.dump.exists()


def test_an_extension_that_was_made_after_the_snapshot_is_not_in_the_manifest(
    make_context: ContextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not in the dump either, so that no restore could have it."""
    ctx = make_context()
    ctx.staging.make()
    real = dump.extensions

    def one_more(connection: psycopg.Connection[dict[str, object]]) -> tuple[Extension, ...]:
        return (*real(connection), Extension(name="made_meanwhile", version="1", schema="public", conditions={}))

    monkeypatch.setattr(dump, "extensions", one_more)
    dump.run(ctx)
    names = {extension.name for extension in dump.read_facts(ctx).extensions}
    assert "made_meanwhile" not in names
    assert {"plpgsql", "pgcrypto"} <= names


def test_a_table_that_stays_locked(make_context: ContextMaker, policy_source: SourcePolicy, stack: Stack) -> None:
    ctx = make_context(source=replace(policy_source, lock_timeout_seconds=1))
    ctx.staging.make()
    with as_superuser(stack) as admin, admin.transaction():
        admin.execute("LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceLockedError, match="look for a long ALTER"):
            dump.run(ctx)


def test_settings_of_the_source_do_not_change_the_dump(make_context: ContextMaker, stack: Stack) -> None:
    plain = make_context()
    run_chain(plain, until=compress)
    undo = "ALTER DATABASE pulse_messages RESET TimeZone; ALTER DATABASE pulse_messages RESET bytea_output"
    do = "ALTER DATABASE pulse_messages SET TimeZone = 'Asia/Tokyo';"
    with changed(stack, f"{do} ALTER DATABASE pulse_messages SET bytea_output = 'escape'", undo):
        other = make_context()
        run_chain(other)
    tables = other.catalog.manifest(other.backup_id).table_data
    contents = {(table.schema, table.table): table.content_sha256 for table in tables}
    toc = {entry.dump_id: (entry.namespace, entry.tag) for entry in compress.read_staged_toc(plain).table_data}
    compared = {
        toc[member.dump_id]: member.facts.content_sha256
        for member in compress.read_pack(plain).members
        if member.dump_id is not None
    }
    assert compared == contents


def _when_pg_dump_waits(admin: psycopg.Connection, act: Callable[[], object]) -> None:
    """Wait until pg_dump has its snapshot and queues for the lock; then act."""
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND relation = 'public.rewritten'::regclass AND query LIKE 'LOCK TABLE%'"
    )
    deadline = time.monotonic() + 30
    while admin.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < deadline, "pg_dump never waited for the lock"
    act()


def _truncate(blocker: psycopg.Connection) -> None:
    """Empty and refill the table."""
    blocker.execute("TRUNCATE public.rewritten")
    blocker.execute("INSERT INTO public.rewritten SELECT generate_series(1, 7)")
    blocker.commit()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    with mounted_disk(tmp_path / "small", kib=1024) as folder:
        yield folder


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])
