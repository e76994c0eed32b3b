"""What of a Supabase project is the provider's own, by name. From Supabase's CLI and image, and its documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

# Made and migrated by Supabase; a role of the customer's makes nothing in them but triggers and policies.
MANAGED_SCHEMAS = frozenset(
    {
        "_analytics", "_realtime", "_supavisor", "auth", "cron", "dbdev", "etl", "extensions", "graphql",
        "graphql_public", "net", "pgbouncer", "pgmq", "pgsodium", "pgsodium_masks", "pgtle", "realtime", "storage",
        "supabase_functions", "vault",
    }
)  # fmt: skip
# Whose rows are the customer's.
ROWS_OF = frozenset({"auth", "storage"})
# Which migrations Supabase has run in this project; those of another one would make it run them again, or not at all.
MIGRATIONS = frozenset({"auth.schema_migrations", "storage.migrations"})
CRON_JOBS = "cron.job"
_RESERVED_ROLE = re.compile(
    r"anon|authenticated|authenticator|dashboard_user|pgbouncer|postgres|service_role|supabase_\w+|pgsodium_\w+"
    r"|pgtle_admin|cli_login_\w+|pg_\w+"
)
WHY_ROWS_STAY: Mapping[str, str] = MappingProxyType(
    {
        "vault": "secrets are encrypted with the project's root key, which no dump has; enter them anew, or carry the "
        "key over first (Management API, …/pgsodium)",
        "pgsodium": "keys are derived from the project's root key, which no dump has; carry it over first "
        "(Management API, …/pgsodium)",
        "supabase_functions": "a log of webhook calls and of Supabase's own migrations; the new project keeps its own",
        "net": "requests that waited and their answers; they are not sent a second time",
        "cron": "jobs are scheduled when the copy is released; the record of past runs stays in the archive",
        "pgmq": "queues belong to an extension; make them with pgmq.create() and load their rows by hand",
    }
)
ITS_OWN = "Supabase's own state; the new project has its own"


def is_managed(schema: str) -> bool:
    """Say whether a schema is the provider's."""
    return schema in MANAGED_SCHEMAS


def is_reserved_role(name: str) -> bool:
    """Say whether a role is the provider's or PostgreSQL's: it is there, and stays as it is.

    >>> is_reserved_role("supabase_auth_admin"), is_reserved_role("reporting")
    (True, False)
    """
    return _RESERVED_ROLE.fullmatch(name) is not None


def why_rows_stay(schema: str) -> str:
    """Return why rows of a managed schema are not carried over, and what to do."""
    return WHY_ROWS_STAY.get(schema, ITS_OWN)
