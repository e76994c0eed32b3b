"""The demo: start the stack, take one daily backup through Airflow, and say what it proved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from include.backup.backup_id import make_backup_id
from include.backup.catalog import Catalog
from include.backup.manifest import Manifest
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.proof.record import Proof, Result
from include.backup.store import ObjectStore
from include.local.airflow import ADMIN
from include.local.airflow_api import AirflowApi
from include.local.credentials import load_credentials
from include.local.errors import StackError
from include.local.progress import Progress, progress_on
from include.local.run import RunView, follow_run, start_run, wait_for_dag
from include.local.stack import Stack
from include.local.status import UpReport

SOURCE, TIER, KIND = "pulse_messages", "daily", "full"
DAG_ID = f"{SOURCE}.daily_backup"
RUN_SECONDS = 3600.0
LOG_TAIL_LINES = 40
MEGABYTE = 1_000_000


class DemoFailedError(StackError):
    """Raised when the run failed; holds the failing task's last log lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo did, and what the store holds of it."""

    backup_id: str
    archive_url: str
    endpoint: str
    archive_bytes: int
    uncompressed_bytes: int
    steps: Mapping[str, float]
    tables: int
    rows: int
    identical_tables: int
    level: str
    seconds: float
    up: UpReport
    ui_url: str
    ui_user: str
    ui_password: str = field(repr=False)
    slack: str | None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the password."""
        return {
            "backup_id": self.backup_id,
            "archive": self.archive_url,
            "endpoint": self.endpoint,
            "archive_bytes": self.archive_bytes,
            "uncompressed_bytes": self.uncompressed_bytes,
            "steps": dict(self.steps),
            "tables": self.tables,
            "rows": self.rows,
            "every_row_identical": self.identical_tables == self.tables,
            "proof_level": self.level,
            "seconds": round(self.seconds, 1),
            "up": self.up.to_json(),
            "ui": self.ui_url,
            "user": self.ui_user,
            "slack": self.slack,
        }


def run_demo(stack: Stack, *, sample_mb: int, console: Console) -> DemoResult:
    """Start what does not run, take a backup, and return what was proved; raises DemoFailedError."""
    started = time.monotonic()
    messages_before = len(stack.slack.messages())
    with progress_on(console) as progress:
        up = stack.up(sample_mb=sample_mb, say=progress.say)
        progress.say(f"stack is up after {up.seconds:.0f} s; triggering {DAG_ID}")
        view = run_dag(stack.api(), DAG_ID, {}, progress)
    backup_id = make_backup_id(
        source=SOURCE, tier=TIER, kind=KIND, run_after=view.run_after, dag_id=view.dag_id, run_id=view.run_id
    )
    manifest, proof, archive_url = read_evidence(stack, backup_id)
    said = [message_text(entry["message"]) for entry in stack.slack.messages()[messages_before:]]
    return DemoResult(
        backup_id=backup_id,
        archive_url=archive_url,
        endpoint=stack.store.url,
        archive_bytes=manifest.archive.size,
        uncompressed_bytes=manifest.uncompressed_bytes,
        steps={task.task_id: round(task.seconds, 1) for task in view.tasks if task.seconds is not None},
        tables=len(proof.tables),
        rows=proof.rows,
        identical_tables=sum(table.identical for table in proof.tables),
        level=proof.level.value,
        seconds=time.monotonic() - started,
        up=up,
        ui_url=stack.airflow.url,
        ui_user=ADMIN,
        ui_password=load_credentials(stack.layout.credentials).airflow_admin_password,
        slack=said[-1] if said else None,
    )


def run_dag(api: AirflowApi, dag_id: str, conf: Mapping[str, object], progress: Progress) -> RunView:
    """Trigger a DAG and follow the run to success; raises DemoFailedError with the failing task's log."""
    run_id = f"demo__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    wait_for_dag(api, dag_id)
    start_run(api, dag_id, run_id, conf)
    view = follow_run(api, dag_id, run_id, seconds=RUN_SECONDS, on_view=progress.show)
    if view.state == "success":
        return view
    task = view.failed_task
    if task is None:
        raise DemoFailedError(f"run {run_id} of {dag_id} is {view.state}, and no task failed; see the UI")
    lines = api.task_log(dag_id, run_id, task.task_id, task.try_number)[-LOG_TAIL_LINES:]
    later = "" if view.ended else f" and will be tried again; the run goes on, see {api.url}"
    raise DemoFailedError("\n".join([f"task {task.task_id} of {dag_id} failed{later}; the end of its log:", *lines]))


def read_evidence(stack: Stack, backup_id: str) -> tuple[Manifest, Proof, str]:
    """Return manifest and newest proof as the store holds them; raises unless the proof passed."""
    source = load_policy(SHIPPED_POLICY).source(SOURCE)
    store = ObjectStore.connect(stack.store_connection(), bucket=source.store.bucket)
    catalog = Catalog(store, source=SOURCE, prefixes=[tier.prefix for tier in source.tiers.values()])
    manifest, proofs = catalog.manifest(backup_id), catalog.proofs(backup_id)
    if not proofs or proofs[-1].result is not Result.PASSED:
        raise DemoFailedError(f"the run succeeded, but the store holds no passed proof of {backup_id}")
    return manifest, proofs[-1], store.url(manifest.archive.key)


def message_text(message: object) -> str:
    """Return what a Slack message says."""
    return str(message.get("text", message)) if isinstance(message, dict) else str(message)


def summary_lines(result: DemoResult, *, down_command: str, others_seconds: float = 0.0) -> list[str]:
    """Return what a person reads at the end."""
    more = f", {others_seconds:.0f} s more for the other DAGs" if others_seconds else ""
    steps = ", ".join(f"{name} {seconds:g} s" for name, seconds in result.steps.items())
    identical = (
        "every row identical"
        if result.identical_tables == result.tables
        else f"identical in {result.identical_tables} of {result.tables} tables only"
    )
    lines = [
        f"backup    {result.backup_id}",
        f"proved    {result.tables} tables, {result.rows:,} rows: {identical} (level {result.level})",
        f"size      {_megabytes(result.archive_bytes)} stored, {_megabytes(result.uncompressed_bytes)} of data",
        f"steps     {steps}",
        f"archive   {result.archive_url} at {result.endpoint}",
        f"Airflow   {result.ui_url}  user {result.ui_user}  password {result.ui_password}",
        f"took      {result.seconds:.0f} s{more}; stop everything with: {down_command}",
    ]
    return lines if result.slack is None else [*lines[:-2], f"Slack     {result.slack}", *lines[-2:]]


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"
