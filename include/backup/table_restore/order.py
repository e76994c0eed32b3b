"""What exactly a restore of tables is to do: shown, agreed to, and read again by the step that does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from include.backup.approval import Question
from include.backup.records import to_json
from include.backup.restore.sealed import FORMAT_VERSION, NO_REASON
from include.backup.table_restore.preview import LABEL_WIDTH, TablesPreview
from include.backup.text import labelled, markdown_table, one_line, plain_markdown


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
        """Yield what a person needs to know before saying yes, for a log."""
        yield from self.preview.lines()
        yield from labelled(self._place(), width=LABEL_WIDTH)

    def question(self) -> Question:
        """Return what a person is asked; the whole order is what the yes is about."""
        mode, names = self.preview.mode.value, ", ".join(one_line(table.table) for table in self.preview.tables)
        who, reason = plain_markdown(self.requested_by), plain_markdown(self.reason or NO_REASON)
        body = (
            f"**{who}** asks to restore {plain_markdown(names)} ({mode}) in **{plain_markdown(self.database)}** on "
            f"{self.address}: {reason}",
            "",
            *markdown_table([*self.preview.facts(), *self.preview.consequences(), *self._place()]),
            "",
            *markdown_table(self.preview.rows()),
        )
        subject = f"Restore {names} ({mode}) from {self.preview.backup_id}?"
        return Question(subject=subject, body="\n".join(body), content=self.to_json())

    def _place(self) -> Iterator[tuple[str, str]]:
        if self.production:
            yield "warning", "this is PRODUCTION"
