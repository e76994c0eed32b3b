"""A hosted project as the stand-in for Supabase's Management API keeps it, and what it answers for it.

Answers have the fields that the real API was recorded with; what a real project refuses is refused in its words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

BACKUP_TAKES = timedelta(minutes=4)
PITR_LAG = timedelta(minutes=2)
SERVICES = ("auth", "db", "pooler", "realtime", "rest", "storage")

Answer = tuple[int, Any]
Query = Mapping[str, list[str]]


@dataclass(slots=True, kw_only=True)
class StandInProject:
    """One project. ``backups`` None means one a day, as its schedule says, made up from the time of asking.

    ``status`` is what it is while nothing is being restored.
    """

    ref: str
    name: str = "Pulse Messages"
    region: str = "eu-central-1"
    postgres_version: str = "17.6.1.011"
    schedule_for: str | None = "02:00:00"
    retention_days: int = 7
    walg_enabled: bool = True
    pitr_enabled: bool = False
    pitr_days: int = 7
    backups: list[dict[str, Any]] | None = None
    window: dict[str, int] | None = None
    restore_seconds: float = 2.0
    status: str = "ACTIVE_HEALTHY"
    restoring_until: datetime | None = None
    restored_to: int | None = None
    unhealthy: list[str] = field(default_factory=list)
    disk_bytes: int = 8 << 30
    disk_used_bytes: int = 1 << 30

    def change(self, fields: Mapping[str, Any]) -> None:
        """Set fields by name; raises KeyError for one that there is not."""
        known = {item.name for item in dataclasses.fields(self)} - {"ref", "restoring_until"}
        for name, value in fields.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, value)

    def answer(self, method: str, path: str, query: Query, body: Any, now: datetime) -> Answer:
        """Return status and content; ``path`` is what follows the project's own."""
        change = _CHANGES.get((method, path))
        if change is not None:
            return change(self, body, now)
        look = _LOOKS.get((method, path))
        if look is not None:
            return look(self, query, now)
        return 404, {"message": f"Cannot {method} /v1/projects/{self.ref}{path}"}

    def _facts(self, query: Query, now: datetime) -> Answer:
        restoring = self.restoring_until is not None and now < self.restoring_until
        return 200, {
            "id": self.ref,
            "ref": self.ref,
            "organization_id": "local",
            "name": self.name,
            "region": self.region,
            "created_at": "2025-01-19T02:00:00.000Z",
            "status": "RESTORING" if restoring else self.status,
            "database": {
                "host": f"db.{self.ref}.supabase.co",
                "version": self.postgres_version,
                "postgres_engine": self.postgres_version.partition(".")[0],
                "release_channel": "ga",
            },
        }

    def _all_backups(self, query: Query, now: datetime) -> Answer:
        return 200, self._backups(now)

    def _backups(self, now: datetime) -> dict[str, Any]:
        return {
            "region": self.region,
            "walg_enabled": self.walg_enabled,
            "pitr_enabled": self.pitr_enabled,
            "backups": self._listed(now) if self.backups is None else self.backups,
            "physical_backup_data": self._window(now),
        }

    def _listed(self, now: datetime) -> list[dict[str, Any]]:
        """Return a backup for each of the last days; a project with PITR has none of them."""
        if self.pitr_enabled or self.schedule_for is None:
            return []
        due = datetime.combine(now.date(), time.fromisoformat(self.schedule_for), tzinfo=UTC)
        newest = due if due <= now else due - timedelta(days=1)
        slots = [newest - timedelta(days=days) for days in range(self.retention_days)]
        return [
            {
                "id": int(slot.timestamp()) // 60,
                "is_physical_backup": True,
                "status": "COMPLETED" if slot + BACKUP_TAKES <= now else "PENDING",
                "inserted_at": _iso(min(slot + BACKUP_TAKES, now)),
            }
            for slot in slots
        ]

    def _window(self, now: datetime) -> dict[str, int]:
        if not self.pitr_enabled:
            return {}
        if self.window is not None:
            return self.window
        return {
            "earliest_physical_backup_date_unix": int((now - timedelta(days=self.pitr_days)).timestamp()),
            "latest_physical_backup_date_unix": int((now - PITR_LAG).timestamp()),
        }

    def _schedule(self, query: Query, now: datetime) -> Answer:
        if self.schedule_for is None:
            return 402, {"message": "This feature requires a paid plan."}
        return 200, {"schedule_for": self.schedule_for, "updated_at": _iso(now)}

    def _restore_pitr(self, body: Any, now: datetime) -> Answer:
        target = body.get("recovery_time_target_unix") if isinstance(body, dict) else None
        if not isinstance(target, int) or isinstance(target, bool):
            return 400, {"message": "recovery_time_target_unix: Invalid input: expected number"}
        if not self.pitr_enabled:
            return 400, {"message": "PITR is not enabled for this project."}
        window = self._window(now)
        earliest = window.get("earliest_physical_backup_date_unix", target)
        latest = window.get("latest_physical_backup_date_unix", target)
        if not earliest <= target <= latest:
            return 422, {"message": f"recovery_time_target_unix must lie between {earliest} and {latest}."}
        self.restored_to = target
        return self._restoring(now)

    def _restoring(self, now: datetime) -> Answer:
        self.restoring_until = now + timedelta(seconds=self.restore_seconds)
        return 201, None

    def _disk(self, query: Query, now: datetime) -> Answer:
        return 200, {
            "timestamp": _iso(now),
            "metrics": {
                "fs_size_bytes": self.disk_bytes,
                "fs_avail_bytes": self.disk_bytes - self.disk_used_bytes,
                "fs_used_bytes": self.disk_used_bytes,
            },
        }

    def _health(self, query: Query, now: datetime) -> Answer:
        wanted = query.get("services") or []
        if unknown := sorted(set(wanted) - set(SERVICES)):
            return 400, {"message": f"services: Invalid option: {', '.join(unknown)}"}
        return 200, [self._service(name) for name in wanted]

    def _service(self, name: str) -> dict[str, Any]:
        if name in self.unhealthy:
            return {"name": name, "healthy": False, "status": "UNHEALTHY", "error": "Failed to connect"}
        return {"name": name, "healthy": True, "status": "ACTIVE_HEALTHY"}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_BACKUPS = "/database/backups"
_LOOKS: Mapping[tuple[str, str], Callable[[StandInProject, Query, datetime], Answer]] = {
    ("GET", ""): StandInProject._facts,
    ("GET", _BACKUPS): StandInProject._all_backups,
    ("GET", f"{_BACKUPS}/schedule"): StandInProject._schedule,
    ("GET", "/config/disk/util"): StandInProject._disk,
    ("GET", "/health"): StandInProject._health,
}
_CHANGES: Mapping[tuple[str, str], Callable[[StandInProject, Any, datetime], Answer]] = {
    ("POST", f"{_BACKUPS}/restore-pitr"): StandInProject._restore_pitr,
}
