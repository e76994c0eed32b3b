"""What a database itself has, beside what is in it: carried over from the one that is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from include.backup.errors import SwapError
from include.backup.postgres.session import query
from include.backup.restore.survey import DatabaseFacts, database_facts

# The settings whose value PostgreSQL keeps as a list of quoted names (variable_is_guc_list_quote in its source).
LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Owner, limit, comment, grants and settings; ``settings`` are (role or None, name, value)."""

    owner: str
    connection_limit: int
    comment: str | None
    grants: tuple[str, ...]
    settings: tuple[tuple[str | None, str, str], ...]


def read_properties(session: psycopg.Connection[dict[str, Any]], database: str) -> Properties:
    """Return a database's own properties; raises SwapError when it is not there."""
    facts = _facts(session, database)
    return Properties(
        owner=facts.owner,
        connection_limit=facts.connection_limit,
        comment=facts.comment,
        grants=facts.grants,
        settings=tuple(_settings(session, database)),
    )


def carry_over(session: psycopg.Connection[dict[str, Any]], *, source: str, target: str) -> Properties:
    """Give ``target`` exactly what ``source`` has, in one transaction; raises SwapError when it did not take it."""
    wanted = read_properties(session, source)
    try:
        with session.transaction():
            for statement in _statements(session, target, wanted):
                session.execute(statement)
    except psycopg.Error as error:
        raise SwapError(
            f"{target} cannot be given what {source} has: {' '.join(str(error).split())}; nothing was renamed"
        ) from error
    found = read_properties(session, target)
    if found != wanted:
        names = [name for name in Properties.__dataclass_fields__ if getattr(found, name) != getattr(wanted, name)]
        raise SwapError(f"{target} did not take {', '.join(names)} of {source}; nothing was renamed, look why")
    return wanted


def list_items(value: str) -> tuple[str, ...]:
    """Return the names of a list as PostgreSQL keeps it.

    >>> list_items('"$user", public, "a, b"')
    ('$user', 'public', 'a, b')
    """
    items, item, quoted, index = [], "", False, 0
    while index < len(value):
        letter = value[index]
        if quoted and letter == '"' and value[index + 1 : index + 2] == '"':
            item, index = item + '"', index + 1
        elif letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            items.append(item)
            item = ""
        elif quoted or not letter.isspace():
            item += letter
        index += 1
    return (*items, item) if value.strip() else ()


def _facts(session: psycopg.Connection[dict[str, Any]], database: str) -> DatabaseFacts:
    facts = database_facts(session, database)
    if facts is None:
        raise SwapError(f"there is no database {database}; nothing was renamed")
    return facts


def _settings(session: psycopg.Connection[dict[str, Any]], database: str) -> Iterator[tuple[str | None, str, str]]:
    for row in query(session, "target_settings", {"database": database}):
        for setting in row["settings"]:
            name, _, value = setting.partition("=")
            yield row["role"], name, value


def _statements(
    session: psycopg.Connection[dict[str, Any]], database: str, wanted: Properties
) -> Iterator[sql.Composed]:
    name = sql.Identifier(database)
    yield sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(wanted.owner))
    yield sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(wanted.connection_limit))
    yield sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(wanted.comment))
    yield from _grants(session, database, wanted)
    for role in dict.fromkeys(role for role, _, _ in _settings(session, database)):
        yield _alter(database, role) + sql.SQL(" RESET ALL")
    for role, setting, value in wanted.settings:
        values: Sequence[str] = list_items(value) if setting in LISTS else (value,)
        items = sql.SQL(", ").join(sql.Literal(item) for item in values) if values else sql.Literal("")
        yield _alter(database, role) + sql.SQL(" SET {} TO ").format(_setting(setting)) + items


def _grants(session: psycopg.Connection[dict[str, Any]], database: str, wanted: Properties) -> Iterator[sql.Composed]:
    name = sql.Identifier(database)
    there = {json.loads(grant)[0] for grant in _facts(session, database).grants}
    for grantee in sorted(there | {None, wanted.owner}, key=str):
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(name, _grantee(grantee))
    for grant in wanted.grants:
        grantee, privilege, grantable = json.loads(grant)
        option = sql.SQL(" WITH GRANT OPTION") if grantable else sql.SQL("")
        # A privilege's name is PostgreSQL's own, from aclexplode.
        yield sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(privilege), name, _grantee(grantee)) + option


def _grantee(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _setting(name: str) -> sql.Composable:
    return sql.Identifier(*name.split("."))


def _alter(database: str, role: str | None) -> sql.Composed:
    if role is None:
        return sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database))
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), sql.Identifier(database))
