"""One hosted project, as the Management API shows it and as far as it can be told to recover itself."""

from __future__ import annotations

from datetime import datetime, time
from types import TracebackType
from typing import Self

from include.backup.errors import ParameterError
from include.backup.supabase.connection import SupabaseConnection
from include.backup.supabase.records import (
    DiskUse,
    PitrWindow,
    ProjectBackups,
    ProjectFacts,
    ServiceHealth,
    read_backups,
    read_disk_use,
    read_health,
    read_project,
    read_schedule,
)
from include.backup.supabase.transport import DEADLINE_SECONDS, Transport

SERVICES = ("auth", "db", "pooler", "realtime", "rest", "storage")


class SupabaseProject:
    """A project by its reference. Every method is one request; a context closes the connection."""

    def __init__(self, transport: Transport, ref: str) -> None:
        self._transport = transport
        self.ref = ref
        self._path = f"/v1/projects/{ref}"

    @classmethod
    def open(cls, connection: SupabaseConnection, ref: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> Self:
        """Return a project; nothing is asked yet. Each request may take ``deadline_seconds`` with all its retries."""
        return cls(Transport(connection, deadline_seconds=deadline_seconds), ref)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def facts(self) -> ProjectFacts:
        """Return name, region, version and status; the status is what a restore is followed by."""
        return read_project(self._transport.get(self._path))

    def backups(self) -> ProjectBackups:
        """Return Supabase's own backups and its window of point-in-time recovery; both may be empty."""
        return read_backups(self._transport.get(f"{self._path}/database/backups"))

    def pitr_window(self) -> PitrWindow | None:
        """Return between which times Supabase can recover, or None where it cannot.

        ``latest`` is old on a project without writes, and that is as it should be.
        """
        found = self.backups()
        return found.window if found.pitr_enabled else None

    def backup_schedule(self) -> time:
        """Return when the daily backup is due, in UTC; raises SupabaseRefusedError where the plan does not say."""
        return read_schedule(self._transport.get(f"{self._path}/database/backups/schedule"))

    def restore_to(self, target: datetime) -> None:
        """Begin to recover the project, in place, to a point in time. It is not reachable meanwhile: poll ``facts``.

        Raises SupabaseRefusedError when PITR is not enabled or the time lies outside of the window.
        """
        if target.tzinfo is None:
            raise ParameterError(f"the time {target} has no zone; give one, e.g. {target.isoformat()}Z")
        body = {"recovery_time_target_unix": int(target.timestamp())}
        self._transport.post(f"{self._path}/database/backups/restore-pitr", body)

    def disk_use(self) -> DiskUse:
        """Return how full the project's disk is."""
        return read_disk_use(self._transport.get(f"{self._path}/config/disk/util"))

    def health(self, services: tuple[str, ...] = SERVICES) -> tuple[ServiceHealth, ...]:
        """Return the health of services."""
        return read_health(self._transport.get(f"{self._path}/health", query={"services": list(services)}))
