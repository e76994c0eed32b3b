"""SQL for comparing the rows of a table with those of a copy that has the same columns.

Rows are the same when PostgreSQL would print the same text for them. That a row's bytes are the same is quicker to
see and implies it; the text is only made where the bytes differ. No cast and no operator of a user's is called:
``format`` uses a type's own output, and keys are matched by the operators of the key's index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from include.backup.table_restore.catalog import Key

Part = sql.Composable
# Of each value that a person is shown.
LONGEST_VALUE = 2000


def field(alias: str, column: str) -> Part:
    return sql.SQL("{}.{}").format(sql.Identifier(alias), sql.Identifier(column))


def fields(alias: str, columns: Iterable[str]) -> Part:
    return sql.SQL(", ").join(field(alias, column) for column in columns)


def names(columns: Iterable[str]) -> Part:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def same_key(key: Key, left: str, right: str) -> Part:
    """Return the condition that two rows have the same key."""
    return matching(key.columns, key.operators, key.columns, left=left, right=right)


def matching(
    left_columns: Sequence[str], operators: Sequence[str], right_columns: Sequence[str], *, left: str, right: str
) -> Part:
    """Return the condition that the operators hold between two rows' columns, pair by pair."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(field(left, one), sql.SQL(operator), field(right, other))
        for one, operator, other in zip(left_columns, operators, right_columns, strict=True)
    )


def differ(columns: Sequence[str], left: str, right: str) -> Part:
    """Return the condition that two rows are not the same."""
    return sql.SQL(
        "ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record AND ROW({}) IS DISTINCT FROM ROW({})"
    ).format(fields(left, columns), fields(right, columns), _texts(left, columns), _texts(right, columns))


def text_of(value: Part) -> Part:
    """Return the beginning of a value's text, null for null; a composite value of nulls is none."""
    return sql.SQL(
        "CASE pg_catalog.num_nulls({0}) WHEN 0 THEN pg_catalog.left(pg_catalog.format('%s', {0}), {1}) END"
    ).format(value, sql.Literal(LONGEST_VALUE))


def _texts(alias: str, columns: Iterable[str]) -> Part:
    return sql.SQL(", ").join(sql.SQL("pg_catalog.format('%L', {})").format(field(alias, column)) for column in columns)
