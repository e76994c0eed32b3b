"""``python -m tests.benchmarks.chain``: one backup from dump to verify in a process of its own, told as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from include.backup.connections import DatabaseConnection, StoreConnection, resolve_connection
from include.backup.policy import load_policy, policy_path
from include.backup.process import Runner
from include.backup.settings import SHIPPED_SETTINGS
from include.backup.steps import compress, dump, preflight, upload, verify
from include.backup.steps.context import RunIdentity, StepContext, build_context

MEASURED = (dump, compress, upload, verify)


def main() -> int:
    """Take one backup of the source that the environment names; print what it took."""
    ctx = _context()
    preflight.run(ctx)
    steps = {}
    reports = {}
    started = time.monotonic()
    for step in MEASURED:
        name = step.__name__.rpartition(".")[2]
        began = time.monotonic()
        reports[name] = step.run(ctx)
        steps[name] = time.monotonic() - began
    seconds = time.monotonic() - started
    packed = reports["compress"]
    document = {
        "backup_id": ctx.backup_id,
        "seconds": seconds,
        "steps": steps,
        "compressed_bytes": packed.compressed_bytes,
        "uncompressed_bytes": packed.uncompressed_bytes,
        "rows": packed.rows,
    }
    print(json.dumps(document))
    return 0


def _context() -> StepContext:
    policy = load_policy(policy_path(os.environ), strict=True)
    source = policy.source("pulse_messages")
    connections = [
        resolve_connection(conn_id, environ=os.environ, settings=SHIPPED_SETTINGS)
        for conn_id in (source.connection, source.store.connection)
    ]
    staging = Path(os.environ["BACKUP_STAGING_DIR"])
    now = datetime.now(tz=UTC)
    return build_context(
        policy=policy,
        source=source.name,
        tier="daily",
        run=RunIdentity(dag_id="benchmark", run_id=now.isoformat(), run_after=now, run_type="manual"),
        database=DatabaseConnection.from_spec(connections[0]),
        store=StoreConnection.from_spec(connections[1]),
        staging_root=staging,
        scratch_root=staging,
        runner=Runner(),
        log=logging.getLogger("benchmark"),
    )


if __name__ == "__main__":
    sys.exit(main())
