"""What of an archive's text is run on a target: nothing that could change the source or a role that is there."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from include.backup.errors import TocError
from include.backup.restore.statements import (
    create_database_statement,
    database_properties,
    missing_roles,
    required_roles,
    unquoted,
)
from tests.support.properties import given
from tests.support.records import make_entry, make_manifest, make_toc

GLOBALS = r"""
\restrict abc
SET standard_conforming_strings = on;
-- Roles; not a statement
CREATE ROLE admin;
ALTER ROLE admin WITH SUPERUSER INHERIT LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b';
CREATE ROLE "Odd ""one"";";
ALTER ROLE "Odd ""one"";" WITH NOSUPERUSER NOLOGIN;
ALTER ROLE "Odd ""one"";" SET search_path TO 'a', 'b;c';
COMMENT ON ROLE admin IS 'line one
-- line two; it''s text';
CREATE ROLE anon;
ALTER ROLE anon WITH NOSUPERUSER NOLOGIN;
GRANT anon TO admin WITH INHERIT TRUE GRANTED BY admin;
GRANT anon TO "Odd ""one"";" WITH INHERIT TRUE GRANTED BY admin;
CREATE TABLESPACE fast LOCATION '/mnt';
"""


def test_only_roles_that_are_missing_are_made() -> None:
    found = missing_roles(GLOBALS, existing={"admin"}, promote=True)
    assert found.roles == ('Odd "one";', "anon")
    assert not any(statement.startswith(("CREATE ROLE admin", "ALTER ROLE admin")) for statement in found.statements)
    assert "GRANT anon TO admin WITH INHERIT TRUE" in found.statements
    assert not any("TABLESPACE" in statement or "SET standard" in statement for statement in found.statements)


def test_nothing_is_run_when_all_roles_are_there() -> None:
    assert missing_roles(GLOBALS, existing={"admin", 'Odd "one";', "anon"}, promote=True).statements == ()


@pytest.mark.parametrize("promote", [False, True])
def test_a_role_becomes_a_superuser_only_where_the_restoring_role_is_one(promote: bool) -> None:
    found = missing_roles(GLOBALS, existing=(), promote=promote)
    assert found.superusers == ("admin",)
    altered, *promoted = (text for text in found.statements if text.startswith("ALTER ROLE admin"))
    assert " NOSUPERUSER " in altered
    assert "PASSWORD 'SCRAM-SHA-256$4096:a;b'" in altered
    assert promoted == (["ALTER ROLE admin SUPERUSER"] if promote else [])


def test_owners_and_grantees_are_required_and_words_of_expressions_are_not() -> None:
    toc = make_toc(
        make_entry("TABLE", "CREATE TABLE ...", owner="owner one"),
        make_entry("ACL", 'GRANT SELECT ON TABLE public.users TO anon;\nREVOKE ALL ON t FROM "Odd Role";\n'),
        make_entry("DEFAULT ACL", "ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA s GRANT ALL ON TABLES TO reader;"),
        make_entry("POLICY", "CREATE POLICY p ON t TO authenticated, anon USING (EXISTS (SELECT 1 FROM users));"),
        make_entry("ACL", "GRANT CONNECT ON DATABASE pulse_messages TO connector;", tag="DATABASE pulse_messages"),
    )
    known = ("anon", "Odd Role", "maker", "reader", "authenticated", "connector", "unused")
    found = required_roles(toc, make_manifest(roles=known))
    assert found == {"owner one", "anon", "Odd Role", "maker", "reader", "authenticated"}


def test_the_database_is_made_as_it_was_but_for_its_name_and_tablespace() -> None:
    definition = (
        "CREATE DATABASE pulse_messages WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc "
        "LOCALE = '{C}' TABLESPACE = fast;\n"
    )
    statement = create_database_statement(make_toc(make_entry("DATABASE", definition)), name='n"; DROP DATABASE x')
    assert statement.as_string(None) == (
        'CREATE DATABASE "n""; DROP DATABASE x" WITH TEMPLATE = template0 ENCODING = \'UTF8\' '
        "LOCALE_PROVIDER = libc LOCALE = '{C}'"
    )


def test_a_table_of_contents_without_its_database_is_refused() -> None:
    with pytest.raises(TocError, match="leave --create out"):
        create_database_statement(make_toc(), name="x")


def test_the_databases_settings_go_to_the_new_name() -> None:
    toc = make_toc(
        make_entry("DATABASE", "CREATE DATABASE pulse_messages WITH TEMPLATE = template0;"),
        make_entry(
            "DATABASE PROPERTIES",
            "ALTER DATABASE pulse_messages SET a TO 'ALTER DATABASE pulse_messages SET b';\n"
            "ALTER ROLE \"Odd Role\" IN DATABASE pulse_messages SET work_mem TO '16MB';\n",
        ),
        make_entry("COMMENT", "COMMENT ON DATABASE pulse_messages IS 'it''s; ours';", tag="DATABASE pulse_messages"),
        make_entry("ACL", "REVOKE ALL ON DATABASE pulse_messages FROM PUBLIC;\n", tag="DATABASE pulse_messages"),
    )
    found = database_properties(toc, source="pulse_messages", name="new one")
    assert found.statements == (
        "ALTER DATABASE \"new one\" SET a TO 'ALTER DATABASE pulse_messages SET b'",
        'ALTER ROLE "Odd Role" IN DATABASE "new one" SET work_mem TO \'16MB\'',
        "COMMENT ON DATABASE \"new one\" IS 'it''s; ours'",
        'REVOKE ALL ON DATABASE "new one" FROM PUBLIC',
    )
    assert found.left_out == ()


@pytest.mark.parametrize(
    "definition",
    [
        "ALTER DATABASE other SET a TO 'b';",
        "UPDATE pg_catalog.pg_database SET datistemplate = true WHERE datname = 'pulse_messages';",
        "DROP DATABASE pulse_messages;",
    ],
)
def test_a_statement_about_something_else_is_left_out(definition: str) -> None:
    toc = make_toc(make_entry("DATABASE PROPERTIES", definition))
    found = database_properties(toc, source="pulse_messages", name="new")
    assert found.statements == ()
    assert found.left_out == (definition.rstrip(";"),)


@given(st.text(min_size=1))
def test_unquoting_undoes_quoting(name: str) -> None:
    assert unquoted('"' + name.replace('"', '""') + '"') == name
