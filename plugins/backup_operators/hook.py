"""The hook: Airflow's connections as the core takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import ConnectionDefinitionError

if TYPE_CHECKING:
    from include.backup.supabase.connection import SupabaseConnection


class BackupHook(BaseHook):
    """Read connections key by key, by the same rules as the command line."""

    def spec(self, conn_id: str) -> ConnectionSpec:
        """Return a connection's fields; raises ConnectionDefinitionError when there is none."""
        try:
            found = self.get_connection(conn_id)
        except AirflowNotFoundException as error:
            raise ConnectionDefinitionError(
                f"there is no connection {conn_id}; add it under Admin > Connections, or in airflow_settings.yaml"
            ) from error
        return ConnectionSpec(
            conn_id=conn_id,
            conn_type=found.conn_type or "",
            host=found.host or None,
            schema=found.schema or None,
            login=found.login or None,
            password=Secret(found.password) if found.password else None,
            port=found.port,
            extra=found.extra_dejson,
        )

    def database(self, conn_id: str) -> DatabaseConnection:
        """Return how to reach a database; raises ConnectionDefinitionError."""
        return DatabaseConnection.from_spec(self.spec(conn_id))

    def store(self, conn_id: str) -> StoreConnection:
        """Return how to reach a store; raises ConnectionDefinitionError."""
        return StoreConnection.from_spec(self.spec(conn_id))

    def supabase(self, conn_id: str) -> SupabaseConnection:
        """Return how to reach Supabase's Management API; raises ConnectionDefinitionError."""
        from include.backup.supabase.connection import SupabaseConnection

        return SupabaseConnection.from_spec(self.spec(conn_id))

    def secrets(self, conn_ids: Iterable[str]) -> list[str]:
        """Return the passwords and private keys of these connections; one that does not exist has none."""
        found: list[str] = []
        for conn_id in conn_ids:
            try:
                spec = self.spec(conn_id)
            except ConnectionDefinitionError as error:
                self.log.warning("%s", error)
                continue
            hidden = (spec.password, spec.extra.get("private_key"))
            found.extend(str(secret) for secret in hidden if secret)
        return found
