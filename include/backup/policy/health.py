"""The policy's block ``health``: from where on something is an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PingPolicy:
    """A request after each good look, whose whole URL is the password of ``connection``.

    ``timeout`` is that of one attempt.
    """

    connection: str
    method: str = "GET"
    timeout: timedelta = timedelta(seconds=10)
    attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """Limits of the health checks; sizes in bytes, shares 0 to 1. Without ``budget_bytes`` the store has no limit.

    ``airflow_connection`` is Airflow's own API for a user who may look.
    """

    late_after: timedelta = timedelta(hours=1)
    prove_within: timedelta = timedelta(hours=24)
    smallest_bytes: int = 0
    largest_bytes: int | None = None
    rows_lost_share: float = 0.2
    rpo: timedelta = timedelta(hours=1)
    budget_bytes: int | None = None
    full_share: float = 0.8
    resend_after: timedelta = timedelta(hours=24)
    airflow_connection: str | None = None
    ping: PingPolicy | None = None


def health_policy(data: Mapping[str, Any]) -> HealthPolicy:
    """Build the block from checked data; what it leaves out is as the backup strategy says."""
    base = HealthPolicy()
    largest, budget = data.get("largest_mib"), data.get("budget_gib")
    return HealthPolicy(
        late_after=timedelta(minutes=data.get("late_after_minutes", 60)),
        prove_within=timedelta(hours=data.get("prove_within_hours", 24)),
        smallest_bytes=data.get("smallest_mib", 0) * MEBIBYTE,
        largest_bytes=None if largest is None else largest * MEBIBYTE,
        rows_lost_share=data.get("rows_lost_percent", base.rows_lost_share * 100) / 100,
        rpo=timedelta(minutes=data.get("rpo_minutes", 60)),
        budget_bytes=None if budget is None else budget * GIBIBYTE,
        full_share=data.get("full_percent", base.full_share * 100) / 100,
        resend_after=timedelta(hours=data.get("resend_after_hours", 24)),
        airflow_connection=data.get("airflow_connection"),
        ping=_ping(data.get("ping")),
    )


def _ping(data: Mapping[str, Any] | None) -> PingPolicy | None:
    if data is None:
        return None
    return PingPolicy(
        connection=data["connection"],
        method=data.get("method", "GET"),
        timeout=timedelta(seconds=data.get("timeout_seconds", 10)),
        attempts=data.get("attempts", 3),
    )
