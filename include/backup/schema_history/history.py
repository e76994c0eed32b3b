"""Back a schema up to git: read it, compare it with what was committed last, commit, push."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from include.backup.connections import DatabaseConnection
from include.backup.errors import GitError, GitUnreachableError, ManifestError
from include.backup.policy import SchemaBackupPolicy, SourcePolicy
from include.backup.policy.schema_backup import schema_policy
from include.backup.postgres.commands import pg_dump_command
from include.backup.postgres.session import connect, query
from include.backup.postgres.toc import read_toc
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.schema_history.changes import SchemaChanges, commit_message, compare_objects, text_diff
from include.backup.schema_history.git import RemoteMovedError
from include.backup.schema_history.redaction import Redaction
from include.backup.schema_history.remote import GitRemote
from include.backup.schema_history.repository import WORK, SchemaRepository, open_repository
from include.backup.schema_history.snapshot import (
    DATABASE_FILE,
    OBJECTS_FILE,
    SCHEMA_FILE,
    SchemaObject,
    SchemaSnapshot,
    Writing,
    is_untouched,
    read_objects,
    take_snapshot,
)
from include.backup.steps.context import utc_now
from include.backup.steps.preflight import protection

FOLDER = "schema_history"
FILES = (SCHEMA_FILE, DATABASE_FILE, OBJECTS_FILE)
RUN_TRAILER = "Schema-Backup-Run"
PUSH_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedSchema:
    """What a run did. ``commit`` is None when the schema has not changed; ``head`` has the schema either way."""

    source: str
    head: str
    commit: str | None
    first: bool
    changes: SchemaChanges
    pushed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return ids and numbers."""
        return {
            "source": self.source,
            "head": self.head,
            "commit": self.commit,
            "first": self.first,
            "added": len(self.changes.added),
            "removed": len(self.changes.removed),
            "changed": len(self.changes.changed),
            "pushed": self.pushed,
            "seconds": self.seconds,
        }

    def line(self) -> str:
        """Return one line of evidence."""
        if self.commit is None:
            return f"the schema of {self.source} is as in {self.head[:12]}; nothing was committed, {self.seconds:.1f} s"
        counts = ", ".join(f"{len(names)} {word}" for word, names in self.changes.groups()) or "edited files restored"
        return f"the schema of {self.source} was pushed with {self.commit[:12]}: {counts}, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaPreview:
    """What a run would commit now."""

    head: str | None
    changes: SchemaChanges
    diff: str


