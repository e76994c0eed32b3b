"""The policy's block ``evidence``: how long records are locked, and which key signs what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.backup.errors import PolicyError
from include.backup.retention.duration import Retention

KEEP = Retention(amount=7, unit="year")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePolicy:
    """``keep`` and ``lock_mode`` count where the bucket has Object Lock; ``signing_connection`` holds a key."""

    keep: Retention = KEEP
    lock_mode: str = "GOVERNANCE"
    signing_connection: str | None = None


def evidence_policy(data: Mapping[str, Any]) -> EvidencePolicy:
    """Build the block from checked data; raises PolicyError for a time that is none."""
    text = data.get("keep", str(KEEP))
    keep = Retention.parse(text)
    if keep is None:
        raise PolicyError(f"evidence.keep is {text!r}; allowed: a number and days, weeks, months or years")
    return EvidencePolicy(
        keep=keep, lock_mode=data.get("lock_mode", "GOVERNANCE"), signing_connection=data.get("signing_connection")
    )
