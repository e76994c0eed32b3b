"""The policy's block ``cleanup``: graces, and how long proofs outlive what they proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from include.backup.errors import PolicyError
from include.backup.retention.duration import Retention

PROOFS = Retention(amount=7, unit="year")


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupPolicy:
    """``orphan_grace`` is how old an archive without manifest, or an unfinished upload, must be."""

    orphan_grace: timedelta = timedelta(days=7)
    keep_proofs: Retention = PROOFS


def cleanup_policy(data: Mapping[str, Any]) -> CleanupPolicy:
    """Build the block from checked data; raises PolicyError for a time that is none."""
    text = data.get("keep_proofs", str(PROOFS))
    keep = Retention.parse(text)
    if keep is None:
        raise PolicyError(f"cleanup.keep_proofs is {text!r}; allowed: a number and days, weeks, months or years")
    return CleanupPolicy(orphan_grace=timedelta(days=data.get("orphan_grace_days", 7)), keep_proofs=keep)
