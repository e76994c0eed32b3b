"""PostgreSQL 15 with the sample database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.tools import find_tools
from include.local.sample import load_sample

SUPERUSER = "supabase_admin"
PASSWORD = "test-superuser"
BACKUP_PASSWORD = "test-backup"


@contextmanager
def source15_server(folder: Path, *, sample_mb: int) -> Iterator[DatabaseConnection]:
    """Run PostgreSQL 15 with the sample database; it dies with this process."""
    user = source_user()
    folder.mkdir(parents=True, exist_ok=True)
    base = runtime_dir(folder, user)
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(15),
            data=base / "data",
            socket_dir=base / "s",
            superuser=SUPERUSER,
            password=PASSWORD,
            user=user,
            settings={"fsync": "off", "wal_level": "logical", "max_slot_wal_keep_size": "4GB"},
        )
    )
    server.start()
    try:
        login = f"host={base / 's'} user={SUPERUSER} password={PASSWORD}"
        with psycopg.connect(f"{login} dbname=template1", autocommit=True) as connection:
            connection.execute("CREATE DATABASE pulse_messages")
        load_sample(f"{login} dbname=pulse_messages", size_mb=sample_mb, backup_password=BACKUP_PASSWORD)
        yield DatabaseConnection(
            host=str(base / "s"),
            port=5432,
            dbname="pulse_messages",
            user="pulse_backup",
            password=Secret(BACKUP_PASSWORD),
            sslmode="disable",
        )
    finally:
        server.stop()
