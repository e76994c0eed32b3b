"""The policy's block schema_backup: where the schema's history is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.backup.cron import cron_problem
from include.backup.errors import PolicyError
from include.backup.policy.schedule import Schedule

if TYPE_CHECKING:
    from include.backup.policy.model import SourcePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaBackupPolicy:
    """A git remote that gets the source's schema when it has changed.

    ``folder`` is where the files lie in the repository. The definitions of ``withheld`` objects, ``schema.name``,
    are never written.
    """

    connection: str
    branch: str
    folder: str
    author_name: str
    author_email: str
    schedule: Schedule | None
    timeout_minutes: int
    withheld: tuple[str, ...] = ()


def schema_backup_policy(data: Mapping[str, Any] | None, *, source: str) -> SchemaBackupPolicy | None:
    """Build the block from checked data; without one there is no schema backup."""
    if data is None:
        return None
    schedule = data["schedule"]
    return SchemaBackupPolicy(
        connection=data["connection"],
        branch=data["branch"],
        folder=data.get("folder", source),
        author_name=data["author_name"],
        author_email=data["author_email"],
        schedule=None if schedule is None else Schedule(cron=schedule["cron"], timezone=schedule["timezone"]),
        timeout_minutes=data["timeout_minutes"],
        withheld=tuple(data.get("withheld", ())),
    )


def schema_policy(source: SourcePolicy) -> SchemaBackupPolicy:
    """Return the block schema_backup of a source; raises PolicyError when there is none."""
    if source.schema_backup is None:
        raise PolicyError(f"the policy has no block schema_backup for {source.name}; add one with a git connection")
    return source.schema_backup


def schema_backup_problems(data: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield what a JSON Schema cannot say: the key it is about, and a text."""
    schedule = None if data is None else data["schedule"]
    if schedule is not None and (problem := cron_problem(schedule["cron"])):
        yield "schedule", f"cron {schedule['cron']!r}: {problem}"
