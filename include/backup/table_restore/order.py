"""What exactly a restore of tables is to do: shown, agreed to, and read again by the step that does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from include.backup.approval import Question
from include.backup.records import to_json
from include.backup.restore.sealed import FORMAT_VERSION
from include.backup.table_restore.preview import TablesPreview


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesOrder:
    """One restore of tables. The preview holds numbers and names; where it goes is looked up in the policy anew."""

    restore_id: str
    source: str
    connection: str
    server: str
    address: str
    database: str
    production: bool
    dry_run: bool
    unproven: bool
    tables: tuple[str, ...]
    requested_by: str
    reason: str
    created_at: datetime
    preview: TablesPreview

    @property
    def needs_approval(self) -> bool:
        return self.production and not self.dry_run

    def to_json(self) -> bytes:
        """Return the order as JSON."""
        return to_json(self, format_version=FORMAT_VERSION)

    def lines(self) -> Iterator[str]:
        """Yield what a person needs to know before saying yes."""
        yield from self.preview.lines()
        if self.production:
            yield "warning     this is PRODUCTION"

    def question(self) -> Question:
        """Return what a person is asked; the whole order is what the yes is about."""
        mode, names = self.preview.mode.value, ", ".join(table.table for table in self.preview.tables)
        body = (
            f"**{self.requested_by}** asks to restore {names} ({mode}) in **{self.database}** on {self.address}: "
            f"{self.reason}",
            "```",
            *self.lines(),
            "```",
        )
        subject = f"Restore {names} ({mode}) from {self.preview.backup_id}?"
        return Question(subject=subject, body="\n".join(body), content=self.to_json())
