"""Roles of an archive: what a scratch server can take of globals.sql, and whether it has them afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from include.backup.postgres.script import split_statements
from include.backup.proof.masking import without_values
from include.backup.proof.record import Difference

_TABLESPACE = re.compile(r"(?:CREATE|ALTER|COMMENT ON|GRANT .* ON|REVOKE .* ON) TABLESPACE ")
_GRANTED_BY = re.compile(r' GRANTED BY (?:"(?:[^"]|"")*"|[^\s";]+)$')
_ALTER_ROLE = re.compile(r'ALTER ROLE (?P<role>"(?:[^"]|"")*"|\S+) WITH (?P<options>.*)$', re.DOTALL)
_STATEMENT = re.compile(r"(?:CREATE ROLE|ALTER ROLE|GRANT|COMMENT ON ROLE) ")
_MEMBERSHIP = re.compile(r"GRANT (?P<role>pg_\w+) TO ")
_PARAMETER = re.compile(r"GRANT [^\"']* ON PARAMETER ")
# PostgreSQL's own roles that reach no file, no program and no other session; all others are kept back.
HARMLESS_ROLES = frozenset(
    {
        "pg_maintain",
        "pg_monitor",
        "pg_read_all_data",
        "pg_read_all_settings",
        "pg_read_all_stats",
        "pg_stat_scan_tables",
        "pg_write_all_data",
    }
)
NOT_CARRIED = "tablespaces, grantors of role memberships and owners of extension members (a scratch server has its own)"


def loadable_globals(text: str) -> str:
    """Return globals.sql for another server: no tablespaces, no grantors, and no superusers.

    ``superuser_statements`` says which roles were superusers.
    """
    return _script(_loadable(statement, {"SUPERUSER"}) for statement in _statements(text))


def guarded_globals(text: str) -> str:
    """Return what ``loadable_globals`` does, and also no role that could become more than it is.

    The restore runs the source users' code (checks, index expressions) as a member of every role. None may make
    roles, or reach files and programs through one of PostgreSQL's own; ``released_statements`` gives that back.
    """
    return _script(
        _loadable(statement, {"SUPERUSER", "CREATEROLE"})
        for statement in _statements(text)
        if not _is_kept_back(statement)
    )


def released_statements(text: str) -> tuple[str, ...]:
    """Return the statements that give roles what ``guarded_globals`` kept back."""
    options = (
        f"ALTER ROLE {match['role']} {' '.join(kept)}"
        for match in map(_ALTER_ROLE.match, _statements(text))
        if match and (kept := [word for word in _words(match) if word in {"SUPERUSER", "CREATEROLE"}])
    )
    held = (_GRANTED_BY.sub("", statement) for statement in _statements(text) if _is_kept_back(statement))
    return (*options, *held)


def superuser_statements(text: str) -> tuple[str, ...]:
    """Return the statements that make the source's superusers superusers again."""
    return tuple(
        f"ALTER ROLE {match['role']} SUPERUSER"
        for match in map(_ALTER_ROLE.match, _statements(text))
        if match and "SUPERUSER" in _words(match)
    )


def compare_roles(archived: str, restored: str, *, without: Iterable[str]) -> Iterator[Difference]:
    """Yield the statements on roles that only one of two globals.sql has, but no value in them.

    Those of ``restored`` that name a role in ``without`` do not count.
    """
    wanted, found = role_statements(archived), role_statements(restored, without=without)
    for statement in sorted(wanted - found):
        yield Difference(what="ROLE", name=without_values(statement), detail="is not so after the restore")
    for statement in sorted(found - wanted):
        detail = "is so after the restore but not in the archive"
        yield Difference(what="ROLE", name=without_values(statement), detail=detail)


def role_statements(text: str, *, without: Iterable[str] = ()) -> frozenset[str]:
    """Return the statements on roles that two clusters must share, but those that name a role in ``without``."""
    ignored = tuple(without)
    ours = (_GRANTED_BY.sub("", statement) for statement in _statements(text) if _STATEMENT.match(statement))
    return frozenset(statement for statement in ours if not any(name in statement for name in ignored))


def _statements(text: str) -> Iterator[str]:
    return (statement for statement in split_statements(text) if not _TABLESPACE.match(statement))


def _script(statements: Iterable[str]) -> str:
    return "".join(f"{statement};\n" for statement in statements)


def _is_kept_back(statement: str) -> bool:
    membership = _MEMBERSHIP.match(statement)
    if membership is not None:
        return membership["role"] not in HARMLESS_ROLES
    return _PARAMETER.match(statement) is not None


def _words(alter_role: re.Match[str]) -> list[str]:
    """Return the options before the password, which is the last but VALID UNTIL."""
    return alter_role["options"].split(" PASSWORD ", 1)[0].split(" ")


def _loadable(statement: str, refused: set[str]) -> str:
    match = _ALTER_ROLE.match(statement)
    if match is None:
        return _GRANTED_BY.sub("", statement)
    words = " ".join(f"NO{word}" if word in refused else word for word in _words(match))
    _, password, rest = match["options"].partition(" PASSWORD ")
    return f"ALTER ROLE {match['role']} WITH {words}{password}{rest}"
