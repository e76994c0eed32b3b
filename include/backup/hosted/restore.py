"""Carry out a planned restore into a hosted project: roles, objects, rows, indexes, grants, and the rest one by one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

from include.backup.archive.reader import ArchiveReader, member_path, unpack_for_old_pg_restore
from include.backup.duration import timed
from include.backup.errors import CommandError, CommandKilledError, RestoreDiffersError, RestoreError
from include.backup.hosted.plan import ProjectPlan
from include.backup.hosted.provider import is_managed
from include.backup.hosted.scope import LeftOut
from include.backup.hosted.statements import DefaultPrivileges, leave_roles, make_roles, run_single
from include.backup.hosted.verify import schema_differences
from include.backup.in_use import reading
from include.backup.manifest import Manifest
from include.backup.postgres.commands import ZSTD_SINCE, pg_restore_command
from include.backup.postgres.session import connect
from include.backup.postgres.toc import TocEntry
from include.backup.process import Runner
from include.backup.proof.masking import findings
from include.backup.quarantine import QuarantineReport, quarantine
from include.backup.restore.compare import Comparison, RestoreComparer
from include.backup.restore.plan import TOC_MEMBER
from include.backup.restore.progress import Counter, Progress
from include.backup.restore.statements import database_properties
from include.backup.restore.tables import TableLoader, archive_tasks
from include.backup.restore.target import Target, shown
from include.backup.restore.work_folder import work_folder

# Rows come with their keys and triggers off: they were consistent in the source.
AS_REPLICA = {"session_replication_role": "replica"}
SHOWN_FINDINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectReport:
    """What a restore into a project did, and what it left out. Durations in seconds."""

    backup_id: str
    target: str
    tables: int
    rows: int
    compared: Comparison
    schema_objects: int
    left_out: tuple[LeftOut, ...]
    quarantine: QuarantineReport
    durations: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(replace(self, quarantine=QuarantineReport(items=()))), "quarantine": self.quarantine.to_dict()}

    def line(self) -> str:
        """Return one line of evidence."""
        return (
            f"{self.backup_id} restored into {self.target}: {self.tables} tables, {self.rows} rows, every row "
            f"identical; {self.schema_objects} definitions equal; {len(self.left_out)} things left out"
        )


def restore_project(
    plan: ProjectPlan, *, runner: Runner, log: logging.Logger, progress: Progress, work_root: Path
) -> ProjectReport:
    """Restore a backup into a project.

    Raises RestoreError when it cannot be loaded: the project then holds a part of the backup. Raises
    RestoreDiffersError when it was loaded and differs.
    """
    work = _Work(plan, runner, log, progress)
    needed = sum(member.stored_length + member.length for member in work.others())
    request = plan.request
    with (
        reading(request.store, request.manifest, what=f"a restore into {plan.target}"),
        work_folder(work_root, needed_bytes=needed) as folder,
    ):
        try:
            work.load(folder)
        except psycopg.Error as error:
            said = error.diag.message_primary or " ".join(str(error).split())
            raise RestoreError(f"{plan.target} does not take the backup: {said}; it may hold a part of it") from None
        # Before the quarantine, which switches triggers off; the jobs are not there at all before the release.
        with timed(work.durations, "schema"):
            objects = work.compare_schema(folder)
        with timed(work.durations, "quarantine"):
            secluded = quarantine(plan.request.endpoint, source=request.manifest.source, also=plan.cron_jobs)
        log.info("%s", secluded.line())
        with timed(work.durations, "compare"):
            compared = work.compare()
    return ProjectReport(
        backup_id=request.manifest.backup_id,
        target=plan.target,
        tables=len(plan.loaded_tables),
        rows=sum(table.rows for table in plan.loaded_tables.values()),
        compared=compared,
        schema_objects=objects,
        left_out=tuple(work.left_out),
        quarantine=secluded,
        durations=work.durations,
    )


@dataclass(slots=True)
class _Work:
    plan: ProjectPlan
    runner: Runner
    log: logging.Logger
    progress: Progress
    left_out: list[LeftOut] = field(default_factory=list)
    durations: dict[str, float] = field(default_factory=dict)

    def load(self, folder: Path) -> None:
        """Make and load everything; the default privileges of the project are away only meanwhile."""
        plan, scope = self.plan, self.plan.scope
        self.left_out.extend(scope.left_out)
        dump = member_path(folder, TOC_MEMBER).parent
        dump.mkdir(mode=0o700)
        (dump / "toc.dat").write_bytes(plan.toc_bytes)
        with connect(plan.request.endpoint, settings={}) as session:
            self.left_out.extend(make_roles(session, plan.roles))
            defaults = DefaultPrivileges(session)
            defaults.take_away()
            told: frozenset[str] = frozenset()
            try:
                with timed(self.durations, "objects"):
                    self._restore(dump, scope.objects)
                with timed(self.durations, "rows"):
                    self._rows(dump)
                with timed(self.durations, "indexes"):
                    self._restore(dump, scope.indexes, jobs=plan.request.jobs)
                self.left_out.extend(run_single(session, scope.grants))
                told = scope.user_schemas | {"public"}
            finally:
                defaults.give_back(but_not_in=told)
            with timed(self.durations, "single"):
                self.left_out.extend(run_single(session, scope.single))
                self._properties(session)
            leave_roles(session, plan.roles)
        with timed(self.durations, "analyze"):
            Target(plan.request.endpoint, database=plan.request.endpoint.dbname).analyze(jobs=plan.request.jobs)

    def others(self) -> list[Any]:
        """Return the members that pg_restore needs as files."""
        members = self.plan.request.manifest.members
        return [
            member
            for member in members
            if member.table_data is None and member.name != TOC_MEMBER and member.name.startswith("dump/")
        ]

    def compare(self) -> Comparison:
        """Compare what was loaded with the archive; raises RestoreDiffersError naming what differs."""
        plan = self.plan
        wanted = {entry.dump_id for entry in (*plan.scope.values, *plan.scope.rows, *plan.scope.indexes)}
        toc = replace(plan.toc, entries=tuple(entry for entry in plan.toc.entries if entry.dump_id in wanted))
        self.progress.phase("comparing", sum(table.rows for table in plan.loaded_tables.values()), "rows")
        found = RestoreComparer(
            target=Target(plan.request.endpoint, database=plan.request.endpoint.dbname),
            manifest=self._loaded_manifest(),
            toc=toc,
            reader=ArchiveReader(plan.request.store, plan.request.manifest),
            tools=plan.tools,
            jobs=plan.request.jobs,
        ).compare(runner=self.runner, progress=self.progress)
        if found.differences:
            raise RestoreDiffersError(
                f"{plan.target} differs from what was dumped in {len(found.differences)} places: "
                f"{shown([str(difference) for difference in found.differences])}; do not use it"
            )
        return found

    def compare_schema(self, folder: Path) -> int:
        """Compare the definitions of what was made, grants and owners included; return how many were equal."""
        count, differences = schema_differences(self.plan, runner=self.runner, folder=folder, left_out=self.left_out)
        if differences:
            raise RestoreDiffersError(
                f"{len(differences)} definitions in {self.plan.target} differ from the archive: "
                f"{shown([str(difference) for difference in differences])}; look at them before it is used"
            )
        return count

    def _rows(self, dump: Path) -> None:
        plan = self.plan
        manifest = self._loaded_manifest()
        self.progress.phase("loading", sum(table.rows for table in plan.loaded_tables.values()), "rows")
        reader = ArchiveReader(plan.request.store, plan.request.manifest)
        tasks = archive_tasks(manifest, plan.toc, plan.request.endpoint)
        # Supabase's tables were not made by this restore: nothing of them is emptied.
        own = tuple(replace(task, freeze=task.freeze and not is_managed(task.table.schema)) for task in tasks)
        TableLoader(
            reader=reader,
            endpoint=plan.request.endpoint,
            manifest=manifest,
            tasks=own,
            jobs=plan.request.jobs,
            counter=Counter(self.progress),
            settings=AS_REPLICA,
        ).load()
        reader.fetch([member.name for member in self.others()], dump.parent)
        if plan.tools.major < ZSTD_SINCE:
            unpack_for_old_pg_restore(dump)
        self._restore(dump, plan.scope.values)
        self.log.info("%d rows loaded, every member's hash as recorded", manifest.rows)

    def _properties(self, session: psycopg.Connection[dict[str, Any]]) -> None:
        """Give the project's database the settings of the source's; its owner and grants are the provider's."""
        plan = self.plan
        source, name = plan.request.manifest.dump.server.database, plan.request.endpoint.dbname
        for statement in database_properties(plan.toc, source=source, name=name).statements:
            if " SET " not in statement:
                continue
            try:
                session.execute(statement.encode())
            except psycopg.Error as error:
                said = error.diag.message_primary or "refused"
                self.left_out.append(LeftOut(what=f"setting: {statement}", why=said))

    def _restore(self, dump: Path, entries: Sequence[TocEntry], *, jobs: int = 1) -> None:
        """Make exactly these entries, in runs by whether this role may give them to their owner."""
        settable = self.plan.facts.settable | set(self.plan.roles.roles)
        for keeps_owner, run in groupby(entries, lambda entry: not entry.owner or entry.owner in settable):
            use_list = dump.parent / "restore.list"
            use_list.write_text("".join(f"{entry.dump_id};\n" for entry in run))
            options = ("--no-tablespaces",) if keeps_owner else ("--no-tablespaces", "--no-owner")
            self._pg_restore(dump, use_list, options, jobs=jobs)

    def _pg_restore(self, dump: Path, use_list: Path, options: Sequence[str], *, jobs: int) -> None:
        said: list[str] = []
        command = pg_restore_command(
            self.plan.tools,
            self.plan.request.endpoint,
            dump=dump,
            jobs=jobs,
            use_list=use_list,
            options=options,
            settings={"synchronous_commit": "off"},
        )
        try:
            self.runner.run(command, on_line=lambda line: said.extend(findings(line)))
        except CommandKilledError:
            raise
        except CommandError as error:
            text = "; ".join(said[:SHOWN_FINDINGS]) or str(error).partition(":")[0]
            raise RestoreError(
                f"{self.plan.target} does not take the backup: {text}; it may hold a part of it"
            ) from None

    def _loaded_manifest(self) -> Manifest:
        wanted = self.plan.loaded_tables
        members = tuple(
            member
            for member in self.plan.request.manifest.members
            if member.table_data is None or member.table_data.dump_id in wanted
        )
        return replace(self.plan.request.manifest, members=members)
