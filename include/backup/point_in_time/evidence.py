"""The evidence of a recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.backup.evidence import EventKind, open_ledger
from include.backup.policy import SourcePolicy
from include.backup.store import ObjectStore

_KEPT = (
    "target",
    "backup_id",
    "reached",
    "hole",
    "last_commit",
    "lsn",
    "timeline",
    "folder",
    "port",
    "seconds",
    "project_ref",
    "status",
    "approval",
)


def record_recovery(
    source: SourcePolicy, store: ObjectStore, report: Mapping[str, Any], *, subject: str, actor: str
) -> None:
    """Leave in the ledger what was recovered, to where, by whom."""
    facts = {name: report[name] for name in _KEPT if name in report}
    open_ledger(source, store).append(EventKind.RESTORE, subject=subject, actor=actor, facts=facts)
