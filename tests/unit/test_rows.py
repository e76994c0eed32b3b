"""The COPY that reads restored rows back: the same rows and columns as the dump's."""

from __future__ import annotations

import pytest

from include.backup.postgres.toc import parse_copy
from include.backup.proof.rows import Comparison
from tests.support.builders import make_member, make_table

PLAIN = "COPY shop.orders (id, total) FROM stdin;\n"
ODD = 'COPY "Odd ""x""".t ("a)", "b, c") FROM stdin;\n'
NO_COLUMNS = "COPY shop.none  FROM stdin;\n"


@pytest.mark.parametrize(
    ("statement", "condition", "partitioned", "expected"),
    [
        (PLAIN, None, False, "COPY shop.orders (id, total) TO STDOUT"),
        (ODD, None, False, 'COPY "Odd ""x""".t ("a)", "b, c") TO STDOUT'),
        (NO_COLUMNS, None, False, "COPY shop.none TO STDOUT"),
        (PLAIN, "WHERE id > 9", False, "COPY (SELECT id, total FROM ONLY shop.orders WHERE id > 9) TO STDOUT"),
        (PLAIN, None, True, "COPY (SELECT id, total FROM shop.orders) TO STDOUT"),
        (PLAIN, "WHERE x", True, "COPY (SELECT id, total FROM shop.orders WHERE x) TO STDOUT"),
        (ODD, "WHERE x", False, 'COPY (SELECT "a)", "b, c" FROM ONLY "Odd ""x""".t WHERE x) TO STDOUT'),
        (NO_COLUMNS, "WHERE x", False, "COPY (SELECT  FROM ONLY shop.none WHERE x) TO STDOUT"),
    ],
)
def test_the_statement_reads_what_the_dump_read(
    statement: str, condition: str | None, partitioned: bool, expected: str
) -> None:
    comparison = Comparison(target=parse_copy(statement), members=(), condition=condition, partitioned=partitioned)
    assert comparison.statement() == expected


def test_the_rows_of_all_leaves_count_together() -> None:
    members = tuple(make_member(str(rows), table_data=make_table(rows=rows)) for rows in (3, 4))
    comparison = Comparison(target=parse_copy(PLAIN), members=members, condition=None, partitioned=True)
    assert comparison.rows == 7
