"""The fleet in one table: which source is protected as its policy says, by what health found last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from include.backup.audit.facts import SourceFact
from include.backup.audit.report import FleetRow
from include.backup.connections import StoreConnection
from include.backup.errors import BackupError
from include.backup.health.board import Board
from include.backup.health.finding import Severity
from include.backup.policy import Policy, SourcePolicy
from include.backup.steps.context import open_store
from include.backup.store import Encryption, ObjectStore
from include.backup.text import columns

# Health looks every hour; after this nobody knows.
FRESH = timedelta(minutes=150)
SHOWN = 3
HEADER = ("source", "protected", "critical", "warnings", "looked at (UTC)", "why")


class SharedStores:
    """Opens the stores of a fleet; sources whose connection and bucket are the same share one client, which is costly.

    ``connect`` returns how to reach the store of a source.
    """

    def __init__(self, connect: Callable[[SourcePolicy], StoreConnection]) -> None:
        self._connect = connect
        self._open: dict[tuple[StoreConnection, str], ObjectStore] = {}

    def open(self, source: SourcePolicy) -> ObjectStore:
        """Return the store of a source; raises what its connection is not."""
        connection = self._connect(source)
        key = (connection, source.store.bucket)
        if key not in self._open:
            self._open[key] = open_store(source, connection)
        return self._open[key]


def gather_fleet(policy: Policy, open_source: Callable[[SourcePolicy], ObjectStore]) -> tuple[SourceFact, ...]:
    """Read what health left of each source, two small objects each; a store that does not answer is a fact too."""
    return tuple(_gather(source, open_source) for source in policy.sources.values())


def _gather(source: SourcePolicy, open_source: Callable[[SourcePolicy], ObjectStore]) -> SourceFact:
    try:
        # Nothing is written, so that no key is asked for.
        board = Board(open_source(source), source=source.name, encryption=Encryption(algorithm=None))
        return SourceFact(source=source.name, heartbeat=board.heartbeat(), alerts=board.open_alerts())
    except BackupError as error:
        return SourceFact(source=source.name, unknown=" ".join(str(error).split()))


def fleet_rows(facts: Iterable[SourceFact], rejected: Mapping[str, str], *, now: datetime) -> tuple[FleetRow, ...]:
    """Return a row for each source, those that are not protected first. What nobody knows is not protected."""
    rows = [*(_row(fact, now) for fact in facts), *(_rejected(name, error) for name, error in rejected.items())]
    return tuple(sorted(rows, key=lambda row: (row.protected, -row.critical, row.source)))


def fleet_lines(rows: Iterable[FleetRow]) -> Iterator[str]:
    """Yield the table, for a task's log or a terminal."""
    return columns(
        HEADER,
        [
            (
                row.source,
                "yes" if row.protected else "NO",
                str(row.critical),
                str(row.warnings),
                "never" if row.looked_at is None else f"{row.looked_at:%Y-%m-%d %H:%M}",
                row.why,
            )
            for row in rows
        ],
    )


def _rejected(name: str, error: str) -> FleetRow:
    why = f"left out of the policy: {' '.join(error.split())}"
    return FleetRow(source=name, protected=False, critical=1, warnings=0, looked_at=None, why=why)


def _row(fact: SourceFact, now: datetime) -> FleetRow:
    critical = sum(alert.severity is Severity.CRITICAL for alert in fact.alerts)
    beat = fact.heartbeat
    if fact.unknown is not None:
        why = f"nothing is known: {fact.unknown}"
    elif beat is None:
        why = "health was never looked at"
    elif now - beat.at > FRESH:
        why = f"health was not looked at since {beat.at:%Y-%m-%d %H:%M} UTC"
    else:
        worst = sorted(fact.alerts, key=lambda alert: (alert.severity is not Severity.CRITICAL, alert.key))
        why = "; ".join(f"{alert.key}: {alert.evidence}" for alert in worst[:SHOWN])
        why += f"; and {len(worst) - SHOWN} more" if len(worst) > SHOWN else ""
    known = fact.unknown is None and beat is not None and now - beat.at <= FRESH
    return FleetRow(
        source=fact.source,
        protected=known and not fact.alerts,
        critical=critical,
        warnings=len(fact.alerts) - critical,
        looked_at=None if beat is None else beat.at,
        why=why or "as its policy says",
    )
