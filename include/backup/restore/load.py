"""Load a backup into a database that is there and empty: objects, rows, indexes, foreign keys, statistics."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psycopg

from include.backup.archive.reader import ArchiveReader, member_path, unpack_for_old_pg_restore
from include.backup.duration import timed
from include.backup.errors import CommandError, CommandKilledError, RestoreError, TargetFullError
from include.backup.manifest import Member
from include.backup.postgres.commands import ZSTD_SINCE, pg_restore_command
from include.backup.postgres.finishing import finish
from include.backup.postgres.foreign_keys import KEY_SETTINGS, Split, add_unchecked, split_keys
from include.backup.postgres.session import connect
from include.backup.postgres.toc import TocEntry
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest
from include.backup.proof.masking import findings
from include.backup.restore.plan import TOC_MEMBER, RestorePlan
from include.backup.restore.progress import Counter, Progress
from include.backup.restore.tables import TableLoader, archive_tasks
from include.backup.restore.target import NO_SPACE, disk_full

# What building the indexes may take of the target's memory, over all jobs.
INDEX_MEMORY_MB = 512
LEAST_INDEX_MEMORY_MB = 64
SHOWN_FINDINGS = 3
_CREATING = re.compile(r": creating [A-Z ]+ ")


@dataclass(slots=True, kw_only=True)
class Load:
    """One load; afterwards ``digests`` is what was read of tables in streams, if somebody is going to compare."""

    plan: RestorePlan
    runner: Runner
    log: logging.Logger
    progress: Progress
    durations: dict[str, float]
    refused_properties: tuple[str, ...] = ()
    digests: dict[str, MultisetDigest] = field(default_factory=dict)

    def run(self, folder: Path) -> None:
        """Make the objects, load the rows, make indexes and constraints; what is no table is fetched meanwhile."""
        request = self.plan.request
        toc = member_path(folder, TOC_MEMBER)
        toc.parent.mkdir(mode=0o700)
        toc.write_bytes(self.plan.toc_bytes)
        with ThreadPoolExecutor(1, thread_name_prefix="fetch") as pool:
            fetch = pool.submit(self._fetch_others, folder)
            with timed(self.durations, "objects"):
                self._pg_restore(toc.parent, "--section=pre-data", jobs=1)
            with timed(self.durations, "rows"):
                self._rows(toc.parent, fetch)
        split = split_keys(self.plan.toc.entries)
        with timed(self.durations, "indexes"):
            self._indexes(toc.parent, split)
        with timed(self.durations, "finish"):
            self._finish(toc.parent, split)
        if request.create:
            self.refused_properties = request.target.set_properties(self.plan.toc, request.manifest)
            for text in self.refused_properties:
                self.log.warning("not restored: %s", text)

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
            entries = [entry for entry in self.plan.toc.entries if not entry.is_table_data]
            self._pg_restore(dump, "--section=data", entries=entries, jobs=1)
            loaded.result()
        self.log.info("%d rows loaded, every member's hash as recorded", manifest.rows)

    def _indexes(self, dump: Path, split: Split) -> None:
        """Make indexes, and of what else comes after the rows that which can come before the foreign keys."""
        self.progress.phase("indexing", len(split.first), "objects")
        counter = Counter(self.progress)

        def line(text: str) -> None:
            if _CREATING.search(text):
                counter.add(1)

        self._pg_restore(dump, "--section=post-data", "--verbose", entries=split.first, on_line=line)

    def _finish(self, dump: Path, split: Split) -> None:
        """Make the foreign keys and check them while tables are analyzed; event triggers last, that none is set off."""
        self.progress.phase("checking", len(split.keys), "foreign keys")
        counter = Counter(self.progress)
        endpoint, encoding = self.plan.request.target.endpoint, self.plan.request.manifest.dump.server.encoding
        with self._named():
            with connect(endpoint, settings=KEY_SETTINGS, client_encoding=encoding) as session:
                keys, refused = add_unchecked(session, split.keys)
            finish(
                endpoint,
                jobs=self.plan.request.jobs,
                keys=keys,
                settings=self._index_settings(),
                on_key=lambda: counter.add(1),
            )
        if last := [*refused, *split.last]:
            self._pg_restore(dump, "--section=post-data", entries=last)

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
        self,
        dump: Path,
        *options: str,
        entries: Sequence[TocEntry] | None = None,
        jobs: int | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Run pg_restore for ``entries``; None: for all of them."""
        request = self.plan.request
        said: list[str] = []

        def line(text: str) -> None:
            said.extend(findings(text))
            if on_line is not None:
                on_line(text)

        use_list = None
        if entries is not None:
            use_list = dump.parent / "restore.list"
            use_list.write_text("".join(f"{entry.dump_id};\n" for entry in entries))
        command = pg_restore_command(
            self.plan.tools,
            request.target.endpoint,
            dump=dump,
            jobs=jobs or request.jobs,
            use_list=use_list,
            options=("--no-tablespaces", *options),
            settings={"synchronous_commit": "off", **self._index_settings()},
        )
        try:
            self.runner.run(command, on_line=line)
        except CommandKilledError:
            raise
        except CommandError as error:
            # The rest of the output, so the cause, stays out: it shows statements with their passwords.
            self._refuse("; ".join(said[:SHOWN_FINDINGS]) or str(error).partition(":")[0])

    def _index_settings(self) -> dict[str, str]:
        return {"maintenance_work_mem": f"{index_memory_mb(self.plan.request.jobs)}MB"}

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what PostgreSQL refuses which backup it is; without details, which hold rows."""
        try:
            yield
        except psycopg.Error as error:
            self._refuse(error.diag.message_primary or " ".join(str(error).split()))

    def _refuse(self, text: str) -> NoReturn:
        backup_id = self.plan.request.manifest.backup_id
        if NO_SPACE in text:
            raise TargetFullError(disk_full(backup_id, text)) from None
        raise RestoreError(f"{backup_id} does not restore: {text}") from None


def index_memory_mb(jobs: int) -> int:
    """Return maintenance_work_mem for each of several sessions."""
    return max(LEAST_INDEX_MEMORY_MB, INDEX_MEMORY_MB // jobs)
