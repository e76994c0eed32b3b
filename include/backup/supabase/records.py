"""What the Management API says, typed. Fields that it adds are ignored; those that it must send are checked.

Times are aware, in UTC. A status that this version does not know is UNKNOWN, which never counts as good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Any, TypeVar

from include.backup.errors import SupabaseAnswerError

Value = TypeVar("Value")


class _Tolerant(StrEnum):
    """A status; any text that is none of its own is UNKNOWN."""

    @classmethod
    def _missing_(cls, value: object) -> _Tolerant | None:
        return cls.__members__.get("UNKNOWN")


class BackupStatus(_Tolerant):
    """How far one of Supabase's backups is."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    REMOVED = "REMOVED"
    ARCHIVED = "ARCHIVED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"


class ProjectStatus(_Tolerant):
    """What a project does at the moment."""

    ACTIVE_HEALTHY = "ACTIVE_HEALTHY"
    ACTIVE_UNHEALTHY = "ACTIVE_UNHEALTHY"
    COMING_UP = "COMING_UP"
    GOING_DOWN = "GOING_DOWN"
    INACTIVE = "INACTIVE"
    INIT_FAILED = "INIT_FAILED"
    PAUSE_FAILED = "PAUSE_FAILED"
    PAUSING = "PAUSING"
    REMOVED = "REMOVED"
    RESIZING = "RESIZING"
    RESTARTING = "RESTARTING"
    RESTORE_FAILED = "RESTORE_FAILED"
    RESTORING = "RESTORING"
    UPGRADING = "UPGRADING"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabaseBackup:
    """One of Supabase's own backups. Those of PostgreSQL 15.8 and later are physical and cannot be downloaded."""

    id: int
    status: BackupStatus
    is_physical: bool
    inserted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PitrWindow:
    """Between which times Supabase can recover the project to."""

    earliest: datetime
    latest: datetime

    def holds(self, target: datetime) -> bool:
        return self.earliest <= target <= self.latest


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBackups:
    """What Supabase keeps of a project, newest backup first; ``window`` is None when it names none."""

    region: str
    pitr_enabled: bool
    walg_enabled: bool
    backups: tuple[SupabaseBackup, ...]
    window: PitrWindow | None

    @property
    def newest_completed(self) -> SupabaseBackup | None:
        completed = (backup for backup in self.backups if backup.status is BackupStatus.COMPLETED)
        return next(completed, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """How full the project's disk is, in bytes."""

    measured_at: datetime
    size: int
    used: int
    available: int

    @property
    def share(self) -> float:
        """The used part, 0.0 to 1.0."""
        return self.used / self.size if self.size else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """One service of the project; ``error`` is Supabase's own text."""

    name: str
    status: str
    error: str | None

    @property
    def healthy(self) -> bool:
        return self.status == "ACTIVE_HEALTHY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """The project itself; ``postgres_version`` such as 17.4.1.074 where the API says it."""

    ref: str
    name: str
    region: str
    status: ProjectStatus
    database_host: str | None
    postgres_version: str | None


def read_backups(content: Any) -> ProjectBackups:
    """Read the answer to GET …/database/backups; an empty list and an empty window are ordinary answers."""
    answer = _mapping(content, "the list of backups")
    listed = tuple(_backup(item) for item in _list(answer.get("backups") or [], "backups"))
    return ProjectBackups(
        region=_need(answer, "region", str),
        pitr_enabled=_need(answer, "pitr_enabled", bool),
        walg_enabled=_need(answer, "walg_enabled", bool),
        backups=tuple(sorted(listed, key=lambda backup: backup.inserted_at, reverse=True)),
        window=_window(answer.get("physical_backup_data") or {}),
    )


def read_schedule(content: Any) -> time:
    """Read when the daily backup is due, in UTC."""
    text = _need(_mapping(content, "the backup schedule"), "schedule_for", str)
    try:
        return time.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise _unexpected(f"schedule_for is {text!r}, not HH:MM:SS") from None


def read_disk_use(content: Any) -> DiskUse:
    """Read how full the disk is."""
    answer = _mapping(content, "the disk's use")
    metrics = _mapping(answer.get("metrics"), "metrics")
    return DiskUse(
        measured_at=_moment(_need(answer, "timestamp", str), "timestamp"),
        size=_need(metrics, "fs_size_bytes", int),
        used=_need(metrics, "fs_used_bytes", int),
        available=_need(metrics, "fs_avail_bytes", int),
    )


def read_health(content: Any) -> tuple[ServiceHealth, ...]:
    """Read the health of services."""
    return tuple(_health(_mapping(item, "a service")) for item in _list(content, "the services"))


def read_project(content: Any) -> ProjectFacts:
    """Read a project."""
    answer = _mapping(content, "the project")
    database = answer.get("database") or {}
    reference = answer.get("ref") or answer.get("id")
    if not isinstance(reference, str):
        raise _unexpected("the project has neither ref nor id")
    return ProjectFacts(
        ref=reference,
        name=_need(answer, "name", str),
        region=_need(answer, "region", str),
        status=ProjectStatus(_need(answer, "status", str)),
        database_host=database.get("host") or None,
        postgres_version=database.get("version") or None,
    )


def _backup(item: Any) -> SupabaseBackup:
    backup = _mapping(item, "a backup")
    return SupabaseBackup(
        id=_need(backup, "id", int),
        status=BackupStatus(_need(backup, "status", str)),
        is_physical=_need(backup, "is_physical_backup", bool),
        inserted_at=_moment(_need(backup, "inserted_at", str), "inserted_at"),
    )


def _window(content: Any) -> PitrWindow | None:
    data = _mapping(content, "physical_backup_data")
    earliest, latest = (data.get(f"{end}_physical_backup_date_unix") for end in ("earliest", "latest"))
    if earliest is None or latest is None:
        return None
    try:
        return PitrWindow(
            earliest=datetime.fromtimestamp(int(earliest), tz=UTC), latest=datetime.fromtimestamp(int(latest), tz=UTC)
        )
    except (ValueError, TypeError, OverflowError, OSError):
        raise _unexpected(f"physical_backup_data is {earliest!r} to {latest!r}, not seconds since 1970") from None


def _health(item: Mapping[str, Any]) -> ServiceHealth:
    return ServiceHealth(
        name=_need(item, "name", str), status=_need(item, "status", str), error=item.get("error") or None
    )


def _moment(text: str, name: str) -> datetime:
    """Return a time; one without a zone is UTC, as the API means it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _unexpected(f"{name} is {text!r}, not a time") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _need(answer: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    value = answer.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = "missing" if value is None else f"{type(value).__name__} instead of {kind.__name__}"
        raise _unexpected(f"{name} is {found}")
    return value


def _mapping(content: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise _unexpected(f"{what} is no object")
    return content


def _list(content: Any, what: str) -> list[Any]:
    if not isinstance(content, list):
        raise _unexpected(f"{what} is no list")
    return content


def _unexpected(what: str) -> SupabaseAnswerError:
    return SupabaseAnswerError(
        f"Supabase's Management API answered in another form than documented: {what}; look whether the API has "
        "changed, and update this project"
    )
