"""Load the sample into an empty database, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.errors import BackupError
from include.local.sample.amounts import DEFAULT_SEED, SampleAmounts, sample_amounts
from include.local.sample.summary import SampleSummary, loaded_size_and_seed, summarise_sample

SQL_FOLDER = Path(__file__).parent / "sql"
MESSAGES_FILE = "41_messages.sql"
BACKUP_ROLE = "pulse_backup"
MESSAGES_PER_SLICE = 50_000
OLDEST_SERVER = 150000

# The text of a literal must mean the same whatever the server's, the database's or the role's settings are.
SESSION_SETTINGS = {
    "search_path": "public, extensions, pg_catalog",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronize_seqscans": "off",
    "row_security": "on",
    "jit": "off",
    "work_mem": "128MB",
    "maintenance_work_mem": "256MB",
}

Progress = Callable[[str], None]


class SampleError(BackupError):
    """Raised when the sample cannot be loaded; names the database and what to do."""


def load_sample(
    conninfo: str,
    *,
    size_mb: int = 100,
    seed: int = DEFAULT_SEED,
    backup_password: str | None = None,
    on_progress: Progress | None = None,
) -> SampleSummary:
    """Load the sample into the empty database that a superuser's `conninfo` names, or return what is there.

    All happens in one transaction: after a crash the database is as empty as before. A database that holds the sample
    with this size and seed is left alone; any other content is refused. `backup_password` is set for the role
    pulse_backup in both cases; without it the role keeps the password it has, or has none.
    """
    if size_mb < 1:
        raise SampleError(
            f"A sample of {size_mb} MB cannot be made; ask for 1 MB or more (20 MB is the least there is)."
        )
    say: Progress = on_progress or (lambda line: None)
    started = time.monotonic()
    with psycopg.connect(conninfo) as connection:
        found = loaded_size_and_seed(connection)
        if found is None:
            _refuse_unsuitable(connection)
            _load(connection, sample_amounts(size_mb), seed=seed, say=say)
        elif found != (size_mb, seed):
            raise SampleError(
                f"Database {connection.info.dbname} holds the sample with size {found[0]} MB and seed {found[1]}, not "
                f"{size_mb} MB and {seed}. Load it with --replace to drop it and start anew."
            )
        if backup_password is not None:
            _set_backup_password(connection, backup_password)
        connection.commit()
        connection.autocommit = True
        if found is None:
            say("Vacuum and analyze")
            connection.execute("SET synchronous_commit = off")
            connection.execute("VACUUM (ANALYZE)")
        return summarise_sample(connection, seconds=time.monotonic() - started if found is None else 0.0)


def replace_database(conninfo: str) -> None:
    """Drop the database that `conninfo` names, with all it holds, and create it anew, empty."""
    name = psycopg.conninfo.conninfo_to_dict(conninfo).get("dbname")
    if not isinstance(name, str) or name in {"postgres", "template0", "template1"}:
        raise SampleError(f"Refusing to replace the database {name!r}: name the sample's database in the DSN.")
    elsewhere = psycopg.conninfo.make_conninfo(conninfo, dbname="postgres")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        database = sql.Identifier(name)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(database))


def _load(connection: psycopg.Connection, amounts: SampleAmounts, *, seed: int, say: Progress) -> None:
    for name, value in SESSION_SETTINGS.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
    for name, value in asdict(amounts).items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (f"sample.{name}", str(value)))
    for path in sorted(SQL_FOLDER.glob("*.sql")):
        if path.name == MESSAGES_FILE:
            _load_messages(connection, path, amounts.messages, say)
        else:
            say(path.stem[3:].replace("_", " ").capitalize())
            _run_file(connection, path, seed=seed)


def _load_messages(connection: psycopg.Connection, path: Path, messages: int, say: Progress) -> None:
    for first in range(1, messages + 1, MESSAGES_PER_SLICE):
        last = min(first + MESSAGES_PER_SLICE - 1, messages)
        connection.execute(
            "SELECT pg_catalog.set_config('sample.first', %s, true), pg_catalog.set_config('sample.last', %s, true)",
            (str(first), str(last)),
        )
        _run_file(connection, path)
        say(f"Messages: {last:,} of {messages:,}")


def _run_file(connection: psycopg.Connection, path: Path, *, seed: int = 0) -> None:
    # Only the generators take the seed, an integer; everything else reads it through them.
    script = path.read_text(encoding="utf-8").replace("{seed}", str(int(seed)))
    try:
        connection.execute(script.encode())
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = script.count("\n", 0, int(position)) + 1 if position else "?"
        raise SampleError(
            f"{path.name}, line {line}: {error.diag.message_primary or error} ({error.diag.context or 'no context'}). "
            f"Nothing was loaded into {connection.info.dbname}."
        ) from error


def _refuse_unsuitable(connection: psycopg.Connection) -> None:
    name = connection.info.dbname
    if connection.info.server_version < OLDEST_SERVER:
        raise SampleError(
            f"{name}: the sample needs PostgreSQL 15 or later, the server is {connection.info.server_version}."
        )
    row = connection.execute(
        """
        SELECT r.rolsuper, pg_catalog.getdatabaseencoding(),
               (SELECT count(*)
                FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast'))
        FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user
        """
    ).fetchone()
    is_superuser, encoding, relations = row if row else (False, "unknown", 0)
    if not is_superuser:
        raise SampleError(f"{name}: only a superuser can load the sample, {connection.info.user} is none.")
    if encoding != "UTF8":
        raise SampleError(f"{name} has the encoding {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0.")
    if relations:
        raise SampleError(f"{name} is not empty ({relations} relations); give an empty database, or use --replace.")


def _set_backup_password(connection: psycopg.Connection, password: str) -> None:
    # Hashed here, so that the server's log cannot hold it in clear.
    verifier = connection.pgconn.encrypt_password(password.encode(), BACKUP_ROLE.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(BACKUP_ROLE), sql.Literal(verifier.decode()))
    )
