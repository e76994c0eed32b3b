"""Physical replication: whether a source allows it to this role, and what the cluster says it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from include.backup.connections import DatabaseConnection
from include.backup.errors import ReplicationRefusedError
from include.backup.postgres.session import named_error

# Supabase's hosted projects: the provider keeps physical replication to itself.
HOSTED_SUPABASE = (".supabase.co", ".supabase.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What IDENTIFY_SYSTEM says."""

    system_identifier: str
    timeline: int
    lsn: str


def is_hosted_supabase(connection: DatabaseConnection) -> bool:
    """Tell whether a host is one of Supabase's own."""
    return connection.host.endswith(HOSTED_SUPABASE)


def check_may_replicate(connection: DatabaseConnection, server: dict[str, Any]) -> None:
    """Raise ReplicationRefusedError, with what to do, unless base backups and WAL can be had; ``server`` is what
    base_server.sql says."""
    if is_hosted_supabase(connection):
        raise ReplicationRefusedError(
            f"{connection.host} is a hosted Supabase project, which allows no physical replication: base backups and "
            "WAL are impossible there; turn on its own point-in-time recovery, which is watched through its "
            "Management API, and remove base_backup from the policy"
        )
    if server["in_recovery"]:
        raise ReplicationRefusedError(
            f"{connection.host}:{connection.port} is a standby; take base backups from the primary"
        )
    if server["wal_level"] == "minimal":
        raise ReplicationRefusedError(
            "the source has wal_level=minimal, which leaves out what a recovery needs; set wal_level=replica and "
            "restart it"
        )
    if not server["max_wal_senders"]:
        raise ReplicationRefusedError("the source has max_wal_senders=0; set it to 10 and restart it")
    if not server["may_replicate"]:
        raise ReplicationRefusedError(
            f"the role {connection.user} may not replicate; run ALTER ROLE {connection.user} REPLICATION on the source"
        )


def identify(connection: DatabaseConnection) -> Cluster:
    """Return what the cluster is, asked over a replication connection.

    Raises ReplicationRefusedError when pg_hba.conf or the role allows none.
    """
    parameters: dict[str, Any] = {**connection.libpq_parameters(), "replication": "true"}
    try:
        with psycopg.connect(
            "", **parameters, password=connection.environment().get("PGPASSWORD"), autocommit=True
        ) as session:
            row = session.execute("IDENTIFY_SYSTEM").fetchone()
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        if "replication" in text or "walsender" in text:
            raise ReplicationRefusedError(
                f"the source refuses a replication connection of {connection.user}: {text}; give the role REPLICATION, "
                "add a line for the database 'replication' to pg_hba.conf, and look at max_wal_senders"
            ) from error
        raise named_error(error, parameters) from error
    if row is None:
        raise ReplicationRefusedError("the source does not say which cluster it is; report this server")
    system, timeline, lsn = row[0], row[1], row[2]
    return Cluster(
        system_identifier=system.decode() if isinstance(system, bytes) else str(system),
        timeline=int(timeline),
        lsn=lsn.decode() if isinstance(lsn, bytes) else str(lsn),
    )
