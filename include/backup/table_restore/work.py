"""Carry a planned restore of tables out: show what would change, then do it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from include.backup.errors import RestoreRefusedError
from include.backup.in_use import reading
from include.backup.inventory import Standing
from include.backup.postgres.session import connect
from include.backup.process import Runner
from include.backup.restore.progress import Counter, Progress
from include.backup.restore.tables import loading_settings
from include.backup.restore.target import Target
from include.backup.restore.target_lock import target_lock
from include.backup.table_restore.beside import Beside
from include.backup.table_restore.bonds import Bonds
from include.backup.table_restore.catalog import Session, read_relation
from include.backup.table_restore.merge import Merged, apply
from include.backup.table_restore.plan import TablesPlan
from include.backup.table_restore.preview import Mode, TablePreview, TablesPreview
from include.backup.table_restore.refusals import refusals_named, said
from include.backup.table_restore.staged import Change, StagedTable, check_mergeable, count_rows, scope_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesReport:
    """What was done; ``owner`` is that of the new schema."""

    backup_id: str
    mode: str
    target: str
    schema: str | None
    owner: str | None
    rows: int
    merged: tuple[Merged, ...]
    reads: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: lists, since a tuple comes out of an XCom as something else."""
        return {**asdict(self), "merged": [asdict(item) for item in self.merged]}

    def line(self) -> str:
        """Return one line of evidence."""
        if self.schema is not None:
            return (
                f"{self.rows} rows of {self.backup_id} are in {self.schema} of {self.target}, every row as it was "
                f"dumped; the schema belongs to {self.owner}; {self.seconds:.1f} s"
            )
        done = "; ".join(
            f"{item.table}: {item.inserted} added, {item.updated} changed back, {item.deleted} deleted"
            for item in self.merged
        )
        what = "every row as it was dumped" if self.mode == Mode.REPLACE else "no row of the archive missing"
        return f"{self.backup_id} merged into {self.target}: {done}; {what}; {self.seconds:.1f} s"


