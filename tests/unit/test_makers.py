"""Who makes which object of a restore: a superuser only what nobody else can make."""

from __future__ import annotations

import pytest

from include.backup.postgres.toc import Section, TocEntry
from include.backup.proof.makers import ServerLimits, assign_makers, is_for_all_tables, is_property, owner_statements
from tests.support.builders import make_entry

LIMITS = ServerLimits(
    languages=frozenset({"sql", "plpgsql", "plperl"}), superuser_settings=frozenset({"session_replication_role"})
)


def makers_of(*entries: TocEntry) -> list[tuple[bool, list[int]]]:
    runs = assign_makers(entries, LIMITS).objects
    return [(by_superuser, [entry.dump_id for entry in run]) for by_superuser, run in runs]


def by_superuser(entry: TocEntry) -> bool:
    ((answer, _),) = makers_of(entry)
    return answer


def function(
    clauses: str, *, name: str = "f", arguments: str = "a integer", body: str = "AS $$ SELECT 1 $$"
) -> TocEntry:
    definition = f"CREATE FUNCTION public.{name}({arguments}) RETURNS integer\n    {clauses}\n    {body};\n"
    return make_entry(desc="FUNCTION", definition=definition)


def aggregate(name: str, *, initial: str) -> TocEntry:
    clauses = f"    SFUNC = h.s,\n    STYPE = h.evil,\n    INITCOND = '{initial}'\n"
    return make_entry(desc="AGGREGATE", definition=f"CREATE AGGREGATE {name}(integer) (\n{clauses});\n")


@pytest.mark.parametrize(
    "desc",
    [
        "AGGREGATE",
        "CHECK CONSTRAINT",
        "COLLATION",
        "CONVERSION",
        "DEFAULT",
        "DOMAIN",
        "FOREIGN TABLE",
        "FUNCTION",
        "MATERIALIZED VIEW",
        "OPERATOR",
        "PROCEDURE",
        "SEQUENCE",
        "SEQUENCE OWNED BY",
        "TABLE",
        "TABLE ATTACH",
        "TEXT SEARCH CONFIGURATION",
        "TEXT SEARCH DICTIONARY",
        "TYPE",
        "VIEW",
        "A KIND OF A LATER VERSION",
    ],
)
def test_what_can_hold_an_expression_is_made_by_an_ordinary_role(desc: str) -> None:
    assert not by_superuser(make_entry(desc=desc))


@pytest.mark.parametrize(
    "desc", ["SCHEMA", "EXTENSION", "CAST", "OPERATOR CLASS", "SERVER", "USER MAPPING", "SHELL TYPE"]
)
def test_what_only_a_superuser_may_make_is_made_by_him(desc: str) -> None:
    assert by_superuser(make_entry(desc=desc))


@pytest.mark.parametrize(
    "clauses",
    [
        "LANGUAGE c STRICT",
        "LANGUAGE plpython3u",
        "LANGUAGE internal",
        "LANGUAGE sql LEAKPROOF",
        "LANGUAGE sql SUPPORT public.support",
        "LANGUAGE plpgsql\n    SET session_replication_role TO 'replica'",
    ],
)
def test_routines_that_need_a_superuser(clauses: str) -> None:
    assert by_superuser(function(clauses))


@pytest.mark.parametrize(
    "entry",
    [
        function("LANGUAGE sql IMMUTABLE"),
        function("LANGUAGE plperl"),
        function("LANGUAGE plpgsql SECURITY DEFINER\n    SET search_path TO ''\n    SET work_mem TO '1MB'"),
        function("LANGUAGE plpgsql", body="AS $$ LANGUAGE c LEAKPROOF SUPPORT x $$"),
        function("LANGUAGE plpgsql", body="AS 'LANGUAGE c'"),
        function("LANGUAGE plpgsql", arguments="a text DEFAULT 'LANGUAGE c LEAKPROOF'::text"),
        function("LANGUAGE plpgsql", arguments="a text DEFAULT public.f((1), ') LANGUAGE c')"),
        function("LANGUAGE plpgsql", arguments='"LANGUAGE c SUPPORT x" integer'),
        function("LANGUAGE plpgsql\n    SET \"app.LANGUAGE c\" TO 'x'"),
        function("LANGUAGE sql", body="BEGIN ATOMIC\n SELECT 1 AS x;\n UPDATE t SET a = 'LANGUAGE c';\nEND"),
        function("LANGUAGE sql", name='"LANGUAGE c LEAKPROOF"'),
        aggregate('h."STYPE = internal"', initial="x"),
        aggregate("h.a", initial="STYPE = internal"),
    ],
    ids=lambda entry: entry.definition.replace("\n", " ")[:70],
)
def test_nobody_can_dress_an_object_up_as_one_that_needs_a_superuser(entry: TocEntry) -> None:
    assert not by_superuser(entry)


