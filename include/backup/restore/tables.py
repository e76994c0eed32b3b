"""Load table data straight from the store: each member is read, checked and copied at once, none lies on disk.

A table is loaded in one transaction that ends only after its member's hash was found right, so that damaged
rows are never there. pg_restore would need every member as a file first.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from include.backup.archive.members import uncompressed, without_trailer
from include.backup.archive.reader import ArchiveReader
from include.backup.errors import MemberHashError, RestoreError
from include.backup.manifest import Manifest, Member, TableData
from include.backup.postgres.session import OUTPUT_SETTINGS, connect
from include.backup.postgres.toc import Toc, parse_copy
from include.backup.proof.masking import without_row
from include.backup.restore.progress import Counter
from include.backup.restore.target import Target

SMALL_BYTES = 1 << 20
RUN_BYTES = 8 << 20
_PLAIN_TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
)


class _GivenUpError(Exception):
    """Raised in a thread whose work nobody wants any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableTask:
    """One table; ``freeze`` says that this restore made it, so that it may be emptied first."""

    member: Member
    table: TableData
    freeze: bool

    def statement(self) -> bytes:
        target = parse_copy(self.table.copy_statement)
        options = " WITH (FREEZE)" if self.freeze else ""
        return f"COPY {target.relation} {target.columns}FROM STDIN{options}".encode()

    def truncation(self) -> bytes:
        return f"TRUNCATE TABLE ONLY {_relation(self.table)}".encode()


@dataclass(slots=True, kw_only=True)
class TableLoader:
    """Loads all table data of an archive into objects that are there and empty, several tables at once."""

    reader: ArchiveReader
    target: Target
    manifest: Manifest
    toc: Toc
    jobs: int
    counter: Counter
    _sessions: list[psycopg.Connection[dict[str, Any]]] = field(default_factory=list)
    _local: threading.local = field(default_factory=threading.local)
    _given_up: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def loading(self) -> Iterator[Future[None]]:
        """Load while the block runs; the future ends with the last table, or raises what stopped the first.

        Leaving the block early stops the loading.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="tables") as outer:
            future = outer.submit(self._all)
            try:
                yield future
            finally:
                if not future.done():
                    self._stop()

    def _all(self) -> None:
        try:
            with ThreadPoolExecutor(self.jobs, thread_name_prefix="table") as pool:
                futures = [pool.submit(self._run, run) for run in side_by_side(self._tasks())]
                done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
                if waiting:
                    self._stop()
            _raise_first(future.exception() for future in (*done, *waiting))
        finally:
            for session in self._sessions:
                session.close()

    def _stop(self) -> None:
        self._given_up.set()
        for session in list(self._sessions):
            session.cancel_safe(timeout=5.0)

    def _tasks(self) -> list[TableTask]:
        made = {entry.dump_id for entry in self.toc.entries if entry.desc == "TABLE"}
        own = {entry.dump_id for entry in self.toc.table_data if made & set(entry.dependencies)}
        with connect(self.target.endpoint, settings={}) as session:
            plain = {str(row["name"]) for row in session.execute(_PLAIN_TABLES).fetchall()}
        return [
            TableTask(
                member=member,
                table=member.table_data,
                freeze=member.table_data.dump_id in own and _relation(member.table_data) in plain,
            )
            for member in self.manifest.members
            if member.table_data is not None
        ]

    def _run(self, tasks: Sequence[TableTask]) -> None:
        """Load tables that lie side by side in the archive."""
        by_name = {task.member.name: task for task in tasks}
        for member, stored in self.reader.stored_run([task.member for task in tasks]):
            self._one(by_name[member.name], stored)

    def _one(self, task: TableTask, stored: Iterator[bytes]) -> None:
        session = self._session()
        name = f"{task.table.schema}.{task.table.table}"
        try:
            with session.transaction():
                rows = self._copy(session, task, stored)
                if rows != task.table.rows:
                    raise RestoreError(f"{name} took {rows} rows and the backup has {task.table.rows}; look why")
        except psycopg.Error as error:
            if self._given_up.is_set():
                raise _GivenUpError from error
            # Only the message: details and context hold rows.
            said = without_row(error.diag.message_primary or " ".join(str(error).split()))
            raise RestoreError(f"{self.manifest.backup_id} does not restore: {name}: {said}") from None

    def _copy(self, session: psycopg.Connection[dict[str, Any]], task: TableTask, stored: Iterator[bytes]) -> int:
        """Copy one member. A table that this restore made is emptied in the same transaction: then its rows can
        be written as frozen, which spares every later reader a write.
        """
        digest = hashlib.sha256()
        content = uncompressed(self._passing(stored, digest), task.member.compression, name=task.member.name)
        if task.freeze:
            session.execute(task.truncation())
        cursor = session.cursor()
        with cursor.copy(task.statement()) as copy:
            for chunk in without_trailer(content, name=task.member.name):
                copy.write(chunk)
                self.counter.add(chunk.count(b"\n"))
            if digest.hexdigest() != task.member.stored_sha256:
                raise MemberHashError(
                    f"member {task.member.name} of {self.manifest.backup_id} is damaged: its SHA-256 is "
                    f"{digest.hexdigest()}, the manifest says {task.member.stored_sha256}; use another backup"
                )
        return cursor.rowcount

    def _passing(self, stored: Iterator[bytes], digest: Any) -> Iterator[bytes]:
        for chunk in stored:
            if self._given_up.is_set():
                raise _GivenUpError
            digest.update(chunk)
            yield chunk

    def _session(self) -> psycopg.Connection[dict[str, Any]]:
        """Return this thread's session, set as pg_restore sets its own and as the dump was written."""
        session: psycopg.Connection[dict[str, Any]] | None = getattr(self._local, "session", None)
        if session is None:
            session = connect(
                self.target.endpoint,
                settings={
                    **OUTPUT_SETTINGS,
                    **self.manifest.dump.session,
                    "xmloption": "content",
                    "synchronous_commit": "off",
                },
                client_encoding=self.manifest.dump.server.encoding,
            )
            self._local.session = session
            self._sessions.append(session)
        return session


def side_by_side(tasks: Sequence[TableTask]) -> list[list[TableTask]]:
    """Return tables in runs that one request reads, the largest run first: nothing else decides how long all take.

    A store takes its time for each request, and most tables of most databases are small.
    """
    runs: list[list[TableTask]] = []
    for task in sorted(tasks, key=lambda task: task.member.offset):
        if not runs or not _fits(runs[-1], task):
            runs.append([])
        runs[-1].append(task)
    return sorted(runs, key=lambda run: -sum(task.member.length for task in run))


def _fits(run: Sequence[TableTask], task: TableTask) -> bool:
    last, end = run[-1].member, task.member.offset + task.member.stored_length
    return (
        max(last.stored_length, task.member.stored_length) <= SMALL_BYTES
        and task.member.offset - last.offset - last.stored_length <= SMALL_BYTES
        and end - run[0].member.offset <= RUN_BYTES
    )


def _relation(table: TableData) -> str:
    return parse_copy(table.copy_statement).relation


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    """Raise the error that made the others give up."""
    found = [error for error in errors if error is not None]
    for error in found:
        if not isinstance(error, _GivenUpError):
            raise error
    if found:
        raise RestoreError("the loading was ended")
