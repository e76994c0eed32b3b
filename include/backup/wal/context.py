"""What every step of a WAL run is given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path

from include.backup.backup_id import make_backup_id, parse_backup_id
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import ParameterError
from include.backup.policy import IncrementalPolicy, SourcePolicy
from include.backup.process import Runner
from include.backup.staging import Staging
from include.backup.steps.context import RunIdentity, StepContext, encryption_of, open_store, utc_now
from include.backup.store import Encryption, ObjectStore
from include.backup.wal.keys import run_key

TIER, KIND = "incremental", "wal"


class WalContext:
    """One run. Its steps share nothing but staging, the store, and the slots on the source."""

    def __init__(
        self,
        *,
        source: SourcePolicy,
        run: RunIdentity,
        database: DatabaseConnection,
        store_connection: StoreConnection,
        staging_root: Path,
        runner: Runner,
        log: logging.Logger,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if source.incremental is None:
            raise ParameterError(
                f"the policy has no incremental block for {source.name}; add one (see pulse_messages.yaml) and retry"
            )
        self.source = source
        self.policy: IncrementalPolicy = source.incremental
        self.run = run
        self.database = database
        self.runner = runner
        self.log = log
        self.clock = clock
        self.backup_id = make_backup_id(
            source=source.name,
            tier=TIER,
            kind=KIND,
            run_after=run.run_after,
            dag_id=run.dag_id,
            run_id=run.run_id,
        )
        self.staging = Staging(staging_root, self.backup_id)
        self.store_connection = store_connection

    @classmethod
    def of_step(cls, ctx: StepContext) -> WalContext:
        """Return the context in which another chain, such as that of a base backup, stores WAL."""
        return cls(
            source=ctx.source,
            run=ctx.run,
            database=ctx.database,
            store_connection=ctx.store_connection,
            staging_root=ctx.staging.root,
            runner=ctx.runner,
            log=ctx.log,
            clock=ctx.clock,
        )

    @cached_property
    def store(self) -> ObjectStore:
        """The bucket; the clients are made at first use."""
        return open_store(self.source, self.store_connection)

    @cached_property
    def encryption(self) -> Encryption:
        """What the policy asks for; raises KmsKeyError when there is no such key."""
        return encryption_of(self.source, self.store)

    @property
    def record_key(self) -> str:
        """Where this run's record goes."""
        parsed = parse_backup_id(self.backup_id)
        return run_key(self.source.name, parsed.run_after, parsed.run)
