"""What is stored, what that costs, and how it grew: from listings, manifests and the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from include.backup.audit.facts import BackupFact, Use
from include.backup.audit.report import CostRow
from include.backup.backup_id import parse_backup_id
from include.backup.evidence.record import Event, EventKind
from include.backup.policy.audit import Prices

GIBIBYTE = 1 << 30


def cost_of(size: int, storage_class: str, prices: Prices) -> float | None:
    """Return what a size in bytes costs in a month, or None for a class without price.

    >>> round(cost_of(100 << 30, "STANDARD", Prices()), 2)
    2.3
    """
    price = prices.per_gib_month.get(storage_class)
    return None if price is None else size / GIBIBYTE * price


def cost_rows(uses: Iterable[Use], prices: Prices) -> tuple[CostRow, ...]:
    """Return what each tier and class costs, the most expensive first."""
    rows = (CostRow(use=use, cost=cost_of(use.size, use.storage_class, prices)) for use in uses)
    return tuple(sorted(rows, key=lambda row: (-(row.cost or 0.0), row.use.tier, row.use.storage_class)))


def add_up(items: Iterable[tuple[str, str, int]]) -> tuple[Use, ...]:
    """Return the use of each tier and class, from (tier, class, bytes) of each object.

    >>> [(use.objects, use.size) for use in add_up([("daily", "STANDARD", 2), ("daily", "STANDARD", 3)])]
    [(2, 5)]
    """
    found: dict[tuple[str, str], list[int]] = {}
    for tier, storage_class, size in items:
        counts = found.setdefault((tier, storage_class), [0, 0])
        counts[0] += 1
        counts[1] += size
    return tuple(
        Use(tier=tier, storage_class=storage_class, objects=counts[0], size=counts[1])
        for (tier, storage_class), counts in sorted(found.items())
    )


def held_at(
    moment: datetime, backups: Iterable[BackupFact], events: Iterable[Event], classes: Mapping[str, str]
) -> tuple[Use, ...]:
    """Return which archives lay in the store at a moment, present ones and those that were deleted since.

    ``events`` reach from that moment to now. Of a deleted archive the record says its bytes, and the record of its
    backup, or else ``classes`` by tier, its class.
    """
    present = [one for one in backups if one.stored_at <= moment]
    known = {one.backup_id for one in backups}
    return add_up(
        [
            *((one.tier, one.storage_class, one.size) for one in present),
            *_deleted_since(moment, tuple(events), known, classes),
        ]
    )


def _deleted_since(
    moment: datetime, events: Iterable[Event], known: set[str], classes: Mapping[str, str]
) -> Iterator[tuple[str, str, int]]:
    stored: dict[str, str] = {}
    for event in events:
        if event.kind is EventKind.BACKUP and isinstance(event.facts.get("storage_class"), str):
            stored[event.subject] = event.facts["storage_class"]
        parsed = parse_backup_id(event.subject, strict=False)
        size = event.facts.get("bytes")
        if event.kind is not EventKind.DELETION or parsed is None or not isinstance(size, int):
            continue
        if event.recorded_at > moment >= parsed.run_after and event.subject not in known:
            known.add(event.subject)
            yield parsed.tier, stored.get(event.subject, classes.get(parsed.tier, "STANDARD")), size
