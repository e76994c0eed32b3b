"""Evidence: an append-only, hash-chained ledger of everything that happened to a source's backups."""

from include.backup.evidence.ledger import Appended, Ledger, open_ledger
from include.backup.evidence.record import Event, EventKind, Head

__all__ = ["Appended", "Event", "EventKind", "Head", "Ledger", "open_ledger"]
