"""What a rule found: one condition of one thing, with its evidence and what to do."""

from __future__ import annotations

from dataclasses import dataclass
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

    ``rows_before`` is what a table had before it lost rows.
    """

    rule: str
    subject: str
    severity: Severity
    evidence: str
    next_step: str
    rows_before: RowsBefore | None = None

    @property
    def key(self) -> str:
        return f"{self.rule}:{self.subject}"
