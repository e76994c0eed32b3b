"""globals.sql: what a scratch server takes of it, what it keeps back until code has run, and the comparison."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from include.backup.postgres.script import split_statements
from include.backup.proof.globals import (
    compare_roles,
    guarded_globals,
    loadable_globals,
    released_statements,
    role_statements,
    superuser_statements,
)
from tests.support.properties import given

OPTIONS = "INHERIT {createrole} NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS"
GLOBALS_TEMPLATE = r"""
--
-- PostgreSQL database cluster dump
--

\restrict pVtcs9

SET default_transaction_read_only = off;
SET standard_conforming_strings = on;

CREATE ROLE root;
ALTER ROLE root WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS {password};
CREATE ROLE "Ann ""O'Neill""; x";
ALTER ROLE "Ann ""O'Neill""; x" WITH NOSUPERUSER INHERIT CREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;
COMMENT ON ROLE app IS 'It is not so:
ALTER ROLE app WITH SUPERUSER;
GRANT root TO app;';
ALTER ROLE app SET search_path TO '$user', 'public';
ALTER ROLE app SET "app.secret" TO 'canary; SUPERUSER';

GRANT app TO "Ann ""O'Neill""; x" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY "root; y";
GRANT pg_execute_server_program TO app WITH INHERIT TRUE GRANTED BY root;
GRANT pg_read_all_data TO app GRANTED BY root;
GRANT pg_of_a_later_version TO app GRANTED BY root;
GRANT SET ON PARAMETER session_preload_libraries TO app;
GRANT ALTER SYSTEM ON PARAMETER archive_command TO app WITH GRANT OPTION;

CREATE TABLESPACE fast OWNER root LOCATION '/fast';
ALTER TABLESPACE fast SET (random_page_cost=1);
COMMENT ON TABLESPACE fast IS 'SSD';
GRANT CREATE ON TABLESPACE fast TO app;

