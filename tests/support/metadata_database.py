"""A PostgreSQL for Airflow's own database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.backup.postgres.server import PostgresServer, ServerSpec, runtime_dir, source_user
from include.backup.postgres.tools import find_tools
from include.local.layout import HOST
from include.local.ports import free_port_base

PASSWORD = "metadata-of-tests"


@contextmanager
def metadata_database(folder: Path) -> Iterator[dict[str, str]]:
    """Run a PostgreSQL for Airflow's own database; yield the settings that name it.

    SQLite takes no two writers: with several runs at a time "database is locked" ends the scheduler.
    """
    user, port = source_user(), free_port_base()
    folder.mkdir()
    base = runtime_dir(folder, user)
    server = PostgresServer(
        ServerSpec(
            tools=find_tools(17, server=True),
            data=base / "data",
            socket_dir=base / "s",
            superuser="airflow",
            password=PASSWORD,
            port=port,
            listen=(HOST,),
            user=user,
            settings={"fsync": "off"},
            hba=("host all all 127.0.0.1/32 scram-sha-256", "local all all scram-sha-256"),
        )
    )
    server.start()
    try:
        url = f"postgresql+psycopg2://airflow:{PASSWORD}@{HOST}:{port}/postgres"
        yield {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    finally:
        server.stop()
        if base != folder:
            shutil.rmtree(base)
