"""Builders of step contexts: real steps against real servers, with what a test wants to be different."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.steps import close_staging, compress, dump, preflight, restore_test, upload, verify
from include.backup.steps.context import Release, RunIdentity, StepContext
from include.local.stack import Stack

CHAIN: tuple[ModuleType, ...] = (preflight, dump, compress, upload, verify, restore_test, close_staging)
_RUNS = itertools.count(1)


def make_run(**overrides: Any) -> RunIdentity:
    """Return a run that is due now, with an id of its own."""
    values: dict[str, Any] = {
        "dag_id": "pulse_messages.daily_backup",
        "run_id": f"test__{next(_RUNS)}",
        "run_after": datetime.now(tz=UTC),
        "run_type": "manual",
    }
    return RunIdentity(**{**values, **overrides})


@dataclass(frozen=True, kw_only=True)
class ContextMaker:
    """Makes contexts for one source, database and store."""

    source: SourcePolicy
    database: DatabaseConnection
    store: StoreConnection
    staging_root: Path
    scratch_root: Path
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("tests.backup"))

    @classmethod
    def of(cls, stack: Stack, source: SourcePolicy, folder: Path) -> ContextMaker:
        """Return a maker of contexts on the embedded stack, which stages below a folder of the test's."""
        return cls(
            source=source,
            database=stack.database_connection(),
            store=stack.store_connection(),
            staging_root=folder / "staging",
            scratch_root=stack.layout.scratch,
        )

    def __call__(
        self,
        *,
        tier: str = "daily",
        kind: str | None = None,
        run: RunIdentity | None = None,
        release: Release | None = None,
        runner: Runner | None = None,
        source: SourcePolicy | None = None,
        database: DatabaseConnection | None = None,
        store: StoreConnection | None = None,
        staging_root: Path | None = None,
        attachments: StoreConnection | None = None,
    ) -> StepContext:
        chosen = source or self.source
        return StepContext(
            source=chosen,
            tier=chosen.tier(tier),
            run=run or make_run(),
            database=database or self.database,
            store_connection=store or self.store,
            staging_root=staging_root or self.staging_root,
            scratch_root=self.scratch_root,
            runner=runner or Runner(),
            log=self.log,
            release=release,
            kind=kind,
            attachments=attachments,
        )

    def on(self, database: DatabaseConnection) -> ContextMaker:
        """Return the same maker for another database."""
        return replace(self, database=database)


def run_chain(ctx: StepContext, *, until: ModuleType = close_staging) -> dict[str, Any]:
    """Run the steps in order up to and including ``until``; return their reports by name."""
    reports: dict[str, Any] = {}
    for step in CHAIN[: CHAIN.index(until) + 1]:
        reports[step.__name__.rsplit(".", 1)[-1]] = step.run(ctx)
    return reports
