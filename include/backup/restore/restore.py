"""Carry out a planned restore: fetch and check, load, finish, compare."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from include.backup.archive.reader import ArchiveReader
from include.backup.duration import timed
from include.backup.errors import (
    RestoreDiffersError,
    SourceError,
)
from include.backup.in_use import reading
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest
from include.backup.quarantine import QuarantineReport, changed_tables, quarantine
from include.backup.restore.compare import Comparison, RestoreComparer
from include.backup.restore.load import Load
from include.backup.restore.plan import RestorePlan
from include.backup.restore.progress import Progress
from include.backup.restore.target import shown
from include.backup.restore.work_folder import work_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did; ``compared`` None means that nobody asked for a comparison. Durations in seconds."""

    backup_id: str
    target: str
    database: str
    tables: int
    rows: int
    archive_bytes: int
    compared: Comparison | None
    refused_properties: tuple[str, ...]
    durations: dict[str, float]
    seconds: float
    quarantine: QuarantineReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        kept = None if self.quarantine is None else self.quarantine.to_dict()
        return {**asdict(replace(self, quarantine=None)), "quarantine": kept}

    def line(self) -> str:
        """Return one line of evidence."""
        text = f"{self.backup_id} restored into {self.target}: {self.tables} tables, {self.rows} rows"
        if self.compared is None:
            return f"{text}; not compared yet; {self.seconds:.1f} s"
        return (
            f"{text}, every row identical; {self.compared.sequences} sequences and "
            f"{self.compared.large_objects} large objects equal; {self.seconds:.1f} s"
        )


def restore(
    plan: RestorePlan, *, runner: Runner, log: logging.Logger, progress: Progress, work_root: Path
) -> RestoreReport:
    """Restore a backup into the plan's target.

    Raises RestoreError when it cannot be loaded; a database that this restore made is then removed again. Raises
    RestoreDiffersError when it was loaded and differs; the database is then kept for whoever looks into it.
    """
    request, manifest = plan.request, plan.request.manifest
    work = _Restore(plan, runner, log, progress)
    load = Load(plan=plan, runner=runner, log=log, progress=progress, durations=work.durations)
    # Whatever is no table lies on disk for a while; for an old pg_restore also unpacked.
    others = [member for member in manifest.members if member.table_data is None]
    needed = sum(member.stored_length + member.length for member in others)
    with reading(request.store, manifest, what=f"a restore into {request.target.describe()}"):
        with work_folder(work_root, needed_bytes=needed) as folder, _removed_on_failure(plan, log):
            load.run(folder)
        secluded = work.quarantine() if request.quarantine else None
        compared = work.compare(load.digests) if request.compare else None
    return RestoreReport(
        backup_id=manifest.backup_id,
        target=request.target.describe(),
        database=request.target.database,
        tables=manifest.tables,
        rows=manifest.rows,
        archive_bytes=manifest.archive.size,
        compared=compared,
        refused_properties=load.refused_properties,
        durations=work.durations,
        seconds=round(time.monotonic() - work.started, 3),
        quarantine=secluded,
    )


@contextmanager
def _removed_on_failure(plan: RestorePlan, log: logging.Logger) -> Iterator[None]:
    """Make what the target lacks; remove the database that was made when the restore does not get to the end."""
    target = plan.request.target
    if plan.roles.statements:
        target.make_roles(plan.roles.statements)
        log.info("made the roles %s", shown(plan.roles.roles, most=20))
    if plan.request.create:
        target.create(plan.toc)
    try:
        yield
    except BaseException:
        if not plan.request.create:
            log.warning("%s may hold a part of the backup; empty it before another try", target.describe())
            raise
        try:
            target.drop()
        except (psycopg.Error, SourceError) as error:
            log.warning("%s holds a part of the backup and cannot be removed: %s", target.describe(), error)
        raise


@dataclass(slots=True)
class _Restore:
    plan: RestorePlan
    runner: Runner
    log: logging.Logger
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    durations: dict[str, float] = field(default_factory=dict)
    changed: frozenset[tuple[str, str]] = frozenset()

    def quarantine(self) -> QuarantineReport:
        """Switch off what the copy would do by itself, before anybody can use it."""
        request = self.plan.request
        report = quarantine(request.target.endpoint, source=request.manifest.source)
        self.log.info("%s", report.line())
        for text in report.not_switched_off:
            self.log.warning("not switched off, the copy acts: %s", text)
        self.changed = changed_tables(report.items)
        return report

    def compare(self, digests: dict[str, MultisetDigest]) -> Comparison:
        """Compare what was loaded; raises RestoreDiffersError naming what differs."""
        request = self.plan.request
        self.progress.phase("comparing", request.manifest.rows, "rows")
        comparer = RestoreComparer(
            target=request.target,
            manifest=request.manifest,
            toc=self.plan.toc,
            reader=ArchiveReader(request.store, request.manifest),
            tools=self.plan.tools,
            jobs=request.jobs,
            without=self.changed,
            loaded=digests,
        )
        with timed(self.durations, "compare"):
            compared = comparer.compare(runner=self.runner, progress=self.progress)
        if compared.differences:
            raise RestoreDiffersError(
                f"{request.target.describe()} differs from what was dumped in {len(compared.differences)} places: "
                f"{shown([str(difference) for difference in compared.differences])}; it is kept as it is, do not use it"
            )
        return compared


def default_jobs() -> int:
    """Return how many sessions load at once: one for each processor of this machine."""
    return os.cpu_count() or 1
