"""Statements that a role of the customer's runs one by one in a hosted project, and what it was refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from include.backup.hosted.facts import DefaultPrivilege, default_privileges
from include.backup.hosted.provider import is_reserved_role
from include.backup.hosted.scope import LeftOut
from include.backup.postgres.script import split_statements
from include.backup.postgres.toc import TocEntry
from include.backup.restore.statements import RoleStatements

Session = psycopg.Connection[dict[str, Any]]
_ROLE_OPTIONS = re.compile(
    r"(?P<head>ALTER ROLE (?:\"(?:[^\"]|\"\")*\"|\S+) WITH )(?P<words>[A-Z ]+?)"
    r"(?P<rest> (?:CONNECTION|PASSWORD|VALID) .*)?$",
    re.DOTALL,
)
# Only a superuser may say these of a role, even where they are what a new role is anyway.
_NOT_TO_BE_SAID = frozenset({"SUPERUSER", "NOSUPERUSER", "NOREPLICATION", "NOBYPASSRLS"})
_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS"}


def role_statements(roles: RoleStatements) -> Iterator[str]:
    """Yield the statements that make missing roles, as an ordinary role may run them; none on the provider's."""
    for statement in roles.statements:
        match = _ROLE_OPTIONS.fullmatch(statement)
        if match is None:
            yield statement
            continue
        words = [word for word in match["words"].split() if word not in _NOT_TO_BE_SAID]
        if words or match["rest"]:
            yield f"{match['head']}{' '.join(words)}{match['rest'] or ''}"


def make_roles(session: Session, roles: RoleStatements) -> tuple[LeftOut, ...]:
    """Make the missing roles and let this role act as them; return what was refused beside making them."""
    refused = []
    for statement in role_statements(roles):
        name = _named_role(statement)
        if name is not None and is_reserved_role(name):
            continue
        if error := _tried(session, statement):
            if statement.startswith("CREATE ROLE"):
                raise error
            refused.append(LeftOut(what=f"of a role: {_without_password(statement)}", why=_said(error)))
    for name in roles.roles:
        # Who makes a role may grant it, and must be a member to give objects to it.
        grant = sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)).as_string(session)
        if error := _tried(session, grant):
            refused.append(LeftOut(what=f"objects of the role {name}", why=_said(error)))
    return tuple(refused)


def leave_roles(session: Session, roles: RoleStatements) -> None:
    """Take back the membership that only the restore needed."""
    for name in roles.roles:
        _tried(session, sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(name)).as_string(session))


def run_single(session: Session, entries: Iterable[TocEntry]) -> tuple[LeftOut, ...]:
    """Run the statements of entries, each entry on its own; return what this role was refused, with the reason."""
    refused = []
    for entry in entries:
        # Grants of others than the owner: a superuser takes their identity, an ordinary role their role.
        text = (
            entry.definition.replace("SET SESSION AUTHORIZATION ", "SET ROLE ").replace(
                "RESET SESSION AUTHORIZATION", "RESET ROLE"
            )
            if entry.desc in {"ACL", "DEFAULT ACL"}
            else entry.definition
        )
        statements = list(split_statements(text)) if entry.desc in {"ACL", "DEFAULT ACL"} else [text]
        error = next((found for found in (_tried(session, statement) for statement in statements) if found), None)
        session.execute("RESET ROLE")
        if error is not None:
            name = f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
            refused.append(LeftOut(what=f"{entry.desc} {' '.join(name.split())}", why=_said(error)))
    return tuple(refused)


class DefaultPrivileges:
    """Takes away what new objects are granted by default while the archive's own grants are the only ones wanted.

    Supabase grants everything on new objects to anon and authenticated: a table whose grants were taken from them at
    the source would be open to everybody after the restore.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._before = default_privileges(session)

    def take_away(self) -> None:
        for statement in _default_statements(self._before, give=False):
            self._session.execute(statement)

    def give_back(self, *, but_not_in: Iterable[str] = ()) -> None:
        """Grant what was there, but in schemas for which the archive says it all."""
        told = frozenset(but_not_in)
        kept = [privilege for privilege in self._before if privilege.schema not in told]
        for statement in _default_statements(kept, give=True):
            self._session.execute(statement)


def _default_statements(privileges: Sequence[DefaultPrivilege], *, give: bool) -> Iterator[sql.Composed]:
    for item in privileges:
        where = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(item.schema)) if item.schema else sql.SQL("")
        who = sql.Identifier(item.grantee) if item.grantee else sql.SQL("PUBLIC")
        action = sql.SQL("GRANT {} ON {} TO {}" if give else "REVOKE {} ON {} FROM {}").format(
            sql.SQL(item.privilege), sql.SQL(_KINDS[item.kind]), who
        )
        option = sql.SQL(" WITH GRANT OPTION" if give and item.grantable else "")
        yield sql.SQL("ALTER DEFAULT PRIVILEGES{} {}{}").format(where, action, option)


def _tried(session: Session, statement: str) -> psycopg.Error | None:
    try:
        session.execute(statement.encode())
    except psycopg.Error as error:
        return error
    return None


def _named_role(statement: str) -> str | None:
    match = re.match(r"(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) (\"(?:[^\"]|\"\")*\"|[^\s;]+)", statement)
    if match is None:
        return None
    return match[1][1:-1].replace('""', '"') if match[1].startswith('"') else match[1]


def _without_password(statement: str) -> str:
    return statement.partition(" PASSWORD ")[0]


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
