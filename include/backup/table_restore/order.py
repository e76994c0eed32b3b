"""What exactly a restore of tables is to do: shown, agreed to, and read again by the step that does it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from include.backup.approval import Question, seal_of
from include.backup.errors import RestoreRefusedError
from include.backup.records import from_json, to_json
from include.backup.restore.order import order_key
from include.backup.store import Encryption, ObjectStore
from include.backup.table_restore.preview import TablesPreview

FORMAT_VERSION = 1


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


def keep_tables_order(store: ObjectStore, order: TablesOrder, *, encryption: Encryption) -> str:
    """Write an order down; return its seal, by which the steps find it again."""
    content = order.to_json()
    seal = seal_of(content)
    store.put_if_absent(order_key(order.restore_id, seal), content, encryption=encryption)
    return seal


def read_tables_order(store: ObjectStore, restore_id: str, seal: str) -> TablesOrder:
    """Return an order; raises RestoreRefusedError when what lies there is not what the seal is of."""
    key = order_key(restore_id, seal)
    content = store.get(key)
    if seal_of(content) != seal:
        raise RestoreRefusedError(f"{store.url(key)} is not what was shown and agreed to; trigger a new run")
    order = from_json(TablesOrder, content, format_version=FORMAT_VERSION, name=key)
    if order.restore_id != restore_id:
        raise RestoreRefusedError(f"{store.url(key)} is the order of another restore; trigger a new run")
    return order
