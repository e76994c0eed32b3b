"""Stand-ins for the core's steps: each does nothing and reports, or fails as a test wants it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from include.backup.copies.report import CopiesReport
from include.backup.steps.context import StepContext
from include.backup.steps.report_copies import CopiesStepReport
from include.backup.supabase.daily import DailyCheck, DailyState

STEPS = ("preflight", "dump", "compress", "upload", "verify", "restore_test", "close_staging")
AT_ONCE = "dump_to_store"
ARCHIVE_STEPS = ("archive_attachments", "copy_yearly", "change_class")
VALUES: dict[str, dict[str, Any]] = {
    "preflight": {
        "already_stored": False,
        "server_version": "17.10",
        "client_version": "17.10",
        "tls": "TLSv1.3",
        "database_bytes": 100_000_000,
        "staging_free_bytes": 10**12,
    },
    "dump": {
        "reused": False,
        "staged_bytes": 30_000_000,
        "seconds": 2.0,
        "snapshot_time": datetime(2025, 1, 19, 2, 0, 5, tzinfo=UTC),
        "lsn": "0/1",
    },
    "compress": {
        "tables": 27,
        "rows": 123_456,
        "uncompressed_bytes": 90_000_000,
        "compressed_bytes": 30_000_000,
        "seconds": 1.0,
    },
    "upload": {
        "key": "s3://pulse-backups/daily/x.tar",
        "size": 30_500_000,
        "parts": 2,
        "resumed_parts": 0,
        "already_stored": False,
        "seconds": 1.0,
    },
    "dump_to_store": {
        "key": "s3://pulse-backups/daily/x.tar",
        "size": 30_500_000,
        "staged_bytes": 30_000_000,
        "tables": 27,
        "rows": 123_456,
        "already_stored": False,
        "seconds": 4.0,
    },
    "verify": {
        "key": "s3://pulse-backups/daily/x.tar",
        "size": 30_500_000,
        "checksum": "c-2",
        "method": "kept by the store",
        "encryption": "aws:kms",
        "storage_class": "STANDARD",
        "seconds": 0.1,
    },
    "restore_test": {
        "proof_id": "p1",
        "result": "passed",
        "level": "complete",
        "tables": 27,
        "rows": 123_456,
        "sequences": 3,
        "large_objects": 1,
        "not_proven": 0,
        "seconds": 4.0,
    },
    "close_staging": {"removed_bytes": 30_000_000},
    "archive_attachments": {
        "files": 12,
        "reused": 3,
        "bytes": 5000,
        "archive_bytes": 9000,
        "missing": 1,
        "extra": 0,
        "changed": 0,
        "troubled": 0,
        "based_on": None,
        "already_stored": False,
        "seconds": 1.0,
        "note": "attachments: 12 files (3 unchanged since an earlier archive), 1 missing",
    },
    "copy_yearly": {"copies": (), "copied_bytes": 0, "seconds": 0.0, "note": "", "why": "only January's archive is"},
    "change_class": {
        "archives": 1,
        "changed": 1,
        "storage_class": "GLACIER",
        "removed_bytes": 30_500_000,
        "left": 0,
        "seconds": 1.0,
        "note": "GLACIER",
    },
}
REPORTS = {
    "preflight": "PreflightReport",
    "dump": "DumpReport",
    "compress": "CompressReport",
    "upload": "UploadReport",
    "dump_to_store": "DumpToStoreReport",
    "verify": "VerifyReport",
    "restore_test": "RestoreTestReport",
    "close_staging": "CloseReport",
    "archive_attachments": "AttachmentsReport",
    "copy_yearly": "CopyReport",
    "change_class": "ChangeReport",
}


def make_report(step: str, backup_id: str, **overrides: Any) -> Any:
    """Return a step's report as the core makes it."""
    kind = getattr(importlib.import_module(f"include.backup.steps.{step}"), REPORTS[step])
    return kind(**{"backup_id": backup_id, **VALUES[step], **overrides})


@dataclass
class FakeSteps:
    """Which steps ran, with which context, and which are to fail."""

    failing: dict[str, BaseException] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    contexts: dict[str, StepContext] = field(default_factory=dict)
    all_contexts: dict[str, list[StepContext]] = field(default_factory=dict)
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    supabase: DailyState = DailyState.COMPLETED
    failing_kinds: dict[tuple[str, str], BaseException] = field(default_factory=dict)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for step in (*STEPS, AT_ONCE, *ARCHIVE_STEPS):
            monkeypatch.setattr(f"include.backup.steps.{step}.run", self._fake(step))
        monkeypatch.setattr("include.backup.steps.report_copies.run", self._copies)
        monkeypatch.setattr("backup_operators.copies.die_with_parent", lambda: None)

    def _copies(self, ctx: StepContext, **arguments: Any) -> Any:
        """Stand in for the report after the chain, which is no step of it."""
        self.contexts["report_copies"] = ctx
        self.arguments["report_copies"] = arguments
        if failure := self.failing.get("report_copies"):
            raise failure
        check = DailyCheck(state=self.supabase, text="said by the test")
        report = CopiesReport(source=ctx.source.name, at=datetime(2025, 1, 19, tzinfo=UTC), copies=(), supabase=check)
        return CopiesStepReport(report=report, url="s3://pulse-backups/audit/x/copies/x.json")

    def _fake(self, step: str) -> Any:
        def run(ctx: StepContext, **arguments: Any) -> Any:
            self.arguments[step] = arguments
            self.ran.append(step)
            self.contexts[step] = ctx
            self.all_contexts.setdefault(step, []).append(ctx)
            failure = self.failing.get(step) or self.failing_kinds.get((step, ctx.kind))
            if failure is not None:
                raise failure
            note = {"note": "schema archive proven"} if (step, ctx.kind) == ("restore_test", "schema") else {}
            return make_report(step, ctx.backup_id, **note)

        return run
