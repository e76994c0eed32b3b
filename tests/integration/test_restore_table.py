"""Tables are made what they were, and what hangs on them stays."""

from __future__ import annotations

import pytest

from include.backup.table_restore.preview import Mode
from tests.support.table_restores import Copy

pytest_plugins = ["tests.support.proof_fixtures", "tests.support.table_restores"]

MESSAGES = "chat.messages"
DAMAGE = """
SET row_security = off;
ALTER TABLE chat.messages DISABLE TRIGGER USER;
DELETE FROM chat.messages WHERE id BETWEEN 391 AND 400;
UPDATE chat.messages SET body = 'defaced' WHERE id BETWEEN 100 AND 119;
UPDATE chat.messages SET price = NULL WHERE id = 120;
INSERT INTO chat.messages (id, author, body) VALUES (1001, 1, 'new one'), (1002, 2, 'new two');
ALTER TABLE chat.messages ENABLE TRIGGER fires;
ALTER TABLE chat.messages ENABLE ALWAYS TRIGGER always;
"""
STATES = (
    "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'chat.messages'::regclass AND NOT tgisinternal ORDER BY 1"
)


def test_replace_makes_a_table_what_it_was_and_keeps_all_that_hangs_on_it(copy: Copy) -> None:
    before, states = copy.contents(), copy.rows(STATES)
    definition = copy.rows(
        "SELECT pg_get_viewdef('chat.unread'::regclass), relacl::text, relrowsecurity FROM pg_class"
        " WHERE oid = 'chat.messages'::regclass"
    )
    oid = copy.rows("SELECT 'chat.messages'::regclass::oid")
    copy.run(DAMAGE)
    preview, report = copy.restore(MESSAGES, mode=Mode.REPLACE)
    (table,) = preview.tables
    assert (table.archived, table.present, table.missing, table.changed, table.surplus) == (400, 392, 10, 21, 2)
    (merged,) = report.merged
    assert (merged.inserted, merged.updated, merged.deleted) == (10, 21, 2)
    assert copy.contents() == before
    assert copy.rows(STATES) == states
    assert copy.rows("SELECT 'chat.messages'::regclass::oid") == oid
    assert definition == copy.rows(
        "SELECT pg_get_viewdef('chat.unread'::regclass), relacl::text, relrowsecurity FROM pg_class"
        " WHERE oid = 'chat.messages'::regclass"
    )
    assert copy.rows("SELECT count(*) FROM chat.fired") == [(0,)]


def test_a_changed_row_may_refer_to_a_missing_one_of_its_table_and_hold_the_unique_value_of_another(copy: Copy) -> None:
    """What ON DELETE SET NULL leaves of a thread, and two rows that are each in the other's way."""
    before = copy.contents(skip=("fired",))
    copy.run(
        "SET row_security = off; SET session_replication_role = replica;"
        "UPDATE chat.messages SET reply_to = NULL WHERE reply_to IS NOT NULL;"
        "DELETE FROM chat.messages WHERE id < 200; DELETE FROM chat.users WHERE id = 50;"
        "UPDATE chat.users SET email = (SELECT replace(email, '49', '50') FROM chat.users WHERE id = 49) WHERE id = 49"
    )
    preview, report = copy.restore(MESSAGES, "chat.users", mode=Mode.REPLACE)
    assert all(table.missing and table.changed for table in preview.tables)
    assert sum(merged.updated for merged in report.merged) == sum(table.changed or 0 for table in preview.tables)
    assert sum(merged.inserted for merged in report.merged) == sum(table.missing or 0 for table in preview.tables)
    assert copy.contents(skip=("fired",)) == before


