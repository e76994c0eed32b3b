"""What is refused, in words that help, with the target as it was."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from backports import zstd

from include.backup.cli.output import Phases
from include.backup.connection_spec import Secret
from include.backup.errors import (
    MemberHashError,
    ParameterError,
    RestoreError,
    RestoreRefusedError,
    TargetBusyError,
    TargetFullError,
)
from include.backup.in_use import backups_in_use
from include.backup.inventory import Standing
from include.backup.process import Runner
from include.backup.restore.target import Target
from include.backup.table_restore.plan import plan_tables
from include.backup.table_restore.preview import Mode
from include.backup.table_restore.steps import tables_to_copy
from tests.support.proofs import LOG
from tests.support.small_disk import empty, fill, small_tablespace
from tests.support.table_restores import Copy, only_error

pytest_plugins = ["tests.support.proof_fixtures", "tests.support.table_restores"]

MESSAGES = "chat.messages"
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1"
CHILDREN_STATES = (
    "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal"
    " AND tgrelid IN ('chat.files'::regclass, 'chat.previews'::regclass, 'chat.stars'::regclass) ORDER BY 1"
)
QUIET = "SET row_security = off; ALTER TABLE chat.messages DISABLE TRIGGER USER;"
NEW_MESSAGE = f"{QUIET} INSERT INTO chat.messages (id, author, body) VALUES (1001, 1, 'new');"


def test_children_that_would_go_or_change_are_counted_level_by_level_and_refused_without_a_yes(copy: Copy) -> None:
    copy.run(
        f"{NEW_MESSAGE} INSERT INTO chat.files VALUES (501, 1001, 'f'), (502, 1001, 'g');"
        "INSERT INTO chat.previews VALUES (601, 501, 1), (602, 502, 1), (603, 502, 1);"
        "INSERT INTO chat.stars VALUES (701, 1001);"
        "CREATE TRIGGER fires AFTER DELETE ON chat.files EXECUTE FUNCTION chat.fire();"
        "CREATE TRIGGER fires BEFORE DELETE ON chat.previews FOR EACH ROW EXECUTE FUNCTION chat.fire();"
        "CREATE TRIGGER always AFTER UPDATE ON chat.stars FOR EACH ROW EXECUTE FUNCTION chat.fire();"
        "ALTER TABLE chat.stars ENABLE ALWAYS TRIGGER always"
    )
    states = copy.rows(CHILDREN_STATES)
    before = copy.contents()
    with copy.work(MESSAGES, mode=Mode.REPLACE) as work:
        preview = work.preview()
        found = {(item.table, item.action): item.rows for item in preview.touched}
        assert found == {
            ("chat.files", "CASCADE"): 2,
            ("chat.previews", "CASCADE"): 3,
            ("chat.stars", "SET NULL"): 1,
        }
        message = only_error(
            lambda: work.carry_out(preview, work_root=copy.work_root, progress=Phases()), RestoreRefusedError
        )
    assert "2 rows of chat.files would be changed by CASCADE (files_message_fkey); say yes" in message
    assert copy.contents() == before
    copy.restore(MESSAGES, mode=Mode.REPLACE, touches_children=True)
    assert copy.rows("SELECT count(*) FROM chat.previews WHERE id > 600") == [(0,)]
    assert copy.rows("SELECT message FROM chat.stars WHERE id = 701") == [(None,)]
    assert copy.rows("SELECT what FROM chat.fired") == []
    assert copy.rows(CHILDREN_STATES) == states


def test_a_tree_of_rows_that_goes_is_counted_to_its_leaves_and_a_ring_has_an_end(copy: Copy) -> None:
    """Rows of the archive hang on a new one: a cascade takes them, and the merge brings them back without children."""
    original = copy.contents(skip=("leaves",))
    copy.run(
        "CREATE TABLE chat.leaves (id integer PRIMARY KEY, node integer REFERENCES chat.tree ON DELETE CASCADE);"
        "INSERT INTO chat.tree VALUES (99, NULL), (97, NULL), (98, 97); UPDATE chat.tree SET parent = 98 WHERE id = 97;"
        "UPDATE chat.tree SET parent = 99 WHERE id = 2; INSERT INTO chat.leaves VALUES (1, 8), (2, 16), (3, 3)"
    )
    preview, _ = copy.restore("chat.tree", mode=Mode.REPLACE, touches_children=True)
    assert [(item.table, item.rows) for item in preview.touched] == [("chat.leaves", 2), ("chat.tree", 15)]
    assert copy.rows("SELECT id FROM chat.leaves") == [(3,)]
    assert copy.contents(skip=("leaves",)) == original


def test_children_of_a_column_that_changes_are_counted_level_by_level_too(copy: Copy) -> None:
    """A key that refers and is referred to: its change goes on by ON UPDATE, also where a parent's end empties it."""
    copy.run(
        f"{NEW_MESSAGE} CREATE TABLE chat.pins (id integer PRIMARY KEY,"
        " message bigint UNIQUE REFERENCES chat.messages ON DELETE SET NULL);"
        "CREATE TABLE chat.notes (id integer PRIMARY KEY, pin bigint REFERENCES chat.pins (message) ON UPDATE CASCADE);"
        "INSERT INTO chat.pins VALUES (1, 1001), (2, 5); INSERT INTO chat.notes VALUES (1, 1001), (2, 1001), (3, 5)"
    )
    preview, _ = copy.restore(MESSAGES, mode=Mode.REPLACE, touches_children=True)
    assert {(item.table, item.action, item.rows) for item in preview.touched} == {
        ("chat.pins", "SET NULL", 1),
        ("chat.notes", "ON UPDATE CASCADE", 2),
    }
    assert tables_to_copy(preview) == (MESSAGES, "chat.pins", "chat.notes")
    assert copy.rows("SELECT pin FROM chat.notes ORDER BY id") == [(None,), (None,), (5,)]


