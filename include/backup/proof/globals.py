"""Roles of an archive: what a scratch server can take of globals.sql, and whether it has them afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TABLESPACE = re.compile(r"^(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE ")
_GRANTED_BY = re.compile(r' GRANTED BY (?:"(?:[^"]|"")*"|[^\s";]+);$')
_ALTER_ROLE = re.compile(r'^ALTER ROLE (?P<role>"(?:[^"]|"")*"|\S+) WITH (?P<options>.*);$')
_STATEMENT = re.compile(r"^(?:CREATE ROLE|ALTER ROLE|GRANT|COMMENT ON ROLE) ")
NOT_CARRIED = "tablespaces, grantors of role memberships and owners of extension members (a scratch server has its own)"


def loadable_globals(text: str) -> str:
    """Return globals.sql for a scratch server: no tablespaces, no grantors, and no superusers yet.

    The restore runs the source users' code (checks, index expressions), so no restored role may be a superuser
    while it does; ``superuser_statements`` gives them back.
    """
    return "\n".join(_loadable(line) for line in text.splitlines() if not _TABLESPACE.match(line)) + "\n"


def superuser_statements(text: str) -> tuple[str, ...]:
    """Return the statements that make the source's superusers superusers again."""
    return tuple(
        f"ALTER ROLE {match['role']} SUPERUSER"
        for match in map(_ALTER_ROLE.match, text.splitlines())
        if match and " SUPERUSER" in f" {match['options']}"
    )


def role_statements(text: str, *, without: Iterable[str] = ()) -> frozenset[str]:
    """Return the statements on roles that two clusters must share, but those that name a role in ``without``."""
    ignored = tuple(without)
    statements = (_GRANTED_BY.sub(";", line) for line in text.splitlines() if _STATEMENT.match(line))
    return frozenset(
        statement
        for statement in statements
        if not _TABLESPACE.match(statement) and not any(name in statement for name in ignored)
    )


def _loadable(line: str) -> str:
    match = _ALTER_ROLE.match(line)
    if match:
        options = match["options"].split(" PASSWORD ", 1)
        options[0] = " ".join("NOSUPERUSER" if word == "SUPERUSER" else word for word in options[0].split(" "))
        return f"ALTER ROLE {match['role']} WITH {' PASSWORD '.join(options)};"
    return _GRANTED_BY.sub(";", line)
