"""What of an archive's SQL text goes to a target: missing roles, and the database's own settings by a new name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from include.backup.errors import TocError
from include.backup.manifest import Manifest
from include.backup.postgres.script import split_statements
from include.backup.postgres.toc import Toc, TocEntry
from include.backup.proof.globals import loadable_globals, superuser_statements

# Beyond ASCII anything may be in a name. The alternatives exclude each other: no text can be read in two ways.
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|(?:[A-Za-z_]|[^\x00-\x7f])(?:[A-Za-z0-9_$]|[^\x00-\x7f])*)'
_ROLE = re.compile(rf"(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) (?P<name>{_IDENTIFIER})")
_MEMBERSHIP = re.compile(rf"GRANT (?P<role>{_IDENTIFIER}) TO (?P<member>{_IDENTIFIER})\b")
_GRANTEES = re.compile(rf"\b(?:TO|FROM|FOR ROLE|AUTHORIZATION|FOR) (?P<names>{_IDENTIFIER}(?:, ?{_IDENTIFIER})*)")
_GRANTING = frozenset({"ACL", "DEFAULT ACL", "POLICY", "USER MAPPING"})
_DATABASE = re.compile(rf"CREATE DATABASE (?P<name>{_IDENTIFIER}) (?P<rest>.*)", re.DOTALL)
_TABLESPACE = re.compile(rf" TABLESPACE = {_IDENTIFIER}")
_PROPERTY = re.compile(
    rf"(?P<head>ALTER DATABASE |ALTER ROLE {_IDENTIFIER} IN DATABASE |COMMENT ON DATABASE "
    rf"|SECURITY LABEL FOR {_IDENTIFIER} ON DATABASE |(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE )"
    rf"(?P<name>{_IDENTIFIER})(?P<rest> .*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatements:
    """How to make the roles that a target lacks; ``superusers`` are those that were superusers at the source."""

    statements: tuple[str, ...]
    roles: tuple[str, ...]
    superusers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseProperties:
    """Statements for the new database, and those of the archive that cannot be given another name."""

    statements: tuple[str, ...]
    left_out: tuple[str, ...]


def missing_roles(globals_sql: str, *, existing: Collection[str], promote: bool) -> RoleStatements:
    """Return what makes the roles that are not there yet; a role that exists keeps all it has.

    Without ``promote`` no role becomes a superuser. Some objects can only belong to one, such as event triggers.
    """
    statements, roles = [], []
    for statement in split_statements(loadable_globals(globals_sql)):
        if match := _ROLE.match(statement):
            name = unquoted(match["name"])
            if name not in existing:
                statements.append(statement)
                roles.extend([name] if statement.startswith("CREATE") else [])
        elif (match := _MEMBERSHIP.match(statement)) and _is_new(match, existing):
            statements.append(statement)
    superusers = []
    for statement in superuser_statements(globals_sql):
        match = _ROLE.match(statement)
        if match and unquoted(match["name"]) in roles:
            superusers.append(unquoted(match["name"]))
            statements.extend([statement] if promote else [])
    return RoleStatements(statements=tuple(statements), roles=tuple(roles), superusers=tuple(superusers))


def required_roles(toc: Toc, manifest: Manifest) -> frozenset[str]:
    """Return the roles without which the archive does not restore: owners, and who is granted something."""
    owners = {entry.owner for entry in toc.entries if entry.owner and not _of_database(entry)}
    granted = {
        unquoted(name)
        for entry in toc.entries
        if entry.desc in _GRANTING and not _of_database(entry)
        for match in _GRANTEES.finditer(entry.definition)
        for name in re.findall(_IDENTIFIER, match["names"])
    }
    return frozenset(owners | (granted & set(manifest.dump.roles)))


def create_database_statement(toc: Toc, *, name: str) -> sql.Composed:
    """Return the archive's own CREATE DATABASE under another name, in the target's default tablespace."""
    for entry in toc.entries:
        match = _DATABASE.match(entry.definition) if entry.desc == "DATABASE" else None
        if match:
            rest = _TABLESPACE.sub("", match["rest"].strip().removesuffix(";"))
            return sql.SQL("CREATE DATABASE {} ").format(sql.Identifier(name)) + _verbatim(rest)
    raise TocError("toc.dat does not say how to make the database; make it by hand and leave --create out")


def database_properties(toc: Toc, *, source: str, name: str) -> DatabaseProperties:
    """Return the grants, comment and settings of the source's database, for a database of another name.

    A statement that does not name the source's database in the usual way is left out: run as it is, it could
    change the source.
    """
    statements, left_out = [], []
    entries = (entry for entry in toc.entries if entry.desc == "DATABASE PROPERTIES" or _of_database(entry))
    for entry in entries:
        for statement in split_statements(entry.definition):
            match = _PROPERTY.fullmatch(statement)
            if match and unquoted(match["name"]) == source and entry.desc != "DATABASE":
                statements.append(f"{match['head']}{_quoted(name)}{match['rest']}")
            elif entry.desc != "DATABASE":
                left_out.append(" ".join(statement.split()))
    return DatabaseProperties(statements=tuple(statements), left_out=tuple(left_out))


def unquoted(identifier: str) -> str:
    """Return an identifier's name.

    >>> unquoted('"Odd ""one"" "'), unquoted("plain")
    ('Odd "one" ', 'plain')
    """
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _is_new(membership: re.Match[str], existing: Collection[str]) -> bool:
    return not {unquoted(membership["role"]), unquoted(membership["member"])} <= set(existing)


def _of_database(entry: TocEntry) -> bool:
    return entry.desc.startswith("DATABASE") or entry.tag.startswith("DATABASE ")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _verbatim(text: str) -> sql.Composed:
    """Return text that pg_dump wrote, as it is; a brace in it is no placeholder."""
    return sql.SQL(text.replace("{", "{{").replace("}", "}}")).format()