\unrestrict pVtcs9
"""
PASSWORD = "PASSWORD 'SCRAM-SHA-256$4096:a SUPERUSER' VALID UNTIL '2031-01-01 00:00:00+00'"
GLOBALS = GLOBALS_TEMPLATE.replace("{password}", PASSWORD)


def test_what_other_servers_take_has_no_superusers_tablespaces_and_grantors() -> None:
    loadable = loadable_globals(GLOBALS)
    assert "NOSUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS PASSWORD 'SCRAM" in loadable
    assert "a SUPERUSER' VALID UNTIL '2031-01-01 00:00:00+00';" in loadable
    assert "TABLESPACE" not in loadable
    assert "GRANTED BY" not in loadable
    assert "restrict" not in loadable
    assert 'GRANT app TO "Ann ""O\'Neill""; x" WITH ADMIN OPTION, INHERIT TRUE;\n' in loadable
    assert "pg_execute_server_program" in loadable


def test_a_guarded_restore_keeps_back_every_way_to_more_rights() -> None:
    statements = list(split_statements(guarded_globals(GLOBALS)))
    for kept_back in (
        "pg_execute_server_program",
        "pg_of_a_later_version",
        "ON PARAMETER",
        " CREATEROLE",
        " SUPERUSER ",
    ):
        assert [text for text in statements if kept_back in text and "COMMENT" not in text and "SET" not in text] == []
    assert "GRANT pg_read_all_data TO app" in statements
    assert sum("NOCREATEROLE" in text for text in statements) == 3


def test_what_was_kept_back_is_given_back() -> None:
    assert released_statements(GLOBALS) == (
        "ALTER ROLE root SUPERUSER CREATEROLE",
        'ALTER ROLE "Ann ""O\'Neill""; x" CREATEROLE',
        "GRANT pg_execute_server_program TO app WITH INHERIT TRUE",
        "GRANT pg_of_a_later_version TO app",
        "GRANT SET ON PARAMETER session_preload_libraries TO app",
        "GRANT ALTER SYSTEM ON PARAMETER archive_command TO app WITH GRANT OPTION",
    )
    assert superuser_statements(GLOBALS) == ("ALTER ROLE root SUPERUSER",)


def test_a_line_inside_a_comment_is_no_statement() -> None:
    """Whoever may comment on a role could otherwise make it a superuser of the copy."""
    assert not any("app SUPERUSER" in text or text == "GRANT root TO app" for text in released_statements(GLOBALS))
    assert superuser_statements("COMMENT ON ROLE a IS E'\\'\nALTER ROLE a WITH SUPERUSER;\n';") == ()


@pytest.mark.parametrize("name", ["app", '"A b"', '"x"" WITH SUPERUSER; y"', '"naïve 🎈"', "CREATEROLE", '"SUPERUSER"'])
@pytest.mark.parametrize("superuser", ["SUPERUSER", "NOSUPERUSER"])
@pytest.mark.parametrize("createrole", ["CREATEROLE", "NOCREATEROLE"])
def test_any_role_comes_back_as_it_was(name: str, superuser: str, createrole: str) -> None:
    line = f"ALTER ROLE {name} WITH {superuser} {OPTIONS.format(createrole=createrole)} PASSWORD 'x CREATEROLE ';\n"
    (guarded,) = split_statements(guarded_globals(line))
    assert (
        guarded
        == f"ALTER ROLE {name} WITH NOSUPERUSER {OPTIONS.format(createrole='NOCREATEROLE')} PASSWORD 'x CREATEROLE '"
    )
    wanted = [word for word in (superuser, createrole) if not word.startswith("NO")]
    assert list(released_statements(line)) == ([f"ALTER ROLE {name} {' '.join(wanted)}"] if wanted else [])


def test_equal_roles_have_no_difference_whoever_granted() -> None:
    assert list(compare_roles(GLOBALS, GLOBALS.replace(" GRANTED BY root", ""), without=())) == []
    assert role_statements("GRANT a TO b GRANTED BY c;") == role_statements('GRANT a TO b GRANTED BY "d; e";')
    assert "TABLESPACE" not in " ".join(role_statements(GLOBALS))


def test_roles_of_the_scratch_server_itself_do_not_count() -> None:
    restored = (
        GLOBALS
        + "CREATE ROLE scratch_admin;\nGRANT app TO scratch_admin;\nGRANT app TO other GRANTED BY scratch_admin;"
    )
    assert [found.name for found in compare_roles(GLOBALS, restored, without=("scratch_admin",))] == [
        "GRANT app TO other"
    ]


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("GRANT pg_read_all_data TO app GRANTED BY root;", "", ["GRANT pg_read_all_data TO app"]),
        ("CREATE ROLE app;", "", ["CREATE ROLE app"]),
        ("'canary; SUPERUSER'", "'canary-2'", ["ALTER ROLE app SET \"app.secret\" TO '…'"] * 2),
        ("SCRAM-SHA-256$4096:a", "SCRAM-SHA-256$4096:b", None),
    ],
)
def test_a_difference_is_named_without_its_value(old: str, new: str, names: list[str] | None) -> None:
    found = list(compare_roles(GLOBALS, GLOBALS.replace(old, new), without=()))
    assert all(difference.what == "ROLE" for difference in found)
    assert not any("canary" in str(difference) or "SCRAM" in str(difference) for difference in found)
    if names is None:
        assert len(found) == 2
        assert all(difference.name.startswith("ALTER ROLE root WITH SUPERUSER") for difference in found)
    else:
        assert [difference.name for difference in found] == names


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["CREATE ROLE ", "COMMENT ON ROLE x IS "]),
            st.sampled_from(['"{}"', "'{}'", "E'{}'"]),
            st.text(st.sampled_from(list("ab ;-\\\n/*eE")), max_size=8),
        ),
        max_size=5,
    )
)
def test_statements_are_taken_apart_whatever_they_quote(parts: list[tuple[str, str, str]]) -> None:
    statements = []
    for head, quoting, text in parts:
        inner = text.replace("\\", "\\\\") if quoting.startswith("E") else text
        statements.append(head + quoting.format(inner.replace('"', '""').replace("'", "''")))
    script = "-- a; comment\n\\restrict x;y\n" + ";\n".join([*statements, ""])
    assert list(split_statements(script)) == statements
