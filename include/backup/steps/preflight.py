"""preflight: refuse early, with what to do about it, whatever would make the backup fail or be partial."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import psycopg

from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    ClientTooOldError,
    PoolerError,
    RoleCannotReadError,
    RunRefusedError,
    SourceTlsError,
    StagingFullError,
    ToolMissingError,
    TornReferenceError,
)
from include.backup.partial import partial_text
from include.backup.postgres.session import connect, effective_settings, query
from include.backup.postgres.table_selection import TableSelection, select_tables
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.retention.leftovers import sweep_staging
from include.backup.steps.context import StepContext

# zstd:1 shrinks the text of a dump to about a third; a database on disk also holds indexes and free space.
STAGED_SHARE = 0.5
LONG_TRANSACTION_SECONDS = 3600.0
UNVERIFIED_TLS = frozenset({"disable", "allow", "prefer"})
SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightReport:
    """What preflight found; ``already_stored`` means that a retried run has its backup."""

    backup_id: str
    already_stored: bool
    server_version: str
    client_version: str
    tls: str
    database_bytes: int
    staging_free_bytes: int | None
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "warnings": list(self.warnings)}

    def line(self) -> str:
        staging = (
            "staging is on the worker that dumps"
            if self.staging_free_bytes is None
            else f"staging has {self.staging_free_bytes} bytes free"
        )
        state = "is stored already; it will only be verified again" if self.already_stored else "can be taken"
        return (
            f"backup {self.backup_id} {state}: server {self.server_version}, pg_dump {self.client_version}, "
            f"{self.tls}, database {self.database_bytes} bytes, {staging}"
        )


def run(ctx: StepContext, *, staged_here: bool | None = None) -> PreflightReport:
    """Check everything that can be checked before the first byte is read, and make the staging folder.

    ``staged_here`` says whether the dump is staged on this worker; without it, whether the workers share staging.
    What dead runs of this source have left there goes first, after the policy's ``keep_failed_hours``:
    ``backup_cleanup`` does not see the disks of workers of another queue.
    """
    here = ctx.source.shares_staging if staged_here is None else staged_here
    ctx.store.check_bucket()
    # The evidence asks for it once the archive is stored: who may not is to hear of it here.
    ctx.store.has_object_lock()
    already_stored = ctx.manifest_is_stored()
    refuse_stale_run(ctx, already_stored=already_stored)
    encryption = ctx.encryption
    if not already_stored:
        ctx.store.check_put(ctx.archive_key, encryption)
    if here:
        sweep_staging(ctx.staging, ctx.source, now=ctx.clock(), log=ctx.log)
        ctx.staging.make()
    with connect(ctx.database) as connection:
        check_session_is_kept(ctx, connection)
        server = query(connection, "server")[0]
        tools = tools_for(ctx, server["major"])
        tls = check_tls(ctx, connection)
        check_readable(ctx, connection)
        check_references(ctx, connection)
        selected_tables(ctx, connection)
        size = _database_bytes(connection)
        free = ctx.staging.free_bytes() if here else None
        if free is not None and free < size * STAGED_SHARE and not already_stored:
            raise StagingFullError(
                f"{ctx.staging.root} has {free} bytes free and the dump of {size} bytes may need "
                f"{int(size * STAGED_SHARE)}; free space or set BACKUP_STAGING_DIR to a larger disk"
            )
        warnings = (*_partial(ctx), *_warnings(connection))
    for warning in warnings:
        ctx.log.warning("%s", warning)
    return PreflightReport(
        backup_id=ctx.backup_id,
        already_stored=already_stored,
        server_version=server["version"],
        client_version=tools.version,
        tls=tls,
        database_bytes=size,
        staging_free_bytes=free,
        warnings=warnings,
    )


def refuse_stale_run(ctx: StepContext, *, already_stored: bool) -> None:
    """Raise RunRefusedError for a backfill, or an old run that was cleared and left nothing.

    A dump taken today under the name of last month would be a lie in the catalogue.
    """
    if already_stored:
        return
    if ctx.run.run_type == "backfill":
        raise RunRefusedError("a backfill cannot read the past; trigger a new run instead")
    age = ctx.clock() - ctx.run.run_after
    if age > timedelta(hours=ctx.source.keep_failed_hours) and ctx.run.try_number > 1:
        raise RunRefusedError(
            f"this run was due {age} ago and has no backup in the store; trigger a new run instead of clearing it"
        )


def tools_for(ctx: StepContext, server_major: int) -> PostgresTools:
    """Return client tools that can dump this server; raises ClientTooOldError."""
    try:
        return find_tools(ctx.source.postgres_major or server_major, at_least=server_major)
    except ToolMissingError as error:
        raise ClientTooOldError(
            f"the server is PostgreSQL {server_major} and no pg_dump of {server_major} or newer is installed; {error}"
        ) from error


def check_session_is_kept(ctx: StepContext, first: psycopg.Connection[dict[str, Any]]) -> None:
    """Raise PoolerError when two open sessions share a server process: a pooler in transaction mode."""
    with connect(ctx.database) as second:
        alone = _backend(first)
        with second.transaction():
            held, beside = _backend(second), _backend(first)
    if alone == held or alone != beside:
        raise PoolerError(
            f"{ctx.database.host}:{ctx.database.port} is a pooler in transaction mode, which breaks the snapshot "
            "of a dump; use the direct connection or the pooler's session mode (port 5432)"
        )


def check_tls(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]]) -> str:
    """Return how the connection is protected; raises SourceTlsError when nobody checks who answers."""
    return protection(ctx.database, connection, log=ctx.log)


def protection(
    database: DatabaseConnection, connection: psycopg.Connection[dict[str, Any]], *, log: logging.Logger
) -> str:
    """Return how a connection is protected; raises SourceTlsError when nobody checks who answers."""
    if database.host.startswith("/"):
        return "unix socket"
    if database.sslmode in UNVERIFIED_TLS:
        raise SourceTlsError(
            f"sslmode={database.sslmode} does not protect the data on its way; set sslmode=verify-full and "
            "sslrootcert in the connection's extra"
        )
    row = connection.execute("SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    version = row["version"] if row and row["version"] else "TLS up to the pooler"
    if database.sslmode == "require":
        log.warning("sslmode=require does not check who answers; use verify-full with the provider's CA")
    return f"{version} ({database.sslmode})"


def check_readable(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Raise RoleCannotReadError naming the tables that this role cannot read whole."""
    rows = query(connection, "unreadable", _left_out(ctx))
    rows = [*rows, *query(connection, "unreadable_large_objects")]
    if rows:
        shown = "; ".join(f"{row['name']}: {row['reason']}" for row in rows[:SHOWN])
        raise RoleCannotReadError(
            f"{ctx.database.user} cannot read {len(rows)} objects of {ctx.database.dbname} whole ({shown}); "
            "grant pg_read_all_data, BYPASSRLS and SELECT on large objects, or exclude them in the policy"
        )


