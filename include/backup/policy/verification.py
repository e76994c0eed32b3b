"""The policy's block ``verification``: when backups are proven after their run, and how often again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from include.backup.cron import cron_problem
from include.backup.duration import parse_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationPolicy:
    """``reprove_every`` is how old the newest proof of a backup may be before it is due again.

    ``reprove_tier`` says so for single tiers; base backups are the tier ``incremental``. One of the due ones of each
    tier is proven in a run, so that old archives take turns. ``thaw`` allows a run to ask for archives in Glacier;
    ``control_every`` is how often the verifier itself is tested with a damaged copy.
    """

    cron: str
    reprove_every: timedelta
    thaw: bool
    control_every: timedelta
    wal_segments: int
    timeout: timedelta
    reprove_tier: Mapping[str, timedelta] = field(default_factory=dict)

    def reprove_after(self, tier: str) -> timedelta:
        """Return how old the newest proof of a tier's backup may be."""
        return self.reprove_tier.get(tier, self.reprove_every)


def verification_policy(data: Mapping[str, Any] | None) -> VerificationPolicy | None:
    """Build the block from checked data."""
    if data is None:
        return None
    return VerificationPolicy(
        cron=data["schedule"]["cron"],
        reprove_every=timedelta(days=data["reprove_every_days"]),
        thaw=data["thaw"],
        control_every=timedelta(days=data["control_every_days"]),
        wal_segments=data["wal_segments"],
        timeout=parse_duration(data["timeout"]),
        reprove_tier={tier: timedelta(days=days) for tier, days in data.get("reprove_tier_days", {}).items()},
    )


def verification_problems(data: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for what a JSON Schema cannot say."""
    if data is None:
        return
    if problem := cron_problem(data["schedule"]["cron"]):
        yield "schedule", f"cron {data['schedule']['cron']!r}: {problem}"
