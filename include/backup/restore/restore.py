"""Carry out a planned restore: fetch and check, load, analyze, compare."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from include.backup.archive.reader import ArchiveReader, member_path, unpack_for_old_pg_restore
from include.backup.errors import (
    CommandError,
    CommandKilledError,
    RestoreDiffersError,
    RestoreError,
    SourceError,
    TargetFullError,
)
from include.backup.in_use import reading
from include.backup.manifest import Member
from include.backup.postgres.commands import ZSTD_SINCE, pg_restore_command
from include.backup.postgres.toc import Section
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest
from include.backup.proof.masking import findings
from include.backup.quarantine import QuarantineReport, changed_tables, quarantine
from include.backup.restore.compare import Comparison, RestoreComparer
from include.backup.restore.plan import TOC_MEMBER, RestorePlan
from include.backup.restore.progress import Counter, Progress
from include.backup.restore.tables import TableLoader, archive_tasks
from include.backup.restore.target import NO_SPACE, disk_full, shown
from include.backup.restore.work_folder import work_folder

# What building the indexes may take of the target's memory, over all jobs.
INDEX_MEMORY_MB = 512
LEAST_INDEX_MEMORY_MB = 64
SHOWN_FINDINGS = 3
_CREATING = re.compile(r": creating [A-Z ]+ ")


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
    # Whatever is no table lies on disk for a while; for an old pg_restore also unpacked.
    others = [member for member in manifest.members if member.table_data is None]
    needed = sum(member.stored_length + member.length for member in others)
    with reading(request.store, manifest, what=f"a restore into {request.target.describe()}"):
        with work_folder(work_root, needed_bytes=needed) as folder, _removed_on_failure(plan, log):
            work.load(folder)
        secluded = work.quarantine() if request.quarantine else None
        compared = work.compare() if request.compare else None
    return RestoreReport(
        backup_id=manifest.backup_id,
        target=request.target.describe(),
        database=request.target.database,
        tables=manifest.tables,
        rows=manifest.rows,
        archive_bytes=manifest.archive.size,
        compared=compared,
        refused_properties=work.refused_properties,
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
    refused_properties: tuple[str, ...] = ()
    changed: frozenset[tuple[str, str]] = frozenset()
    digests: dict[str, MultisetDigest] = field(default_factory=dict)

    def load(self, folder: Path) -> None:
        """Make the objects, load the rows, make indexes and constraints; what is no table is fetched meanwhile."""
        request = self.plan.request
        toc = member_path(folder, TOC_MEMBER)
        toc.parent.mkdir(mode=0o700)
        toc.write_bytes(self.plan.toc_bytes)
        with ThreadPoolExecutor(1, thread_name_prefix="fetch") as pool:
            fetch = pool.submit(self._fetch_others, folder)
            with self._timed("objects"):
                self._pg_restore(toc.parent, "--section=pre-data", jobs=1)
            with self._timed("rows"):
                self._rows(toc.parent, fetch)
        with self._timed("indexes"):
            self._indexes(toc.parent)
        if request.create:
            self.refused_properties = request.target.set_properties(self.plan.toc, request.manifest)
            for text in self.refused_properties:
                self.log.warning("not restored: %s", text)
        with self._timed("analyze"):
            request.target.analyze(jobs=request.jobs)

    def quarantine(self) -> QuarantineReport:
        """Switch off what the copy would do by itself, before anybody can use it."""
        report = quarantine(self.plan.request.target.endpoint)
        self.log.info("%s", report.line())
        for text in report.not_switched_off:
            self.log.warning("not switched off, the copy acts: %s", text)
        self.changed = changed_tables(report.items)
        return report

    def compare(self) -> Comparison:
        """Compare what was loaded; raises RestoreDiffersError naming what differs."""
        request = self.plan.request
        self.progress.phase("comparing", request.manifest.rows, "rows")
        comparer = RestoreComparer(
            target=request.target,
            manifest=request.manifest,
            toc=self.plan.toc,
            reader=self._reader(),
            tools=self.plan.tools,
            jobs=request.jobs,
            without=self.changed,
            loaded=self.digests,
        )
        with self._timed("compare"):
            compared = comparer.compare(runner=self.runner, progress=self.progress)
        if compared.differences:
            raise RestoreDiffersError(
                f"{request.target.describe()} differs from what was dumped in {len(compared.differences)} places: "
                f"{shown([str(difference) for difference in compared.differences])}; it is kept as it is, do not use it"
            )
        return compared

    def _rows(self, dump: Path, fetch: Future[None]) -> None:
        manifest = self.plan.request.manifest
        self.progress.phase("loading", manifest.rows, "rows")
        tables = TableLoader(
            reader=self._reader(),
            endpoint=self.plan.request.target.endpoint,
            manifest=manifest,
            tasks=archive_tasks(manifest, self.plan.toc, self.plan.request.target.endpoint),
            jobs=self.plan.request.jobs,
            counter=Counter(self.progress),
            digests=self.digests if self.plan.request.compare else None,
            only_split=True,
        )
        with tables.loading() as loaded:
            fetch.result()
            other = dump.parent / "other.list"
            entries = (entry for entry in self.plan.toc.entries if not entry.is_table_data)
            other.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
            self._pg_restore(dump, "--section=data", f"--use-list={other}", jobs=1)
            loaded.result()
        self.log.info("%d rows loaded, every member's hash as recorded", manifest.rows)

    def _indexes(self, dump: Path) -> None:
        total = sum(entry.section is Section.POST_DATA for entry in self.plan.toc.entries)
        self.progress.phase("indexing", total, "objects")
        counter = Counter(self.progress)

        def line(text: str) -> None:
            if _CREATING.search(text):
                counter.add(1)

        self._pg_restore(dump, "--section=post-data", "--verbose", on_line=line)

    def _fetch_others(self, folder: Path) -> None:
        """Fetch what pg_restore needs as files: large objects and their lists."""
        names = [member.name for member in self._others() if member.name.startswith("dump/")]
        self._reader().fetch(names, folder)
        if self.plan.tools.major < ZSTD_SINCE:
            unpack_for_old_pg_restore(folder / "dump")

    def _others(self) -> list[Member]:
        members = self.plan.request.manifest.members
        return [member for member in members if member.table_data is None and member.name != TOC_MEMBER]

    def _reader(self) -> ArchiveReader:
        return ArchiveReader(self.plan.request.store, self.plan.request.manifest)

    def _pg_restore(
        self, dump: Path, *options: str, jobs: int | None = None, on_line: Callable[[str], None] | None = None
    ) -> None:
        request = self.plan.request
        said: list[str] = []

        def line(text: str) -> None:
            said.extend(findings(text))
            if on_line is not None:
                on_line(text)

        command = pg_restore_command(
            self.plan.tools,
            request.target.endpoint,
            dump=dump,
            jobs=jobs or request.jobs,
            options=("--no-tablespaces", *options),
            settings={"synchronous_commit": "off", "maintenance_work_mem": f"{index_memory_mb(request.jobs)}MB"},
        )
        try:
            self.runner.run(command, on_line=line)
        except CommandKilledError:
            raise
        except CommandError as error:
            # The rest of the output, so the cause, stays out: it shows statements with their passwords.
            text = "; ".join(said[:SHOWN_FINDINGS]) or str(error).partition(":")[0]
            if NO_SPACE in text:
                raise TargetFullError(disk_full(request.manifest.backup_id, text)) from None
            raise RestoreError(f"{request.manifest.backup_id} does not restore: {text}") from None

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.durations[name] = round(time.monotonic() - began, 3)


def default_jobs() -> int:
    """Return how many sessions load at once: one for each processor of this machine."""
    return os.cpu_count() or 1


def index_memory_mb(jobs: int) -> int:
    """Return maintenance_work_mem for each of several sessions."""
    return max(LEAST_INDEX_MEMORY_MB, INDEX_MEMORY_MB // jobs)