def test_a_child_that_forbids_the_deletion_is_refused_whatever_one_says(copy: Copy) -> None:
    copy.run(f"{NEW_MESSAGE} INSERT INTO chat.reports VALUES (1, 1001, 'spam')")
    before = copy.contents()
    message = only_error(lambda: copy.restore(MESSAGES, mode=Mode.REPLACE, touches_children=True), RestoreRefusedError)
    assert "1 rows of chat.reports refer to rows that would be deleted" in message
    assert copy.contents() == before
    copy.restore(MESSAGES, mode=Mode.MISSING)
    copy.restore(MESSAGES, "chat.reports", mode=Mode.REPLACE, touches_children=True)
    assert copy.rows("SELECT count(*) FROM chat.reports") == [(0,)]


def test_a_row_that_refers_to_a_newer_one_of_its_own_table_is_refused_with_a_way_that_there_is(copy: Copy) -> None:
    copy.run(f"{NEW_MESSAGE} UPDATE chat.messages SET reply_to = 1001 WHERE id = 400")
    before = copy.contents()
    message = only_error(lambda: copy.restore(MESSAGES, mode=Mode.REPLACE, touches_children=True), RestoreRefusedError)
    assert "1 rows of chat.messages refer to rows that would be deleted" in message
    assert "; restore it beside, or only missing rows" in message
    assert copy.contents() == before


def test_a_row_whose_parent_is_gone_is_refused_unless_the_parent_comes_too(copy: Copy) -> None:
    original = copy.contents()
    copy.run(
        f"{QUIET} DELETE FROM chat.messages WHERE id % 10 = 6; DELETE FROM chat.users WHERE id = 7;"
        "ALTER TABLE chat.messages ENABLE TRIGGER fires; ALTER TABLE chat.messages ENABLE ALWAYS TRIGGER always"
    )
    damaged = copy.contents()
    for mode in (Mode.MISSING, Mode.REPLACE):
        message = only_error(lambda mode=mode: copy.restore(MESSAGES, mode=mode), RestoreRefusedError)
        assert "8 rows of chat.messages refer to rows of chat.users that are not there" in message
        assert copy.contents() == damaged
    copy.restore(MESSAGES, "chat.users", mode=Mode.REPLACE)
    whole = copy.contents(skip=("files", "previews", "stars"))
    assert whole == {name: rows for name, rows in original.items() if name in whole}


