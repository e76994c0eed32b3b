"""What a finding may show of a definition."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from include.backup.proof.masking import first_difference, without_values
from tests.support.properties import given

SECRET = "canary"


@pytest.mark.parametrize(
    ("definition", "shown"),
    [
        ("OPTIONS (password 'canary')", "OPTIONS (password '…')"),
        ("SET x TO 'it''s canary', 'b'", "SET x TO '…', '…'"),
        (r"SET x TO E'a\'canary'", "SET x TO '…'"),
        ("COMMENT ON TABLE x IS 'two\nlines canary'", "COMMENT ON TABLE x IS '…'"),
        ("CREATE FUNCTION f() AS $$ it's canary $$ COST 1", "CREATE FUNCTION f() AS $…$ COST 1"),
        ("AS $_$ canary $$ canary $_$;", "AS $…$;"),
        ("CONNECTION 'canary", "CONNECTION '…'"),
        ('GRANT "it\'s" TO "b""c"', 'GRANT "it\'s" TO "b""c"'),
        ("SELECT $1, 2 + $2", "SELECT $1, 2 + $2"),
    ],
)
def test_constants_and_bodies_are_left_out_and_names_stay(definition: str, shown: str) -> None:
    assert without_values(definition) == shown


@given(
    st.text(st.sampled_from(list("ab'\"$\\ \n")), max_size=12),
    st.sampled_from(["'{}'", "$${}$$", "$body${}$body$"]),
    st.text(st.sampled_from(list("xyz ();\n")), max_size=8),
)
def test_a_secret_is_never_shown_however_it_is_quoted(around: str, quoting: str, rest: str) -> None:
    value = f"{around}{SECRET}{around}"
    value = value.replace("'", "''") if quoting == "'{}'" else value.replace("$", "")
    assert SECRET not in without_values(rest + quoting.format(value) + rest)


def test_the_first_line_that_differs_is_shown() -> None:
    assert first_difference("a\nb\nc", "a\nx\nc") == "differs: 'b' became 'x'"
    assert first_difference("a\nb", "a\nb\nc") == "differs in length: lines were added or lost at its end"


@pytest.mark.parametrize(("wanted", "found"), [("SET x TO 'canary'", "SET x TO 'b'"), ("AS $$canary$$", "AS $$b$$")])
def test_a_value_that_differs_is_told_but_not_shown(wanted: str, found: str) -> None:
    assert first_difference(wanted, found).startswith("differs in a text constant or a function's body (not shown")


def test_long_lines_are_cut() -> None:
    assert len(first_difference("a" * 1000, "b" * 1000)) < 400
