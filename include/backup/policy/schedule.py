"""When something is due."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a DAG's runs are due; always in UTC."""

    cron: str
    timezone: str
