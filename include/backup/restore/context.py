"""What each step of a restore into an allow-listed place is given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from include.backup.catalog import Catalog
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import RestoreRefusedError
from include.backup.evidence import Ledger, open_ledger
from include.backup.policy import Policy, SourcePolicy
from include.backup.process import Runner
from include.backup.restore.destination import Connections, Destination, allowed_destination
from include.backup.restore.order import RestoreOrder, make_restore_id
from include.backup.restore.restore import default_jobs
from include.backup.restore.sealed import read_order
from include.backup.restore.target import Target
from include.backup.steps.context import SAFETY_PREFIX, RunIdentity, encryption_of, open_catalog, open_store, utc_now
from include.backup.store import Encryption, ObjectStore


@dataclass(kw_only=True)
class RestoreContext:
    """One restore in the making. Its steps share the order in the store and nothing else."""

    policy: Policy
    source: SourcePolicy
    connections: Connections
    store_connection: StoreConnection = field(repr=False)
    run: RunIdentity
    staging_root: Path
    scratch_root: Path
    runner: Runner
    log: logging.Logger
    clock: Callable[[], datetime] = utc_now
    jobs: int = field(default_factory=default_jobs)

    @cached_property
    def store(self) -> ObjectStore:
        return open_store(self.source, self.store_connection)

    @cached_property
    def catalog(self) -> Catalog:
        return open_catalog(self.source, self.store, also=(SAFETY_PREFIX,))

    @cached_property
    def encryption(self) -> Encryption:
        return encryption_of(self.source, self.store)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.source, self.store, clock=self.clock)

    @property
    def restore_id(self) -> str:
        return make_restore_id(run_after=self.run.run_after, dag_id=self.run.dag_id, run_id=self.run.run_id)

    @property
    def holder(self) -> str:
        """How others see who is at work on a target."""
        return f"{self.restore_id} of {self.run.triggered_by or 'nobody'}"

    def order(self, seal: str) -> RestoreOrder:
        """Return this run's own order; another run's cannot be carried out here."""
        order = read_order(self.store, RestoreOrder, self.restore_id, seal)
        if order.source != self.source.name:
            raise RestoreRefusedError(f"order {seal} is of {order.source}, not of {self.source.name}")
        return order

    def destination(self, order: RestoreOrder) -> Destination:
        """Return where the order goes, as the policy allows it now; raises RestoreRefusedError when it does not."""
        found = allowed_destination(
            self.policy, self.source, self.connections, server=order.server, database=order.database
        )
        if (found.conn_id, found.address) != (order.connection, order.address):
            raise RestoreRefusedError(
                f"the policy leads to {found.address} by {found.conn_id} now, and the order was about {order.address}; "
                "trigger a new run"
            )
        return found

    def target(self, order: RestoreOrder) -> Target:
        """Return the database that is loaded."""
        return Target(self.destination(order).connection, database=order.beside)

    def sources(self) -> tuple[DatabaseConnection, ...]:
        """Return how all sources of the policy are reached."""
        return tuple(self.connections(source.connection) for source in self.policy.sources.values())