class TablesRestore:
    """One restore, from the look at the target to the end: ``with TablesRestore(plan, …) as work``.

    Nobody else restores into the target meanwhile. Rows are fetched once; ``preview`` changes nothing but
    temporary tables of this session.
    """

    def __init__(
        self, plan: TablesPlan, *, runner: Runner, log: logging.Logger, progress: Progress, holder: str
    ) -> None:
        self._plan = plan
        self._runner = runner
        self._log = log
        self._progress = progress
        self._holder = holder
        self._stack = ExitStack()
        self._session: Session | None = None
        self._started = time.monotonic()
        self.staged: tuple[StagedTable, ...] = ()

    def __enter__(self) -> Self:
        target = self._plan.request.target
        with ExitStack() as stack:
            stack.enter_context(target_lock(target.connection, target.database, holder=self._holder))
            manifest = self._plan.request.manifest
            what = f"a restore of tables into {target.describe()}"
            stack.enter_context(reading(self._plan.request.store, manifest, what=what))
            if self._plan.request.mode is not Mode.BESIDE:
                self._session = stack.enter_context(
                    connect(
                        target.endpoint,
                        settings=loading_settings(manifest),
                        client_encoding=manifest.dump.server.encoding,
                    )
                )
                self._stage(self._session)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def target(self) -> Target:
        return self._plan.request.target

    def preview(self) -> TablesPreview:
        """Return what would change, as of one moment."""
        if self._session is None:
            return self._preview((), ())
        with refusals_named(), self._session.transaction():
            self._session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return self._compared(self._session)

    def carry_out(self, shown: TablesPreview, *, work_root: Path, progress: Progress) -> TablesReport:
        """Do what was shown; raises RestoreRefusedError when it would be more than that by now.

        Whatever is raised, the tables that were there are as they were.
        """
        if refusals := list(shown.refusals()):
            raise RestoreRefusedError(f"nothing was changed: {'; '.join(refusals)}")
        if self._session is None:
            return self._beside(work_root, progress)
        with refusals_named(), self._session.transaction():
            merged = self._merge(self._session, shown)
        self._analyze(self._session)
        return self._report(merged=merged)

    def _analyze(self, session: Session) -> None:
        """Give the planner its statistics; the merge is there by now, whatever becomes of this."""
        wait = sql.Literal(f"{self._plan.request.lock_timeout_seconds}s")
        session.execute(sql.SQL("SET lock_timeout = {}").format(wait))
        for table in self.staged:
            try:
                session.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*_parts(table))))
            except psycopg.Error as error:
                self._log.warning("%s is merged and not analyzed (%s): run ANALYZE", table.table.name, said(error))

    def _stage(self, session: Session) -> None:
        plan = self._plan
        self._progress.phase("fetching", plan.rows, "rows")
        counter = Counter(self._progress)
        staged = []
        for number, table in enumerate(plan.tables):
            relation = plan.relations[table.name]
            if relation is None:
                raise RestoreRefusedError(f"there is no {table.name} any more; restore it beside")
            staged.append(
                StagedTable(session=session, table=table, relation=relation, key=plan.keys[table.name], number=number)
            )
            with refusals_named():
                staged[-1].load(plan.request.reader, plan.request.manifest, counter)
        self.staged = tuple(staged)

    def _compared(self, session: Session) -> TablesPreview:
        for table in self.staged:
            table.compare()
        bonds = Bonds(session, self.staged)
        mode = self._plan.request.mode
        touched = tuple(bonds.touched()) if mode is Mode.REPLACE else ()
        orphans = tuple(bonds.orphans(keeps_present=mode is Mode.MISSING))
        return self._preview(touched, orphans)

    def _merge(self, session: Session, shown: TablesPreview) -> tuple[Merged, ...]:
        request = self._plan.request
        replacing = request.mode is Mode.REPLACE
        bonds = Bonds(session, self.staged)
        session.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{request.lock_timeout_seconds}s")))
        ordered = bonds.order()
        children = bonds.children_to_lock() if replacing else []
        locked = [sql.Identifier(*_parts(table)) for table in ordered]
        locked += [sql.Identifier(name.schema, name.table) for name in children]
        session.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.SQL(", ").join(locked)))
        self._check_unchanged(session)
        now = self._compared(session)
        if refusals := [*now.grown(shown), *now.refusals()]:
            raise RestoreRefusedError(
                f"the target has changed since the preview: {'; '.join(refusals)}; stop what writes to it and "
                "begin anew; nothing was changed"
            )
        self._log.info("tables locked; merging")
        own = [relation for name in children if (relation := read_relation(session, name)) and relation.may_own]
        return apply(session, ordered, children=own, toc=self._plan.toc, replace=replacing)

    def _check_unchanged(self, session: Session) -> None:
        """Look again, now that nobody can change the tables, whether they still are what was compared."""
        for table in self.staged:
            relation = read_relation(session, table.table.name)
            key = check_mergeable(table.table, relation, self._plan.blueprint.columns[table.table.name])
            if relation is None or (relation.oid, key) != (table.relation.oid, table.key):
                raise RestoreRefusedError(f"{table.table.name} was made anew meanwhile; begin anew")

    def _beside(self, work_root: Path, progress: Progress) -> TablesReport:
        plan, request = self._plan, self._plan.request
        if plan.blueprint.scripts is None:
            raise RestoreRefusedError("there is no definition to restore from; begin anew")
        beside = Beside(
            target=request.target,
            facts=plan.facts,
            manifest=request.manifest,
            tables=plan.tables,
            scripts=plan.blueprint.scripts,
            reader=request.reader,
            jobs=request.jobs,
            now=request.now,
        )
        progress.phase("loading", plan.rows, "rows")
        owner = beside.make(runner=self._runner, counter=Counter(progress), work_root=work_root)
        return self._report(owner=owner)

    def _report(self, *, merged: tuple[Merged, ...] = (), owner: str | None = None) -> TablesReport:
        plan = self._plan
        return TablesReport(
            backup_id=plan.request.manifest.backup_id,
            mode=plan.request.mode.value,
            target=plan.request.target.describe(),
            schema=plan.schema,
            owner=owner,
            rows=plan.rows,
            merged=merged,
            reads=plan.reads,
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _preview(self, touched: Sequence[Any], orphans: Sequence[Any]) -> TablesPreview:
        plan, request = self._plan, self._plan.request
        scripts = plan.blueprint.scripts
        return TablesPreview(
            backup_id=request.manifest.backup_id,
            manifest_sha256=request.manifest_sha256,
            snapshot_time=request.manifest.dump.snapshot.time,
            standing=request.standing,
            mode=request.mode,
            target=request.target.describe(),
            schema=plan.schema,
            reads=plan.reads,
            tables=tuple(self._tables()),
            touched=tuple(touched),
            orphans=tuple(orphans),
            left_out=() if scripts is None else scripts.left_out,
            warnings=tuple(self._warnings()),
            touches_children=request.touches_children,
        )

    def _tables(self) -> Iterator[TablePreview]:
        by_name = {table.table.name: table for table in self.staged}
        for table in self._plan.tables:
            staged = by_name.get(table.name)
            counts = {} if staged is None else staged.counts
            yield TablePreview(
                table=str(table.name),
                archived=table.rows,
                present=self._present(staged),
                missing=counts.get(Change.MISSING),
                changed=counts.get(Change.CHANGED),
                surplus=counts.get(Change.SURPLUS),
                fixed=0 if staged is None else staged.changed_in(staged.always_identity),
                note=self._plan.notes.get(table.name, ""),
            )

    def _present(self, staged: StagedTable | None) -> int | None:
        if staged is None or self._session is None:
            return None
        return count_rows(self._session, sql.SQL("SELECT count(*) AS n FROM {}").format(scope_of(staged.relation)))

    def _warnings(self) -> Iterator[str]:
        request, facts = self._plan.request, self._plan.facts
        if request.standing is not Standing.PROVEN:
            yield f"this backup is {request.standing.value}"
        if request.mode is Mode.BESIDE and not facts.may_create_role:
            yield f"{facts.role} may make no role, so that constraints of the backup run with its rights"
        if request.mode is not Mode.BESIDE and facts.is_superuser:
            yield f"{facts.role} is a superuser: constraints of the target's own tables run with its rights"


def _parts(table: StagedTable) -> tuple[str, str]:
    return table.table.name.schema, table.table.name.table
