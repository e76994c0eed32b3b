"""Backup ids: the same for every retry of a run, and safe as object, file and folder names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, overload

from include.backup.errors import ParameterError

SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
TIERS = ("daily", "weekly", "monthly", "yearly", "pre_deployment", "hourly")
# Backups that no tier of the policy schedules: base backups, and copies taken before something is overwritten.
OTHER_TIERS = ("incremental", "safety")
KINDS = ("full", "schema", "tables", "base", "wal", "attachments")
_TIME = "%Y%m%dT%H%M%SZ"
_ID = re.compile(
    rf"(?P<source>{SOURCE_NAME.pattern})_(?P<tier>{'|'.join(TIERS + OTHER_TIERS)})_(?P<kind>{'|'.join(KINDS)})"
    r"_(?P<run_after>[0-9]{8}T[0-9]{6}Z)_(?P<run>[0-9a-f]{6})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupId:
    """The parts of a backup id. ``run_after`` is when the run was due, not when the data was read."""

    source: str
    tier: str
    kind: str
    run_after: datetime
    run: str

    def __str__(self) -> str:
        return f"{self.source}_{self.tier}_{self.kind}_{self.run_after:{_TIME}}_{self.run}"


def make_backup_id(*, source: str, tier: str, kind: str, run_after: datetime, dag_id: str, run_id: str) -> str:
    """Return the id of the backup that a run makes; raises ParameterError for a part that is not allowed."""
    if run_after.tzinfo is None:
        raise ParameterError(f"run_after {run_after.isoformat()} has no time zone; give an aware time")
    run = hashlib.sha256(f"{dag_id}\0{run_id}".encode()).hexdigest()[:6]
    due = run_after.astimezone(UTC).replace(microsecond=0)
    made = str(BackupId(source=source, tier=tier, kind=kind, run_after=due, run=run))
    parsed = parse_backup_id(made)
    if (parsed.source, parsed.tier, parsed.kind) != (source, tier, kind):
        raise ParameterError(f"{made} cannot be read back; allowed tiers: {', '.join(TIERS + OTHER_TIERS)}")
    return made


@overload
def parse_backup_id(text: str) -> BackupId: ...
@overload
def parse_backup_id(text: str, *, strict: Literal[True]) -> BackupId: ...
@overload
def parse_backup_id(text: str, *, strict: Literal[False]) -> BackupId | None: ...
def parse_backup_id(text: str, *, strict: bool = True) -> BackupId | None:
    """Return the parts of an id. Anything else raises ParameterError, or gives None when not ``strict``.

    >>> parse_backup_id("pulse_messages_pre_deployment_full_20250119T020000Z_3fa9c1").tier
    'pre_deployment'
    """
    match = _ID.fullmatch(text)
    due = None if match is None else _due(match["run_after"])
    if match is not None and due is not None:
        return BackupId(source=match["source"], tier=match["tier"], kind=match["kind"], run_after=due, run=match["run"])
    if not strict:
        return None
    raise ParameterError(
        f"{text!r} is no backup id; it looks like pulse_messages_daily_full_20250119T020000Z_3fa9c1 "
        "(`python -m include.backup list SOURCE` shows them)"
    )


def _due(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
