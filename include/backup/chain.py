"""The chain of a backup in one process, for when no scheduler runs its steps."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from include.backup.backup_id import parse_backup_id
from include.backup.errors import ParameterError, StagingBusyError, StagingMissingError
from include.backup.records import from_json, to_json
from include.backup.staging import Staging
from include.backup.steps import close_staging, compress, dump, preflight, restore_test, upload, verify
from include.backup.steps.context import Release, RunIdentity, StepContext, utc_now

DAG_ID = "command_line"
RUN_FILE = "run.json"
FORMAT_VERSION = 1
CHAIN: tuple[ModuleType, ...] = (preflight, dump, compress, upload, verify, restore_test, close_staging)


class Report(Protocol):
    """What a step tells of its work."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain ids and numbers."""

    def line(self) -> str:
        """Return one line of evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    """What a run of the command line leaves in staging, so that it can be gone on with."""

    run_id: str
    run_after: datetime
    triggered_by: str | None
    release: str | None
    git_sha: str | None

    def identity(self) -> RunIdentity:
        """Return the run's identity for another try."""
        return RunIdentity(
            dag_id=DAG_ID,
            run_id=self.run_id,
            run_after=self.run_after,
            run_type="manual",
            triggered_by=self.triggered_by,
        )

    def guarded(self) -> Release | None:
        """Return the release that the run guards."""
        return None if self.release is None else Release(name=self.release, git_sha=self.git_sha or "")


def new_run(*, clock: Callable[[], datetime] = utc_now) -> RunIdentity:
    """Return the identity of a run that a person starts now: the time, and who it is."""
    now, user = clock(), user_name()
    return RunIdentity(
        dag_id=DAG_ID,
        run_id=f"{DAG_ID}__{now:%Y-%m-%dT%H:%M:%S.%f%z}__{user}",
        run_after=now,
        run_type="manual",
        triggered_by=user,
    )


def user_name() -> str:
    """Return who runs this process, also where the machine has no name for that uid."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def keep_run(ctx: StepContext) -> None:
    """Leave the run's identity in staging."""
    release = ctx.release
    kept = KeptRun(
        run_id=ctx.run.run_id,
        run_after=ctx.run.run_after,
        triggered_by=ctx.run.triggered_by,
        release=None if release is None else release.name,
        git_sha=None if release is None else release.git_sha,
    )
    ctx.staging.make()
    ctx.staging.write(RUN_FILE, to_json(kept, format_version=FORMAT_VERSION))


def kept_run(staging_root: Path, backup_id: str) -> KeptRun:
    """Return the run of the command line that began a backup; raises ParameterError when staging has none."""
    parse_backup_id(backup_id)
    staging = Staging(staging_root, backup_id)
    content = staging.read(RUN_FILE)
    if content is None:
        raise ParameterError(
            f"{staging.path} holds no run of the command line that could be gone on with; start a new one"
        )
    return from_json(KeptRun, content, format_version=FORMAT_VERSION, name=str(staging.path / RUN_FILE))


def run_chain(
    ctx: StepContext, *, prove: bool, on_step: Callable[[str], None], on_report: Callable[[str, Report], None]
) -> dict[str, dict[str, Any]]:
    """Run all steps in order; return what each reported.

    The identity is kept in staging before anything else, and what a failed run has dumped stays there. A run
    that has not dumped leaves nothing.
    """
    reports: dict[str, dict[str, Any]] = {}
    keep_run(ctx)
    try:
        for step in CHAIN:
            if step is restore_test and not prove:
                continue
            name = step.__name__.rsplit(".", 1)[-1]
            on_step(name)
            report: Report | None = step.run(ctx)
            if report is not None:
                reports[name] = report.to_dict()
                on_report(name, report)
    except BaseException:
        _forget(ctx.staging)
        raise
    return reports


def _forget(staging: Staging) -> None:
    """Remove the staging of a run that has not dumped, unless another process works in it."""
    with suppress(StagingBusyError, StagingMissingError), staging.locked():
        if not staging.dump.is_dir():
            staging.remove()
