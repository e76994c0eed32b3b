"""What a hosted project's database already has, and what the role that restores may do there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from include.backup.errors import RestoreRefusedError
from include.backup.postgres.session import Endpoint, connect, query

# Membership that allows SET ROLE has its own right since 16.
SET_SINCE = 160000


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedFacts:
    """One database. Names in ``relations`` and so on are schema.name; ``belonging`` is schema.table name."""

    role: str
    is_superuser: bool
    database: str
    settable: frozenset[str]
    grantable: frozenset[str]
    schemas: frozenset[str]
    installed: frozenset[str]
    installable: frozenset[str]
    event_triggers: frozenset[str]
    publications: frozenset[str]
    relations: frozenset[str]
    functions: frozenset[str]
    types: frozenset[str]
    belonging: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultPrivilege:
    """One privilege that new objects are granted by default."""

    schema: str
    kind: str
    grantee: str
    privilege: str
    grantable: bool


def read_facts(endpoint: Endpoint) -> HostedFacts:
    """Look at the target; raises RestoreRefusedError when rows could not be loaded past its triggers and keys."""
    with connect(endpoint, settings={}) as session:
        membership = "SET" if session.info.server_version >= SET_SINCE else "MEMBER"
        row = query(session, "hosted_target", {"membership": membership})[0]
        try:
            session.execute("SET session_replication_role = replica")
        except psycopg.errors.InsufficientPrivilege as error:
            raise RestoreRefusedError(
                f"{row['role']} may not set session_replication_role on the target, so that the rows of auth and "
                "storage cannot be loaded past their keys; use the project's role postgres, or grant SET ON PARAMETER"
            ) from error
    sets = {name: frozenset(value) for name, value in row.items() if isinstance(value, list)}
    return HostedFacts(role=row["role"], is_superuser=row["is_superuser"], database=row["database"], **sets)


def columns_of(endpoint: Endpoint, relations: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Return the columns of tables into which can be copied."""
    with connect(endpoint, settings={}) as session:
        rows = query(session, "hosted_columns", {"relations": list(relations)})
    return {row["relation"]: frozenset(row["columns"]) for row in rows}


def default_privileges(session: psycopg.Connection[dict[str, Any]]) -> tuple[DefaultPrivilege, ...]:
    """Return what this role's new objects are granted to others."""
    return tuple(DefaultPrivilege(**row) for row in query(session, "hosted_default_privileges"))
