"""Load table data straight from the store: each member is read, checked and copied at once, none lies on disk.

A table is there only when its member's end, hash and number of rows were found right, so that damaged rows are
never seen. pg_restore would need every member as a file first, and splits no table: here one that is larger than
its share of the work goes through several streams (streams.py), all others through one each.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import psycopg

from include.backup.archive.members import uncompressed, without_trailer
from include.backup.errors import MemberHashError, RestoreError, TargetFullError
from include.backup.manifest import Manifest, Member, TableData
from include.backup.postgres.session import OUTPUT_SETTINGS, Endpoint, connect
from include.backup.postgres.side_by_side import stop
from include.backup.postgres.toc import Toc, parse_copy
from include.backup.proof.digest import BothDigests, MultisetDigest
from include.backup.proof.masking import without_row
from include.backup.restore.progress import Counter
from include.backup.restore.streams import AbandonedError, Stream, share_out
from include.backup.restore.target import disk_full

# Below that the start of more sessions costs more than it saves.
SPLIT_BYTES = 32 << 20
SMALL_BYTES = 1 << 20
RUN_BYTES = 8 << 20
_PLAIN_TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
)


class _GivenUpError(Exception):
    """Raised in a thread whose work nobody wants any more."""


class StoredMembers(Protocol):
    """Where members are read from, as stored."""

    def stored_run(self, members: Sequence[Member]) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Yield members that follow each other with their bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableTask:
    """One table. ``freeze`` says that this restore made it, so that it may be emptied first; ``relation``, quoted,
    is where the rows go if not where they came from.
    """

    member: Member
    table: TableData
    freeze: bool
    relation: str | None = None

    @property
    def target(self) -> str:
        return self.relation or parse_copy(self.table.copy_statement).relation

    def statement(self, *, freeze: bool) -> bytes:
        options = " WITH (FREEZE)" if freeze else ""
        columns = parse_copy(self.table.copy_statement).columns
        return f"COPY {self.target} {columns}FROM STDIN{options}".encode()

    def truncation(self) -> bytes:
        return f"TRUNCATE TABLE ONLY {self.target}".encode()


def archive_tasks(manifest: Manifest, toc: Toc, endpoint: Endpoint) -> tuple[TableTask, ...]:
    """Return all table data of an archive, for a database in which its objects are there."""
    made = {entry.dump_id for entry in toc.entries if entry.desc == "TABLE"}
    own = {entry.dump_id for entry in toc.table_data if made & set(entry.dependencies)}
    with connect(endpoint, settings={}) as session:
        plain = {str(row["name"]) for row in session.execute(_PLAIN_TABLES).fetchall()}
    tasks = (
        TableTask(member=member, table=member.table_data, freeze=member.table_data.dump_id in own)
        for member in manifest.members
        if member.table_data is not None
    )
    return tuple(task if task.target in plain else replace(task, freeze=False) for task in tasks)


@dataclass(slots=True, kw_only=True)
class TableLoader:
    """Loads table data into objects that are there and empty, several tables at once."""

    reader: StoredMembers
    endpoint: Endpoint
    manifest: Manifest
    tasks: Sequence[TableTask]
    jobs: int
    counter: Counter
    # What the archive holds of each member's lines, whatever their order, where somebody wants to know.
    digests: dict[str, MultisetDigest] | None = None
    # Of those in streams alone: the others keep their order, so that the SHA-256 in the manifest tells their rows.
    only_split: bool = False
    # Of the loading sessions, besides those that every load needs.
    settings: Mapping[str, str] = field(default_factory=dict)
    _sessions: list[psycopg.Connection[dict[str, Any]]] = field(default_factory=list)
    _local: threading.local = field(default_factory=threading.local)
    _given_up: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def loading(self) -> Iterator[Future[None]]:
        """Load while the block runs; the future ends with the last table, or raises what stopped the first.

        Leaving the block early stops the loading.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="tables") as outer:
            future = outer.submit(self.load)
            try:
                yield future
            finally:
                self._stop(future)

    def load(self) -> None:
        """Load everything: what is split first, one after the other, then the rest side by side."""
        try:
            split, others = to_be_split(self.tasks, self.jobs)
            for task in split:
                self._split(task)
            self._side_by_side(others)
        finally:
            for session in self._sessions:
                session.close()

    def _side_by_side(self, tasks: Sequence[TableTask]) -> None:
        with ThreadPoolExecutor(self.jobs, thread_name_prefix="table") as pool:
            futures = [pool.submit(self._run, run) for run in side_by_side(tasks)]
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            self._stop(*waiting)
        _raise_first(future.exception() for future in (*done, *waiting))

    def _stop(self, *futures: Future[None]) -> None:
        stop(futures, self._sessions, self._given_up)

    def _run(self, tasks: Sequence[TableTask]) -> None:
        """Load tables that lie side by side in the archive."""
        by_name = {task.member.name: task for task in tasks}
        for member, stored in self.reader.stored_run([task.member for task in tasks]):
            self._one(by_name[member.name], stored)

    def _one(self, task: TableTask, stored: Iterator[bytes]) -> None:
        """Load a table in one transaction. What this restore made is emptied in the same one: then its rows can be
        written as frozen, which spares every later reader a write.
        """
        session = self._session()
        with self._named(task), session.transaction():
            if task.freeze:
                session.execute(task.truncation())
            cursor = session.cursor()
            with cursor.copy(task.statement(freeze=task.freeze)) as copy:
                for chunk in self._content(task, stored, digested=not self.only_split):
                    copy.write(chunk)
            self._check_rows(task, cursor.rowcount)

    def _split(self, task: TableTask) -> None:
        """Load one table through as many streams as there are jobs."""
        statement = task.statement(freeze=False)
        ((_, stored),) = self.reader.stored_run([task.member])
        with self._named(task):
            streams = [Stream(self._open(), statement) for _ in range(self.jobs)]
            try:
                share_out(self._content(task, stored, digested=True), streams)
                self._check_rows(task, sum(stream.copied() for stream in streams))
                for stream in streams:
                    stream.commit()
            finally:
                for stream in streams:
                    stream.abandon()

    def _content(self, task: TableTask, stored: Iterator[bytes], *, digested: bool) -> Iterator[bytes]:
        digest = BothDigests() if digested and self.digests is not None else None
        for chunk in checked_lines(self._passing(stored), task.member, backup_id=self.manifest.backup_id):
            yield chunk
            if digest is not None:
                digest.add(chunk)
            self.counter.add(chunk.count(b"\n"), len(chunk))
        if digest is not None and self.digests is not None:
            stream, lines = digest.result()
            if stream.sha256 != task.table.content_sha256:
                raise MemberHashError(
                    f"member {task.member.name} of {self.manifest.backup_id} holds lines with SHA-256 {stream.sha256}, "
                    f"the manifest says {task.table.content_sha256}; use another backup"
                )
            self.digests[task.member.name] = lines

    def _check_rows(self, task: TableTask, rows: int) -> None:
        if rows != task.table.rows:
            raise RestoreError(f"{_name(task)} took {rows} rows and the backup has {task.table.rows}; look why")

    @contextmanager
    def _named(self, task: TableTask) -> Iterator[None]:
        """Say of what PostgreSQL refuses which table it is."""
        try:
            yield
        except (psycopg.Error, AbandonedError) as error:
            if self._given_up.is_set() or isinstance(error, AbandonedError):
                raise _GivenUpError from error
            # Only the message: details and context hold rows.
            said = without_row(error.diag.message_primary or " ".join(str(error).split()))
            if isinstance(error, psycopg.errors.DiskFull):
                raise TargetFullError(disk_full(f"{self.manifest.backup_id}: {_name(task)}", said)) from None
            raise RestoreError(f"{self.manifest.backup_id} does not restore: {_name(task)}: {said}") from None

    def _passing(self, stored: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in stored:
            if self._given_up.is_set():
                raise _GivenUpError
            yield chunk

    def _session(self) -> psycopg.Connection[dict[str, Any]]:
        """Return this thread's session."""
        session: psycopg.Connection[dict[str, Any]] | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._open()
        return session

    def _open(self) -> psycopg.Connection[dict[str, Any]]:
        """Open a session, set as pg_restore sets its own and as the dump was written."""
        session = connect(
            self.endpoint,
            settings={**loading_settings(self.manifest), **self.settings},
            client_encoding=self.manifest.dump.server.encoding,
        )
        self._sessions.append(session)
        if self._given_up.is_set():
            raise _GivenUpError
        return session


def checked_lines(stored: Iterator[bytes], member: Member, *, backup_id: str) -> Iterator[bytes]:
    """Yield a member's lines; raises, at the end at the latest, when they are not those that were stored."""
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in stored:
            digest.update(chunk)
            yield chunk

    content = uncompressed(hashed(), member.compression, name=member.name)
    yield from without_trailer(content, name=member.name)
    if digest.hexdigest() != member.stored_sha256:
        raise MemberHashError(
            f"member {member.name} of {backup_id} is damaged: its SHA-256 is {digest.hexdigest()}, "
            f"the manifest says {member.stored_sha256}; use another backup"
        )


def loading_settings(manifest: Manifest) -> dict[str, str]:
    """Return the settings of a session into which a dump's rows are copied."""
    return {**OUTPUT_SETTINGS, **manifest.dump.session, "xmloption": "content", "synchronous_commit": "off"}


def to_be_split(tasks: Sequence[TableTask], jobs: int) -> tuple[tuple[TableTask, ...], tuple[TableTask, ...]]:
    """Return the tables that one stream each would still load when all others are done, and the others.

    Rows through one stream keep their order and are written as frozen, so that no more is split than has to be.
    """
    largest_first = sorted(tasks, key=lambda task: -task.member.length)
    left = sum(task.member.length for task in tasks)
    split: list[TableTask] = []
    for task in largest_first:
        if jobs == 1 or task.member.length < SPLIT_BYTES or task.member.length * jobs <= left:
            break
        split.append(task)
        left -= task.member.length
    return tuple(split), tuple(largest_first[len(split) :])


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


def _name(task: TableTask) -> str:
    return f"{task.table.schema}.{task.table.table}"


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    """Raise the error that made the others give up."""
    found = [error for error in errors if error is not None]
    for error in found:
        if not isinstance(error, _GivenUpError):
            raise error
    if found:
        raise RestoreError("the loading was ended")
