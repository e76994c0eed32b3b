"""Connections: how to reach a database or a store, from Airflow's definition of it or from the environment.

Extras are read key by key, and an unknown one is refused: whoever may edit a connection must not be able to
add options to a command or to a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.errors import ConnectionDefinitionError
from include.backup.http_address import http_address
from include.backup.settings import load_settings

_DATABASE_EXTRAS = ("sslmode", "sslrootcert")
_STORE_EXTRAS = ("endpoint_url", "region_name", "verify")
DEFAULT_SSL_MODE = "verify-full"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
POSTGRES_PORT = 5432
# A dump of a big table is silent for long on some connections; NAT gateways forget those after minutes.
_KEEPALIVES = {"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConnection:
    """How to reach a PostgreSQL database."""

    host: str
    port: int
    dbname: str
    user: str
    password: Secret | None = field(default=None, repr=False)
    sslmode: str = DEFAULT_SSL_MODE
    sslrootcert: str | None = None
    application_name: str = "pulse_backup"

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection; raises ConnectionDefinitionError."""
        spec.require("postgres", extras=_DATABASE_EXTRAS)
        for name, value in (("host", spec.host), ("schema (the database)", spec.schema), ("login", spec.login)):
            if not value:
                raise bad_connection(spec.conn_id, f"has no {name}; set it")
        sslmode = spec.text("sslmode") or DEFAULT_SSL_MODE
        if sslmode not in _SSL_MODES:
            raise bad_connection(spec.conn_id, f"has sslmode {sslmode!r}; allowed: {', '.join(_SSL_MODES)}")
        return cls(
            host=spec.host or "",
            port=spec.port or POSTGRES_PORT,
            dbname=spec.schema or "",
            user=spec.login or "",
            password=spec.password,
            sslmode=sslmode,
            sslrootcert=spec.text("sslrootcert"),
        )

    def libpq_parameters(self) -> dict[str, str]:
        """Return libpq's keywords without the password: fit for argv and logs."""
        certificate = {"sslrootcert": self.sslrootcert} if self.sslrootcert else {}
        return {
            "host": self.host,
            "port": str(self.port),
            "dbname": self.dbname,
            "user": self.user,
            "sslmode": self.sslmode,
            **certificate,
            "application_name": self.application_name,
            "connect_timeout": "10",
            **_KEEPALIVES,
        }

    def environment(self) -> dict[str, str]:
        """Return what a PostgreSQL tool needs in its environment: the password, and no files of a home."""
        password = {} if self.password is None else {"PGPASSWORD": str(self.password)}
        return {**password, "PGPASSFILE": "/dev/null", "PGSERVICEFILE": "/dev/null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConnection:
    """How to reach an S3 API. Without keys, the machine's own role is used."""

    region: str
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: Secret | None = field(default=None, repr=False)
    ca_bundle: str | None = None

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection; raises ConnectionDefinitionError."""
        spec.require("aws", extras=_STORE_EXTRAS)
        region = spec.text("region_name")
        if not region:
            raise bad_connection(spec.conn_id, "has no region_name in its extra; set it, e.g. us-east-1")
        if bool(spec.login) != bool(spec.password):
            raise bad_connection(spec.conn_id, "needs both login (access key) and password (secret key), or neither")
        endpoint = spec.text("endpoint_url")
        if endpoint is not None:
            http_address(spec.conn_id, endpoint, what="an endpoint_url")
        return cls(
            region=region,
            endpoint_url=endpoint,
            access_key=spec.login,
            secret_key=spec.password,
            ca_bundle=spec.text("verify"),
        )


def resolve_connection(conn_id: str, *, environ: Mapping[str, str], settings: Path) -> ConnectionSpec:
    """Return a connection from AIRFLOW_CONN_<ID>, or else from a settings file; works without Airflow.

    Raises ConnectionDefinitionError when neither has it. Only that connection's ``${NAME}`` are needed.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if environ.get(variable):
        return ConnectionSpec.from_text(conn_id, environ[variable])
    for spec in load_settings(settings, environ, only={conn_id}).connections:
        return spec
    raise ConnectionDefinitionError(
        f"there is no connection {conn_id}; set {variable} (URI or JSON) or add it to {settings.name}"
    )