CHANGED = {
    "ALTER TABLE chat.files ADD size integer, DROP name": (
        "chat.files",
        "column name is not there any more; column size is new",
    ),
    "ALTER TABLE chat.previews ALTER id TYPE bigint": ("chat.previews", "column id was integer and is bigint"),
    'ALTER TABLE chat.users ALTER name TYPE text COLLATE "C"': ("chat.users", "column name has a type text"),
    "ALTER TYPE chat.status RENAME VALUE 'gone' TO 'lost'": ("chat.moods", "column status may not be gone"),
    "ALTER TYPE chat.place RENAME TO old_place; CREATE TYPE chat.place AS (street text, house bigint);"
    "ALTER TABLE chat.mixed DROP home, ADD home chat.place": ("chat.mixed", "has a type chat.place that was changed"),
    "ALTER TABLE chat.tree DROP CONSTRAINT tree_pkey CASCADE": ("chat.tree", "has no primary key"),
    "CREATE RULE r AS ON INSERT TO chat.documents DO INSTEAD NOTHING": ("chat.documents", "has the rule r"),
    "DROP TABLE chat.stars": ("chat.stars", "there is no chat.stars in"),
    "DROP TABLE chat.reports; CREATE VIEW chat.reports AS SELECT 1": ("chat.reports", "is no table in the target"),
    "SELECT": ("chat.no_key", "has no primary key"),
}


@pytest.fixture(scope="module")
def changed_copy(shared_copy: Copy) -> Copy:
    shared_copy.run("; ".join(CHANGED))
    return shared_copy


@pytest.mark.parametrize(("table", "words"), CHANGED.values(), ids=lambda value: value)
def test_a_table_that_is_not_what_it_was_goes_beside_only(changed_copy: Copy, table: str, words: str) -> None:
    message = only_error(lambda: changed_copy.preview(table, mode=Mode.REPLACE), RestoreRefusedError)
    assert words in message
    assert "beside" in message


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (("chat.messagez",), "near: chat.messages"),
        (("Messages",), "near: messages"),
        (("chta.messages",), "no tables in a schema chta; near: chat"),
        (("elsewhere.messages",), "no tables in a schema elsewhere; it has chat"),
        (("chat.files", "files"), "chat.files is named twice"),
        (("chat.events", "chat.events_2024"), "share a partition"),
        (("a.b.c",), "is no table name"),
        (('"open',), "is no table name"),
        ((), "no table is named"),
    ],
)
def test_names_are_checked_before_anything_else(shared_copy: Copy, tables: tuple[str, ...], words: str) -> None:
    assert words in only_error(lambda: shared_copy.preview(*tables, mode=Mode.REPLACE), ParameterError)


@pytest.mark.parametrize(
    ("table", "words"),
    [("chat.unread", "is a view"), ("chat.moods_0", "name the parent, chat.moods")],
)
def test_what_holds_no_rows_of_its_own_is_refused(shared_copy: Copy, table: str, words: str) -> None:
    assert words in only_error(lambda: shared_copy.preview(table, mode=Mode.REPLACE), RestoreRefusedError)


def test_a_damaged_member_is_named_and_changes_nothing(copy: Copy) -> None:
    name = copy.backup.data_member("chat.files").name
    stored = copy.backup.stored(name)
    forged = copy.backup.repacked({name: stored + zstd.compress(b"")}, rehashed=False)
    copy.run("DELETE FROM chat.previews; DELETE FROM chat.files")
    before, schemas = copy.contents(), copy.rows(SCHEMAS)
    for mode in Mode:
        message = only_error(lambda mode=mode: copy.restore("chat.files", mode=mode, backup=forged), MemberHashError)
        assert name in message
    assert copy.contents() == before
    assert copy.rows(SCHEMAS) == schemas
    assert copy.rows("SELECT rolname FROM pg_roles WHERE rolname ~ '^pulse_restore_'") == []