@dataclass(frozen=True, kw_only=True)
class SchemaHistory:
    """One source's schema and its remote."""

    source: SourcePolicy
    database: DatabaseConnection
    remote: GitRemote
    staging_root: Path
    runner: Runner
    run_id: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("include.backup.steps"))
    clock: Callable[[], datetime] = utc_now

    @property
    def policy(self) -> SchemaBackupPolicy:
        return schema_policy(self.source)

    @property
    def folder(self) -> Path:
        """The local repository."""
        return self.staging_root / FOLDER / self.source.name

    def back_up(self) -> CommittedSchema:
        """Commit and push the schema if it has changed. A retry of a killed run makes no second commit."""
        started = time.monotonic()
        with self._open() as repository:
            snapshot = self._read(repository.git.folder)
            pushed = self._push(repository, snapshot)
            head = repository.tip() or ""
            commit = repository.last_commit(head)
            if not pushed and (commit is None or not self._is_ours(repository.message(commit))):
                commit = None
            oldest = pushed[0] if pushed else commit
            parent = None if oldest is None else repository.tip_before(oldest)
            before, after = self._objects(repository, parent), self._objects(repository, commit)
        return CommittedSchema(
            source=self.source.name,
            head=head,
            commit=commit,
            first=commit is not None and not before,
            changes=compare_objects(before, after),
            pushed=len(pushed),
            seconds=round(time.monotonic() - started, 3),
        )

    def preview(self) -> SchemaPreview:
        """Compare the schema with what was committed last; commit and push nothing."""
        with self._open() as repository:
            repository.fetch()
            snapshot = self._read(repository.git.folder)
            head = repository.tip()
            return SchemaPreview(
                head=head,
                changes=compare_objects(self._objects(repository, head), snapshot.objects),
                diff=diff_of(
                    {name: repository.read(head, name) for name in FILES}, snapshot.files, ("committed", "now")
                ),
            )

    def committed(self, commit: str) -> SchemaSnapshot:
        """Return the schema of a commit."""
        with self._open() as repository:
            if not repository.has(commit):
                repository.fetch()
            files = {name: repository.read(commit, name) or b"" for name in FILES}
        return SchemaSnapshot(objects=read_objects(files[OBJECTS_FILE], name=f"{commit}:{OBJECTS_FILE}"), files=files)

    def writing(self, *, encoding: str, extension_versions: dict[str, str]) -> Writing:
        """Return how this source's schema is written."""
        return Writing(
            source=self.source.name,
            encoding=encoding,
            redaction=Redaction(
                (
                    *self.secrets,
                    *self.remote.secrets,
                    *([str(self.database.password)] if self.database.password else []),
                )
            ),
            withheld=self.policy.withheld,
            extension_versions=extension_versions,
        )

    def _open(self) -> AbstractContextManager[SchemaRepository]:
        return open_repository(self.folder, remote=self.remote, policy=self.policy, runner=self.runner)

    def _read(self, folder: Path) -> SchemaSnapshot:
        """Dump the definitions. The dump has the secrets in it: it is in a folder of ours alone, and removed."""
        with connect(self.database) as connection, TemporaryDirectory(prefix=WORK, dir=folder) as name:
            protection(self.database, connection, log=self.log)
            server = query(connection, "server")[0]
            extensions = {str(row["name"]): str(row["version"]) for row in query(connection, "extensions")}
            target = Path(name) / "dump"
            self.runner.run(
                pg_dump_command(
                    find_tools(self.source.postgres_major or server["major"], at_least=server["major"]),
                    self.database,
                    target=target,
                    jobs=1,
                    compression_level=1,
                    lock_timeout_seconds=self.source.lock_timeout_seconds,
                    encoding=server["encoding"],
                    excluded_schemas=self.source.excluded_schemas,
                    excluded_tables=self.source.excluded_tables,
                    options=("--schema-only",),
                )
            )
            toc = read_toc((target / "toc.dat").read_bytes())
        return take_snapshot(toc, self.writing(encoding=server["encoding"], extension_versions=extensions))

    def _is_ours(self, message: str) -> bool:
        return f"{RUN_TRAILER}: {self.run_id}" in message.splitlines()

    def _push(self, repository: SchemaRepository, snapshot: SchemaSnapshot) -> tuple[str, ...]:
        """Commit if need be and push; begin again when somebody else was quicker. Return the commits that went."""
        for attempt in range(1, PUSH_ATTEMPTS + 1):
            try:
                repository.fetch()
            except GitError:
                if repository.tip(repository.remembered) is not None:
                    self._commit(repository, snapshot)  # today's schema is kept, and goes with a later push
                raise
            self._commit(repository, snapshot)
            pending = repository.pending()
            try:
                repository.push()
            except RemoteMovedError as error:
                self.log.info("%s; attempt %d of %d", error, attempt, PUSH_ATTEMPTS)
            else:
                return pending
        raise GitUnreachableError(
            f"others pushed to {self.remote.url} each time in {PUSH_ATTEMPTS} attempts; the commit is kept, run again"
        )

    def _commit(self, repository: SchemaRepository, snapshot: SchemaSnapshot) -> None:
        head = repository.tip()
        files = {name: repository.read(head, name) for name in FILES}
        before = self._objects(repository, head)
        changes = compare_objects(before, snapshot.objects)
        if not changes and is_untouched(files):
            return
        first = all(content is None for content in files.values())
        message = commit_message(self.source.name, changes, first=first, trailers=(f"{RUN_TRAILER}: {self.run_id}",))
        commit = repository.commit(snapshot.files, message, when=self.clock())
        self.log.info("committed %s: %s", commit[:12], message.partition("\n")[0])

    def _objects(self, repository: SchemaRepository, commit: str | None) -> tuple[SchemaObject, ...]:
        content = repository.read(commit, OBJECTS_FILE)
        if content is None:
            return ()
        try:
            return read_objects(content, name=f"{commit}:{self.policy.folder}/{OBJECTS_FILE}")
        except ManifestError as error:
            self.log.warning("%s; the schema is written anew", error)
            return ()


def diff_of(before: Mapping[str, bytes | None], after: Mapping[str, bytes], names: tuple[str, str]) -> str:
    """Return the difference between the SQL files of two moments."""
    parts = (
        text_diff(before[name] or b"", after[name], names=(f"{names[0]}/{name}", f"{names[1]}/{name}"))
        for name in (SCHEMA_FILE, DATABASE_FILE)
    )
    return "\n".join(part for part in parts if part)