def check_references(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Raise TornReferenceError naming what could not be restored without what the policy leaves out."""
    if rows := query(connection, "torn_references", _left_out(ctx)):
        shown = "; ".join(f"{row['name']}: {row['reason']}" for row in rows[:SHOWN])
        raise TornReferenceError(
            f"{len(rows)} objects of {ctx.database.dbname} need what the policy leaves out, so that no backup can be "
            f"restored ({shown}); leave them out too, or keep what they need"
        )


def _left_out(ctx: StepContext) -> dict[str, list[str]]:
    return {
        "excluded_schemas": list(ctx.source.excluded_schemas),
        "excluded_tables": list(ctx.source.excluded_tables),
    }


def _partial(ctx: StepContext) -> list[str]:
    text = partial_text(ctx.source.excluded_schemas, ctx.source.excluded_tables)
    return [f"this backup is {text}, as the policy says"] if text else []


def selected_tables(ctx: StepContext, connection: psycopg.Connection[dict[str, Any]]) -> TableSelection | None:
    """Return which tables' rows a backup of the kind "tables" takes; None for other kinds, which take all.

    Raises CriticalTableMissingError.
    """
    if ctx.kind != "tables":
        return None
    return select_tables(query(connection, "data_relations"), ctx.source.critical_tables)


def _warnings(connection: psycopg.Connection[dict[str, Any]]) -> list[str]:
    found = query(connection, "blockers")[0]
    warnings = []
    if found["longest_transaction_seconds"] > LONG_TRANSACTION_SECONDS:
        warnings.append(
            f"a transaction is open since {found['longest_transaction_seconds']:.0f} s; it keeps dead rows alive"
        )
    if found["prepared_transactions"]:
        warnings.append(f"{found['prepared_transactions']} prepared transactions are open; commit or roll them back")
    if found["exclusive_locks"]:
        warnings.append(f"ACCESS EXCLUSIVE locks held or waited for: {', '.join(found['exclusive_locks'][:SHOWN])}")
    wanted = {"TimeZone": "UTC", "bytea_output": "hex"}
    effective = effective_settings(connection)
    warnings.extend(
        f"the connection does not take {name}={value}; the manifest records {effective[name]}"
        for name, value in wanted.items()
        if effective[name] != value
    )
    return warnings


def _database_bytes(connection: psycopg.Connection[dict[str, Any]]) -> int:
    row = connection.execute("SELECT pg_database_size(current_database()) AS size").fetchone()
    return int(row["size"]) if row else 0


def _backend(connection: psycopg.Connection[dict[str, Any]]) -> int:
    row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
    return int(row["pid"]) if row else 0
