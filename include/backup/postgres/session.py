"""Sessions whose text output is the same on every server, and connection errors by name.

pg_dump does not fix TimeZone and bytea_output: an ALTER DATABASE or ALTER ROLE … SET would change the text of
the dump, and then no comparison with a restored copy could hold. See docs/adr/0003-proof.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from include.backup.errors import (
    PoolerError,
    SourceError,
    SourceLoginError,
    SourceTlsError,
    SourceUnreachableError,
)

OUTPUT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "TimeZone": "UTC",
        "bytea_output": "hex",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": "3",
        "lc_monetary": "C",
        "search_path": "",
        "row_security": "off",
        "synchronize_seqscans": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
    }
)
TRANSACTION_TIMEOUT_SINCE = 17
# Those that change the bytes of COPY; the manifest records what was in force.
TEXT_SETTINGS = (
    "TimeZone",
    "bytea_output",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "lc_monetary",
)
_SQL = Path(__file__).resolve().parents[2] / "sql" / "catalog"


def output_settings(major: int) -> Mapping[str, str]:
    """Return the output settings for a server of a version that is known: the newer ones have one timeout more.

    A restored database has its ALTER DATABASE … SET again, which no reading of all its rows may obey.
    """
    if major < TRANSACTION_TIMEOUT_SINCE:
        return OUTPUT_SETTINGS
    return {**OUTPUT_SETTINGS, "transaction_timeout": "0"}


class Endpoint(Protocol):
    """A database that libpq can connect to."""

    def libpq_parameters(self) -> Mapping[str, str]:
        """Return keywords without the password."""

    def environment(self) -> Mapping[str, str]:
        """Return what the tools need in their environment: the password."""


def options_value(settings: Mapping[str, str]) -> str:
    r"""Return settings as libpq's ``options`` wants them.

    >>> options_value({"TimeZone": "UTC", "search_path": ""})
    '-c TimeZone=UTC -c search_path='
    """
    return " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())


def connection_string(endpoint: Endpoint) -> str:
    """Return a conninfo string without the password, fit for argv and logs."""
    return make_conninfo("", **endpoint.libpq_parameters())


def tool_environment(
    endpoint: Endpoint, *, settings: Mapping[str, str] = OUTPUT_SETTINGS, encoding: str | None = None
) -> dict[str, str]:
    """Return the environment in which a PostgreSQL tool reads text that can be compared."""
    client_encoding = {"PGCLIENTENCODING": encoding} if encoding else {}
    return {**endpoint.environment(), "PGOPTIONS": options_value(settings), **client_encoding}


def connect(
    endpoint: Endpoint, *, settings: Mapping[str, str] = OUTPUT_SETTINGS, **overrides: Any
) -> psycopg.Connection[dict[str, Any]]:
    """Open a session in autocommit with the output settings.

    Raises SourceUnreachableError, SourceLoginError, SourceTlsError or PoolerError, each saying what to do.
    """
    parameters = {**endpoint.libpq_parameters(), **overrides}
    try:
        return psycopg.connect(
            "",
            **parameters,
            password=endpoint.environment().get("PGPASSWORD"),
            options=options_value(settings),
            autocommit=True,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as error:
        raise named_error(error, parameters) from error


def query(
    connection: psycopg.Connection[dict[str, Any]], name: str, parameters: Mapping[str, Any] | None = None
) -> Sequence[dict[str, Any]]:
    """Run include/sql/catalog/<name>.sql and return its rows."""
    statement = (_SQL / f"{name}.sql").read_bytes()
    return connection.execute(statement, parameters).fetchall()


def effective_settings(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, str]:
    """Return the settings in force that decide the text of COPY."""
    return {
        name: str(connection.execute("SELECT current_setting(%s) AS value", (name,)).fetchall()[0]["value"])
        for name in TEXT_SETTINGS
    }


_CAUSES: tuple[tuple[re.Pattern[str], type[SourceError], str], ...] = (
    (
        re.compile(r"unsupported startup parameter|no such database: .*pgbouncer|GSSAPI negotiation", re.IGNORECASE),
        PoolerError,
        "this is a pooler that keeps no session; use the direct connection or session mode (port 5432)",
    ),
    (
        re.compile(r"certificate|SSL|TLS", re.IGNORECASE),
        SourceTlsError,
        "check sslmode and sslrootcert of the connection, and the date of the server's certificate",
    ),
    (
        re.compile(
            r"password|authentication|pg_hba|not permitted to log in|(?:role|database) .* does not exist|Tenant or user"
        ),
        SourceLoginError,
        "correct user, password or database name in the connection",
    ),
)


def named_error(error: Exception, parameters: Mapping[str, Any]) -> SourceError:
    """Return the named error for a failed connection; libpq's messages hold no password."""
    where = f"{parameters.get('host')}:{parameters.get('port')}/{parameters.get('dbname')}"
    text = " ".join(str(error).split())
    for pattern, kind, advice in _CAUSES:
        if pattern.search(text):
            return kind(f"cannot connect to {where}: {text}; {advice}")
    return SourceUnreachableError(
        f"cannot reach {where}: {text}; check host, port and network (Supabase's direct host is IPv6 only)"
    )


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
