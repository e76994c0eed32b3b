"""What a rule found: one condition of one thing, with its evidence and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How soon a person has to look: today, or now."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsBefore:
    """How many rows a table had in a backup."""

    backup_id: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``rule`` and ``subject`` together are the condition: the same ones again are the same alert.

    ``rows_before`` is what a table had before it lost rows, and ``gone`` what each table had that is gone.
    """

    rule: str
    subject: str
    severity: Severity
    evidence: str
    next_step: str
    rows_before: RowsBefore | None = None
    gone: Mapping[str, RowsBefore] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        return f"{self.rule}:{self.subject}"
