"""Tables in a schema of their own, with what is theirs; and what the archive's code may not do there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.connection_spec import Secret
from include.backup.errors import RestoreDiffersError, RestoreRefusedError
from include.backup.restore.target import Target
from include.backup.table_restore.preview import Mode
from tests.support.proof_source import Site
from tests.support.proofs import BackUp, StoredBackup
from tests.support.table_restores import Copy, only_error

pytest_plugins = ["tests.support.proof_fixtures", "tests.support.table_restores"]

ROLES = "SELECT rolname FROM pg_roles WHERE rolname ~ '^pulse_restore_'"
ATTACK = """
CREATE ROLE attacker NOLOGIN;
CREATE SCHEMA own AUTHORIZATION attacker;
SET ROLE attacker;
CREATE FUNCTION own.take() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        RESET ROLE;
        SET SESSION AUTHORIZATION DEFAULT;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE 'CREATE TABLE IF NOT EXISTS public.taken AS SELECT current_user::text AS by';
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION own.key(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM own.take();
    RETURN $1;
END $$;
CREATE TABLE own.trap (id integer PRIMARY KEY CHECK (own.take()), what text DEFAULT 'x');
CREATE INDEX trap_key ON own.trap (own.key(id));
INSERT INTO own.trap SELECT n FROM generate_series(1, 10) AS n;
RESET ROLE;
DROP TABLE public.taken;
"""


def test_a_table_comes_back_with_all_that_is_its_own(copy: Copy) -> None:
    copy.run(
        "DELETE FROM chat.events; ALTER TABLE chat.users ADD nick text; ALTER TABLE chat.messages DISABLE TRIGGER ALL"
    )
    before = copy.contents()
    preview, report = copy.restore("chat.messages", "chat.users", "chat.events", "chat.mixed", mode=Mode.BESIDE)
    schema = report.schema
    assert schema is not None
    assert schema.startswith("restored_")
    now = copy.contents()
    assert {name: rows for name, rows in now.items() if not name.startswith(schema)} == before
    assert (len(now[f"{schema}.messages"]), len(now[f"{schema}.events"])) == (400, 200)
    assert now[f"{schema}.mixed"] == before["chat.mixed"]
    assert report.owner == "table_owner"
    assert copy.rows(ROLES) == []
    assert "column nick is new" in preview.tables[1].note
    assert {
        "trigger messages fires",
        "policy messages readers",
        "grants on TABLE messages",
        "statistics messages_stats",
    } <= set(preview.left_out)
    assert "without what acts or lets in (triggers, rules, policies, grants)" in "\n".join(preview.lines())
    hangs = f"SELECT count(*) FROM pg_{{}} WHERE {{}} = '{schema}.messages'::regclass"
    for catalog, column in (("policy", "polrelid"), ("statistic_ext", "stxrelid")):
        assert copy.rows(hangs.format(catalog, column)) == [(0,)]
    assert copy.rows(f"SELECT has_table_privilege('table_reader', '{schema}.messages', 'SELECT')") == [(False,)]
    check_definitions(copy, schema)


def check_definitions(copy: Copy, schema: str) -> None:
    """Look at keys, indexes, types and sequences; nothing may hang on what was there before."""
    constraints = copy.rows(
        "SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid"
        f" WHERE relnamespace = '{schema}'::regnamespace AND relname = 'messages' AND contype <> 'n' ORDER BY 1"
    )
    assert constraints == [
        ("body_is_short", "CHECK ((length(body) < 1000))"),
        ("messages_author_fkey", f"FOREIGN KEY (author) REFERENCES {schema}.users(id)"),
        ("messages_pkey", "PRIMARY KEY (id)"),
        ("messages_reply_to_fkey", f"FOREIGN KEY (reply_to) REFERENCES {schema}.messages(id)"),
    ]
    indexes = copy.rows(f"SELECT indexname FROM pg_indexes WHERE schemaname = '{schema}' AND tablename = 'messages'")
    assert {name for (name,) in indexes} == {"messages_pkey", "messages_author", "messages_body"}
    types = copy.rows(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{schema}.messages'::regclass AND attname IN ('status', 'price') ORDER BY 1"
    )
    assert types == [("price", f"{schema}.amount"), ("status", f"{schema}.status")]
    copy.run(f"SET row_security = off; INSERT INTO {schema}.messages (author) VALUES (1)")
    assert copy.rows(f"SELECT max(id) FROM {schema}.messages") == [(401,)]
    assert copy.rows("SELECT last_value FROM chat.messages_id_seq") == [(400,)]
    assert copy.rows(f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{schema}.events'::regclass") == [(2,)]


def test_a_table_without_a_key_a_part_and_a_heir_come_back_on_their_own(copy: Copy) -> None:
    before = copy.contents()
    _, report = copy.restore("chat.no_key", "chat.events_2024", "chat.old_documents", mode=Mode.BESIDE)
    now = copy.contents()
    for name in ("no_key", "events_2024", "old_documents"):
        assert now[f"{report.schema}.{name}"] == before[f"chat.{name}"]
    assert copy.rows("SELECT count(*) FROM chat.documents") == [(20,)]
    assert copy.rows("SELECT count(*) FROM chat.events") == [(200,)]


def test_the_same_schema_is_not_filled_twice(copy: Copy) -> None:
    _, report = copy.restore("chat.stars", mode=Mode.BESIDE)
    message = only_error(lambda: copy.restore("chat.stars", mode=Mode.BESIDE), RestoreRefusedError)
    assert f"has a schema {report.schema} already" in message
    copy.restore("chat.stars", mode=Mode.BESIDE, schema="restored_again")
    assert copy.rows("SELECT count(*) FROM restored_again.stars") == [(40,)]


def test_what_the_target_cannot_take_leaves_nothing(copy: Copy) -> None:
    copy.run("DROP TABLE chat.messages CASCADE; DROP FUNCTION chat.shout")
    before = copy.contents()
    message = only_error(lambda: copy.restore("chat.messages", mode=Mode.BESIDE), RestoreRefusedError)
    assert "chat.shout" in message
    assert copy.contents() == before
    assert copy.rows("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^restored_'") == [(0,)]
    assert copy.rows(ROLES) == []


def test_rows_that_differ_afterwards_are_seen_and_removed(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is the settings of the comparing session that make the difference."""
    monkeypatch.setattr(
        "include.backup.table_restore.beside.loading_settings", lambda manifest: {"bytea_output": "escape"}
    )
    message = only_error(lambda: copy.restore("chat.mixed", mode=Mode.BESIDE), RestoreDiffersError)
    assert "it was removed again" in message
    assert copy.rows("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^restored_'") == [(0,)]


def test_only_the_tables_own_part_of_the_archive_is_read(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the store, whole operations, whatever they read."""
    fetched = 0
    store = copy.backup.store
    real = type(store).read

    def read(self: object, key: str, offset: int, length: int) -> Iterator[bytes]:
        nonlocal fetched
        for chunk in real(store, key, offset, length):
            fetched += len(chunk)
            yield chunk

    monkeypatch.setattr(type(store), "read", read)
    share = copy.backup.data_member("chat.messages").stored_length
    toc = copy.backup.manifest.member("dump/toc.dat").stored_length
    copy.run("SET row_security = off; DELETE FROM chat.messages WHERE id > 390")
    for mode in (Mode.REPLACE, Mode.BESIDE):
        fetched = 0
        copy.restore("chat.messages", mode=mode)
        assert share + toc <= fetched <= 1.1 * share + toc + 100_000
        assert fetched < copy.backup.manifest.archive.size


@pytest.mark.parametrize("rights", ["CREATEROLE", "NOCREATEROLE", "CREATEROLE WITHOUT GRANT"])
def test_a_role_that_is_no_superuser_makes_them_too(copy: Copy, rights: str) -> None:
    """As on a hosted server: with a role for the archive's code if one may be made, else with a warning."""
    grant = "" if "WITHOUT" in rights else " WITH GRANT OPTION"
    copy.run(f"CREATE ROLE helper LOGIN {rights.split()[0]} PASSWORD 'helper'")
    copy.run(f"GRANT CREATE ON DATABASE {copy.name} TO helper; GRANT USAGE ON SCHEMA chat TO helper{grant}")
    try:
        connection = replace(copy.connection, user="helper", password=Secret("helper"))
        target = Target(connection, database=copy.name)
        preview, report = copy.restore("chat.messages", "chat.users", mode=Mode.BESIDE, target=target)
        assert report.owner == "helper"
        assert any("may make no role" in text for text in preview.warnings) is (rights == "NOCREATEROLE")
        assert copy.rows(f"SELECT count(*) FROM {report.schema}.messages") == [(400,)]
        assert copy.rows(ROLES) == []
    finally:
        copy.run("DROP OWNED BY helper CASCADE; DROP ROLE helper")


@pytest.fixture(scope="module")
def trap(site: Site, back_up: BackUp) -> Iterator[tuple[StoredBackup, str]]:
    with site.database("trapped", ATTACK) as database:
        yield back_up(database), database.dbname


def test_the_archives_code_never_runs_as_a_superuser(
    copy: Copy, trap: tuple[StoredBackup, str], site: Site, tmp_path: Path
) -> None:
    """The same constraint does what it wants when a superuser restores the table by hand."""
    backup, database = trap
    trapped = Copy(site=site, backup=backup, name=database, work_root=tmp_path / "work", connection=copy.connection)
    _, report = trapped.restore("own.trap", mode=Mode.BESIDE)
    trapped.run(f"VACUUM ANALYZE {report.schema}.trap")
    assert report.owner == "attacker"
    assert trapped.rows("SELECT to_regclass('public.taken')::text") == [(None,)]
    trapped.run("INSERT INTO own.trap VALUES (99)")
    assert trapped.rows("SELECT to_regclass('public.taken')::text") == [("taken",)]