def test_an_unproven_backup_needs_an_explicit_yes(shared_copy: Copy) -> None:
    unproven = partial(shared_copy.preview, "chat.events", mode=Mode.MISSING, standing=Standing.UNPROVEN)
    assert "nobody has shown that it restores" in only_error(unproven, RestoreRefusedError)
    assert "this backup is unproven" in unproven(unproven=True).warnings


def test_a_second_restore_into_the_same_target_is_refused(shared_copy: Copy) -> None:
    with shared_copy.work("chat.events", mode=Mode.MISSING):
        message = only_error(lambda: shared_copy.preview("chat.events", mode=Mode.MISSING), TargetBusyError)
    assert "another restore into" in message
    assert "a test" in message


def test_tables_in_use_are_not_waited_for_for_ever(copy: Copy) -> None:
    copy.run("DELETE FROM chat.stars WHERE id < 5")
    with copy.site.session(copy.name) as other, other.transaction():
        other.execute("INSERT INTO chat.stars VALUES (999)")
        message = only_error(
            lambda: copy.restore("chat.stars", mode=Mode.MISSING, lock_timeout_seconds=1), RestoreRefusedError
        )
    assert "could not be locked in time" in message
    assert copy.rows("SELECT count(*) FROM chat.stars") == [(37,)]


FULL = {
    # What lies on the disk that is full: the archive's rows beside the table, the table, or the database.
    "staging": (Mode.REPLACE, "ALTER DATABASE {} SET temp_tablespaces = small", "ALTER DATABASE {} RESET ALL"),
    "merge": (
        Mode.REPLACE,
        "ALTER TABLE chat.stars SET TABLESPACE small",
        "ALTER TABLE chat.stars SET TABLESPACE pg_default",
    ),
    "missing": (
        Mode.MISSING,
        "ALTER TABLE chat.stars SET TABLESPACE small",
        "ALTER TABLE chat.stars SET TABLESPACE pg_default",
    ),
    "beside": (Mode.BESIDE, "ALTER DATABASE {} SET TABLESPACE small", "ALTER DATABASE {} SET TABLESPACE pg_default"),
}


@pytest.mark.parametrize(("mode", "onto", "back"), FULL.values(), ids=FULL)
def test_a_full_disk_at_the_target_is_named_and_changes_nothing(copy: Copy, mode: Mode, onto: str, back: str) -> None:
    def move(statement: str) -> None:
        # A database cannot be moved from inside.
        with copy.site.session("postgres" if "DATABASE" in statement else copy.name) as session:
            session.execute(statement.format(copy.name).encode())

    copy.run("TRUNCATE chat.stars")
    with small_tablespace(move) as disk, ExitStack() as afterwards:
        move(onto)
        afterwards.callback(move, back)
        before, schemas = copy.contents(), copy.rows(SCHEMAS)
        fill(disk)
        afterwards.callback(empty, disk)
        message = only_error(lambda: copy.restore("chat.stars", mode=mode), TargetFullError)
        assert "No space left on device" in message
        assert "free space there, then try again" in message
        assert copy.contents() == before
        assert copy.rows(SCHEMAS) == schemas
        assert copy.rows("SELECT rolname FROM pg_roles WHERE rolname ~ '^pulse_restore_'") == []
    # With room again, the same restore gets to the end.
    assert copy.restore("chat.stars", mode=mode)[1].rows == 40


def test_what_changed_after_the_preview_is_not_deleted_unseen(copy: Copy) -> None:
    with copy.work("chat.stars", mode=Mode.REPLACE) as work:
        preview = work.preview()
        manifest = copy.backup.manifest
        assert manifest.backup_id in backups_in_use(copy.backup.store, manifest.source, datetime.now(UTC))
        copy.run("INSERT INTO chat.stars VALUES (999)")
        message = only_error(
            lambda: work.carry_out(preview, work_root=copy.work_root, progress=Phases()), RestoreRefusedError
        )
    assert "chat.stars has 1 surplus rows, 1 more than were shown" in message
    assert copy.rows("SELECT count(*) FROM chat.stars") == [(41,)]


