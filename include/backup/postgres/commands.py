"""Argv of the PostgreSQL tools. Pure functions; passwords travel in the environment only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from include.backup.postgres.session import (
    OUTPUT_SETTINGS,
    Endpoint,
    connection_string,
    options_value,
    tool_environment,
)
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command

# pg_dump learned to compress with zstd in 16; an older one writes raw members that are compressed later.
ZSTD_SINCE = 16
_NO_TIMEOUTS = MappingProxyType({"statement_timeout": "0", "lock_timeout": "0"})


def pg_dump_command(
    tools: PostgresTools,
    endpoint: Endpoint,
    *,
    target: Path,
    jobs: int,
    compression_level: int,
    lock_timeout_seconds: int,
    encoding: str,
    excluded_schemas: Iterable[str] = (),
    excluded_tables: Iterable[str] = (),
    options: Iterable[str] = (),
) -> Command:
    """Return the dump of a whole database in the directory format.

    ``--no-sync``: whoever publishes the dump makes it durable, which these tools would do file by file meanwhile.
    """
    compression = f"--compress=zstd:{compression_level}" if tools.major >= ZSTD_SINCE else "--compress=0"
    return Command(
        argv=(
            tools.path("pg_dump"),
            "--format=directory",
            f"--jobs={jobs}",
            compression,
            f"--file={target}",
            f"--lock-wait-timeout={lock_timeout_seconds}s",
            "--no-sync",
            "--no-password",
            "--verbose",
            *options,
            *(f"--exclude-schema={pattern(name)}" for name in excluded_schemas),
            *(f"--exclude-table={pattern(*name.split('.', 1))}" for name in excluded_tables),
            f"--dbname={connection_string(endpoint)}",
        ),
        environment=tool_environment(endpoint, encoding=encoding),
    )


def pg_dumpall_globals_command(
    tools: PostgresTools, endpoint: Endpoint, *, target: Path, role_passwords: bool
) -> Command:
    """Return the dump of roles, memberships and role settings; tablespaces too, for the record.

    In UTF-8, as which it is read: without, it would be in the encoding of the database that it asks.
    """
    return Command(
        argv=(
            tools.path("pg_dumpall"),
            "--globals-only",
            "--no-password",
            "--no-sync",
            *(() if role_passwords else ("--no-role-passwords",)),
            f"--file={target}",
            f"--dbname={connection_string(endpoint)}",
            f"--database={endpoint.libpq_parameters()['dbname']}",
        ),
        environment=tool_environment(endpoint, encoding="UTF8"),
    )


def pg_basebackup_command(
    tools: PostgresTools,
    endpoint: Endpoint,
    *,
    target: Path,
    label: str,
    compression_level: int,
    workers: int,
    incremental: Path | None = None,
) -> Command:
    """Return the copy of a cluster's files as tar files that the server compresses.

    No WAL: it is stored as it is streamed. The server checks the checksums of pages as it reads them. ``incremental``
    is the backup_manifest of the backup that this one builds on.
    """
    threads = f",workers={workers}" if workers else ""
    return Command(
        argv=(
            tools.path("pg_basebackup"),
            "--format=tar",
            f"--pgdata={target}",
            f"--compress=server-zstd:level={compression_level}{threads}",
            "--wal-method=none",
            "--checkpoint=fast",
            f"--label={label}",
            "--no-sync",
            "--no-password",
            "--no-estimate-size",
            "--verbose",
            *(() if incremental is None else (f"--incremental={incremental}",)),
            f"--dbname={connection_string(endpoint)}",
        ),
        environment=dict(endpoint.environment()),
    )


def pg_restore_command(
    tools: PostgresTools,
    endpoint: Endpoint,
    *,
    dump: Path,
    jobs: int,
    use_list: Path | None = None,
    options: Iterable[str] = (),
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Command:
    """Return a restore that stops at the first error; ``settings`` are those of its sessions."""
    return Command(
        argv=(
            tools.path("pg_restore"),
            "--exit-on-error",
            "--no-password",
            f"--jobs={jobs}",
            *(() if use_list is None else (f"--use-list={use_list}",)),
            *options,
            f"--dbname={connection_string(endpoint)}",
            str(dump),
        ),
        environment={**endpoint.environment(), "PGOPTIONS": options_value({**_NO_TIMEOUTS, **settings})},
    )


def pg_restore_script_command(tools: PostgresTools, *, dump: Path, use_list: Path, target: Path) -> Command:
    """Return the writing of some entries as SQL text; no server is asked."""
    return Command(
        argv=(
            tools.path("pg_restore"),
            "--no-owner",
            "--no-privileges",
            "--no-tablespaces",
            f"--use-list={use_list}",
            f"--file={target}",
            str(dump),
        )
    )


def psql_copy_command(
    tools: PostgresTools, endpoint: Endpoint, *, statement: str, settings: Mapping[str, str], encoding: str
) -> Command:
    """Return one ``COPY … TO STDOUT`` whose output is compared with what the dump read."""
    return Command(
        argv=(
            tools.path("psql"),
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--set=ON_ERROR_STOP=1",
            f"--command={statement}",
            f"--dbname={connection_string(endpoint)}",
        ),
        environment=tool_environment(endpoint, settings={**OUTPUT_SETTINGS, **settings}, encoding=encoding),
    )


def psql_file_command(tools: PostgresTools, endpoint: Endpoint, *, script: Path, stop: bool = True) -> Command:
    """Return the run of a script, such as the roles of globals.sql."""
    return Command(
        argv=(
            tools.path("psql"),
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            f"--set=ON_ERROR_STOP={int(stop)}",
            f"--file={script}",
            f"--dbname={connection_string(endpoint)}",
        ),
        environment=dict(endpoint.environment()),
    )


def pattern(*names: str) -> str:
    """Return names as a pg_dump pattern that matches exactly them.

    >>> pattern("public", "Odd.Name")
    '"public"."Odd.Name"'
    """
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