def test_an_aggregate_with_an_internal_state_needs_a_superuser() -> None:
    text = "CREATE AGGREGATE a(integer) (\n    SFUNC = int4_avg_accum,\n    STYPE = internal\n);\n"
    assert by_superuser(make_entry(desc="AGGREGATE", definition=text))


def test_a_type_that_began_as_a_shell_has_the_same_maker_as_its_shell() -> None:
    shell = make_entry(1, desc="SHELL TYPE", tag="box")
    base = make_entry(2, desc="TYPE", tag="box")
    elsewhere = make_entry(3, desc="TYPE", tag="box", namespace="other")
    assert makers_of(shell, base, elsewhere) == [(True, [1, 2]), (False, [3])]


def test_the_order_of_the_archive_is_kept_in_runs() -> None:
    entries = [
        make_entry(n, desc=desc) for n, desc in enumerate(["SCHEMA", "EXTENSION", "TYPE", "TABLE", "CAST", "VIEW"])
    ]
    assert makers_of(*entries) == [(True, [0, 1]), (False, [2, 3]), (True, [4]), (False, [5])]


def test_everything_is_made_once_and_the_database_not_at_all() -> None:
    pre, data, post = Section.PRE_DATA, Section.DATA, Section.POST_DATA
    for_all = make_entry(
        18, desc="PUBLICATION", section=post, definition="CREATE PUBLICATION p FOR ALL TABLES WITH (x);\n"
    )
    made = {
        "objects": [make_entry(1, desc="SCHEMA"), make_entry(2), make_entry(3, desc="BLOB")],
        "grants": [make_entry(4, desc="ACL", tag="TABLE users"), make_entry(5, desc="ACL", tag="DATABASE users")],
        "rows": [make_entry(6, desc="TABLE DATA", section=data), make_entry(7, desc="BLOB METADATA", section=data)],
        "indexes": [
            make_entry(8, desc="INDEX", section=post),
            make_entry(9, desc="POLICY", section=post),
            make_entry(10, desc="PUBLICATION", section=post, definition='CREATE PUBLICATION " FOR ALL TABLES";\n'),
            make_entry(11, desc="PUBLICATION TABLE", section=post),
            make_entry(12, desc="MATERIALIZED VIEW DATA", section=post),
        ],
        "last": [
            make_entry(13, desc="COMMENT", section=pre),
            make_entry(14, desc="ACL", section=data),
            make_entry(15, desc="DEFAULT ACL", section=post),
            make_entry(16, desc="SECURITY LABEL", section=pre),
            make_entry(17, desc="SUBSCRIPTION", section=post),
            for_all,
        ],
        "event_triggers": [
            make_entry(19, desc="EVENT TRIGGER", section=post),
            make_entry(20, desc="COMMENT", tag="EVENT TRIGGER x", section=post),
        ],
    }
    database = [
        make_entry(30, desc="DATABASE"),
        make_entry(31, desc="DATABASE PROPERTIES", namespace=""),
        make_entry(32, desc="ACL", tag="DATABASE pulse", namespace=""),
        make_entry(33, desc="COMMENT", tag="DATABASE pulse", namespace=""),
        make_entry(34, desc="ENCODING"),
    ]
    makers = assign_makers([*(entry for entries in made.values() for entry in entries), *database], LIMITS)
    found = {name: [entry.dump_id for entry in getattr(makers, name)] for name in made if name != "objects"}
    found["objects"] = [entry.dump_id for _, run in makers.objects for entry in run]
    assert found == {name: [entry.dump_id for entry in entries] for name, entries in made.items()}


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        (make_entry(desc="DATABASE PROPERTIES", namespace=""), True),
        (make_entry(desc="ACL", tag="DATABASE x", namespace=""), True),
        (make_entry(desc="TABLE", tag="DATABASE x"), False),
        (make_entry(desc="SCHEMA", tag="DATABASE x", namespace=""), False),
        (make_entry(desc="INDEX", tag="DATABASE x"), False),
    ],
)
def test_an_object_that_is_only_named_like_the_database_is_none_of_its_properties(
    entry: TocEntry, answer: bool
) -> None:
    assert is_property(entry) is answer


def test_owners_that_are_given_last() -> None:
    entries = [
        make_entry(desc="STATISTICS", tag="s", owner="a"),
        make_entry(desc="PUBLICATION", tag="p", namespace="", owner="b"),
        make_entry(desc="TABLE"),
    ]
    assert list(owner_statements(entries)) == [("STATISTICS", ("public", "s"), "a"), ("PUBLICATION", ("p",), "b")]
    assert not is_for_all_tables(entries[2])
