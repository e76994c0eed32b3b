"""The hosted Supabase project behind a source, where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

DEFAULT_GRACE_HOURS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabasePolicy:
    """Which project it is, whose token asks for it, and how late its own daily backup may be."""

    project_ref: str
    connection: str
    daily_backup_grace: timedelta


def supabase_policy(data: Mapping[str, Any] | None) -> SupabasePolicy | None:
    """Return the block of a checked source, or None for one that Supabase does not host."""
    if data is None:
        return None
    return SupabasePolicy(
        project_ref=data["project_ref"],
        connection=data["connection"],
        daily_backup_grace=timedelta(hours=data.get("daily_backup_grace_hours", DEFAULT_GRACE_HOURS)),
    )