def test_a_child_that_was_not_shown_is_not_touched_unseen_by_a_key_of_the_same_name(copy: Copy) -> None:
    copy.run(
        f"{NEW_MESSAGE} ALTER TABLE chat.stars DROP CONSTRAINT stars_message_fkey, ADD CONSTRAINT files_message_fkey"
        " FOREIGN KEY (message) REFERENCES chat.messages ON DELETE CASCADE;"
        "INSERT INTO chat.files VALUES (501, 1001, 'f'), (502, 1001, 'g')"
    )
    with copy.work(MESSAGES, mode=Mode.REPLACE, touches_children=True) as work:
        preview = work.preview()
        copy.run("INSERT INTO chat.stars VALUES (701, 1001)")
        message = only_error(
            lambda: work.carry_out(preview, work_root=copy.work_root, progress=Phases()), RestoreRefusedError
        )
    assert "1 more rows of chat.stars would be touched than were shown" in message
    assert copy.rows("SELECT count(*) FROM chat.stars WHERE message = 1001") == [(1,)]


def test_a_merge_that_leaves_another_row_is_rolled_back(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison at the end sees what the statements before it did wrong."""
    copy.run("DELETE FROM chat.stars WHERE id < 5")
    before = copy.contents()
    monkeypatch.setattr("include.backup.table_restore.merge._insert", lambda table: 0)
    for mode in (Mode.REPLACE, Mode.MISSING):
        message = only_error(lambda mode=mode: copy.restore("chat.stars", mode=mode), RestoreError)
        assert "all was rolled back" in message
    assert copy.contents() == before


def test_a_role_that_does_not_own_the_table_or_does_not_see_its_rows_is_told_so(copy: Copy) -> None:
    copy.run("CREATE ROLE guest LOGIN PASSWORD 'guest'; GRANT USAGE ON SCHEMA chat TO guest")
    try:
        connection = replace(copy.connection, user="guest", password=Secret("guest"))
        target = Target(connection, database=copy.name)

        def guest(table: str, **options: Any) -> object:
            return copy.restore(table, mode=Mode.REPLACE, target=target, **options)

        assert "belongs to table_owner" in only_error(lambda: guest("chat.stars"), RestoreRefusedError)
        copy.run("GRANT table_owner TO guest")
        message = only_error(lambda: guest(MESSAGES), RestoreError)
        assert "row-level security" in message
        assert guest("chat.tree")
        # Rows that hang on others: a role that cannot keep their triggers from firing does not let them go.
        copy.run(
            "CREATE TABLE chat.leaves (id integer PRIMARY KEY, tree integer REFERENCES chat.tree ON DELETE CASCADE);"
            "CREATE TRIGGER fires AFTER DELETE ON chat.leaves FOR EACH ROW EXECUTE FUNCTION chat.fire();"
            "GRANT SELECT, DELETE ON chat.leaves TO guest;"
            "INSERT INTO chat.tree VALUES (99); INSERT INTO chat.leaves VALUES (1, 99)"
        )
        message = only_error(lambda: guest("chat.tree", touches_children=True), RestoreRefusedError)
        assert "1 rows of chat.leaves would be changed by CASCADE, and it belongs to " in message
        copy.run("ALTER TABLE chat.leaves DISABLE TRIGGER fires")
        assert guest("chat.tree", touches_children=True)
        assert copy.rows("SELECT count(*) FROM chat.leaves") == [(0,)]
    finally:
        copy.run("DROP OWNED BY guest; REVOKE table_owner FROM guest; DROP ROLE guest")


def test_only_full_and_table_backups_hold_rows(shared_copy: Copy) -> None:
    other = shared_copy.backup.saying(kind="schema")
    message = only_error(
        lambda: shared_copy.preview("chat.events", mode=Mode.BESIDE, backup=other), RestoreRefusedError
    )
    assert "is of the kind schema" in message


def test_a_target_that_is_not_there_is_refused(shared_copy: Copy) -> None:
    target = Target(shared_copy.connection, database="nowhere")
    request = shared_copy.request("chat.events", mode=Mode.MISSING, target=target)
    message = only_error(lambda: plan_tables(request, runner=Runner(log=LOG), log=LOG), RestoreRefusedError)
    assert "there is no nowhere" in message