def test_statistics_that_cannot_be_gathered_do_not_make_a_merge_that_is_done_a_failure(
    copy: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    before = copy.contents()
    # PostgreSQL evaluates an index's expressions for ANALYZE too, and then sets the search_path itself.
    copy.run(
        "CREATE OR REPLACE FUNCTION chat.shout(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF current_setting('search_path') LIKE '%pg_temp%' THEN RAISE 'not now'; END IF; RETURN upper($1); END $$;"
        f"{DAMAGE}"
    )
    _, report = copy.restore(MESSAGES, mode=Mode.REPLACE)
    assert report.merged[0].inserted == 10
    assert copy.contents() == before
    assert "chat.messages is merged and not analyzed (not now): run ANALYZE" in caplog.text


def test_missing_rows_are_added_and_nothing_else_is_changed(copy: Copy) -> None:
    copy.run(DAMAGE)
    preview, report = copy.restore(MESSAGES, mode=Mode.MISSING)
    (merged,) = report.merged
    assert (merged.inserted, merged.updated, merged.deleted) == (10, 0, 0)
    assert copy.rows("SELECT count(*), count(*) FILTER (WHERE body = 'defaced') FROM chat.messages") == [(402, 20)]
    assert copy.rows("SELECT count(*) FROM chat.fired") == [(0,)]
    assert [table.surplus for table in preview.tables] == [2]


def test_an_undamaged_table_is_left_alone(copy: Copy) -> None:
    before = copy.rows("SELECT xmin, ctid FROM chat.messages ORDER BY id")
    preview, _ = copy.restore(MESSAGES, "chat.users", "chat.mixed", "chat.tree", mode=Mode.REPLACE)
    assert not preview.changes
    assert copy.rows("SELECT xmin, ctid FROM chat.messages ORDER BY id") == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chat.mixed SET id = 'ONE' WHERE id = 'one'",
        "UPDATE chat.mixed SET doc = '{\"a\": 1}' WHERE id = 'one'",
        "UPDATE chat.mixed SET number = 1.5 WHERE id = 'one'",
        "UPDATE chat.mixed SET at = '(0,0)' WHERE id = ''",
        "UPDATE chat.mixed SET home = NULL WHERE id = 'two'",
        "UPDATE chat.mixed SET real = 0 WHERE id = ''",
        "UPDATE chat.mixed SET labels = NULL WHERE id = 'two'",
        "DELETE FROM chat.mixed",
        "INSERT INTO chat.mixed (id) VALUES ('three')",
        "TRUNCATE chat.mixed; INSERT INTO chat.mixed (id) VALUES ('TWO')",
    ],
)
def test_every_type_comes_back_to_the_letter(copy: Copy, damage: str) -> None:
    before = copy.contents()
    copy.run(damage)
    preview, _ = copy.restore("chat.mixed", mode=Mode.REPLACE)
    assert preview.changes
    assert copy.contents() == before


@pytest.mark.parametrize("table", ["chat.events", "chat.moods", "chat.events_2024"])
def test_partitioned_tables_are_merged_as_a_whole_or_by_one_part(copy: Copy, table: str) -> None:
    before = copy.contents()
    copy.run(
        "ALTER TABLE chat.events DISABLE TRIGGER USER; DELETE FROM chat.events WHERE id < 20;"
        "UPDATE chat.events SET what = 'x' WHERE id = 30; INSERT INTO chat.events VALUES (999, '2024-03-03', 'new');"
        "ALTER TABLE chat.events ENABLE TRIGGER USER;"
        "DELETE FROM chat.moods WHERE note < 10; INSERT INTO chat.moods VALUES ('sent', 999)"
    )
    copy.restore(table, mode=Mode.REPLACE)
    after = copy.contents()
    assert after["chat." + table.split(".")[1]] == before["chat." + table.split(".")[1]]
    assert copy.rows("SELECT count(*) FROM chat.fired") == [(0,)]


def test_a_table_with_heirs_is_merged_without_them(copy: Copy) -> None:
    before = copy.contents()
    copy.run("DELETE FROM ONLY chat.documents WHERE id < 5")
    preview, _ = copy.restore("chat.documents", mode=Mode.REPLACE)
    assert (preview.tables[0].missing, preview.tables[0].surplus) == (4, 0)
    assert copy.contents() == before


def test_odd_names_are_names_like_any_other(copy: Copy) -> None:
    before = copy.contents()
    copy.run('UPDATE chat."Odd ""name"", {here} %s" SET "b""x" = NULL WHERE "I d" < 5')
    _, report = copy.restore('chat."Odd ""name"", {here} %s"', mode=Mode.REPLACE)
    assert report.merged[0].updated == 4
    assert copy.contents() == before


def test_identities_and_sequences_go_on_after_the_highest_value(copy: Copy) -> None:
    copy.run(
        "DELETE FROM chat.users WHERE id > 45 AND NOT EXISTS (SELECT FROM chat.messages WHERE author = users.id);"
        "DELETE FROM chat.previews; DELETE FROM chat.files; DELETE FROM chat.stars;"
        "SET row_security = off; DELETE FROM chat.messages; DELETE FROM chat.users;"
        "ALTER SEQUENCE chat.users_id_seq RESTART; ALTER SEQUENCE chat.messages_id_seq RESTART WITH 7"
    )
    copy.restore(MESSAGES, "chat.users", mode=Mode.REPLACE)
    copy.run("INSERT INTO chat.users (email) VALUES ('next@example.org')")
    copy.run("SET row_security = off; INSERT INTO chat.messages (author) VALUES (1)")
    assert copy.rows("SELECT max(id) FROM chat.users") == [(51,)]
    assert copy.rows("SELECT max(id) FROM chat.messages") == [(401,)]
