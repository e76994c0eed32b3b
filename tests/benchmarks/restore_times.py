"""How long a restore into production takes by size, from the decision to checks that passed, on the embedded stack.

Run as a program: ``python -m tests.benchmarks.restore_times 100 1000``; the numbers are MB of the sample database.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from include.backup.approval import Approval
from include.backup.chain import new_run
from include.backup.connections import DatabaseConnection
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.process import Runner
from include.backup.restore.context import RestoreContext
from include.backup.restore.prepare import Wish, prepare
from include.backup.restore.progress import LogProgress
from include.backup.restore.sealed import keep_order
from include.backup.restore.words import Where
from include.backup.restore.work import back_up_target, check_afterwards, compare, keep_old, load, swap_in
from include.backup.steps.context import utc_now
from include.local.ports import free_port_base
from include.local.stack import Stack

SOURCE = "pulse_messages"
PARTS = ("preview", "safety backup", "load beside", "compare", "swap", "nobody could connect", "checks", "all")


def main(arguments: Sequence[str]) -> int:
    """Measure each size once and print a table."""
    logging.basicConfig(level=logging.WARNING)
    rows = [measured(int(size)) for size in arguments or ("100",)]
    print(f"load average at the end {os.getloadavg()}")
    print("| size | archive | rows | " + " | ".join(PARTS) + " |")
    print("|---|---|---|" + "---|" * len(PARTS))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    return 0


def measured(size_mb: int) -> list[str]:
    """Return one row of the table."""
    with running(size_mb) as stack:
        environment = {**stack.command_environment(), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "include.backup", "run", SOURCE, "--tier", "daily", "--no-proof", "--json"]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        backup_id = json.loads(answer.stdout)["backup_id"]
        ctx = context_of(stack)
        seconds: dict[str, float] = {}

        @contextmanager
        def timed(name: str) -> Iterator[None]:
            began = time.monotonic()
            yield
            seconds[name] = time.monotonic() - began

        progress = LogProgress(logging.getLogger("restore"))
        with timed("all"):
            with timed("preview"):
                wish = Wish(
                    backup_id=backup_id, where=Where.PRODUCTION, unproven=True, end_sessions=True, dry_run=False
                )
                order = prepare(ctx, wish)
                seal = keep_order(ctx.store, order, encryption=ctx.encryption)
            with timed("safety backup"):
                back_up_target(ctx, order)
            with timed("load beside"):
                load(ctx, order, progress=progress)
            with timed("compare"):
                compare(ctx, order, seal, progress=progress)
            yes = Approval(requested_by="a", approved_by="b", approved_at=utc_now(), seal=seal)
            with timed("swap"):
                report = swap_in(ctx, order, seal, approve=lambda: yes)
            seconds["nobody could connect"] = report.seconds
            with timed("checks"):
                check_afterwards(ctx, order)
                keep_old(ctx, order)
        numbers = [f"{seconds[name]:.2f} s" if seconds[name] < 10 else f"{seconds[name]:.0f} s" for name in PARTS]
        return [f"{size_mb} MB", f"{order.archive_bytes / 1e6:.0f} MB", str(order.backup_rows), *numbers]


def context_of(stack: Stack) -> RestoreContext:
    """Return the context of a restore on the embedded stack."""
    policy, settings = load_policy(SHIPPED_POLICY), stack.settings()
    return RestoreContext(
        policy=policy,
        source=policy.source(SOURCE),
        connections=lambda conn_id: DatabaseConnection.from_spec(settings.connection(conn_id)),
        store_connection=stack.store_connection(),
        run=new_run(),
        staging_root=stack.layout.staging,
        scratch_root=stack.layout.scratch,
        runner=Runner(),
        log=logging.getLogger("restore"),
    )


@contextmanager
def running(size_mb: int) -> Iterator[Stack]:
    """Give a stack with a sample of that size, without the files in its bucket; it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-", dir="/var/tmp"))
    folder.chmod(0o711)
    stack = Stack(free_port_base(), folder / "stack")
    try:
        stack.up(sample_mb=None, airflow=False)
        stack.source.load_sample(size_mb)
        yield stack
    finally:
        stack.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
