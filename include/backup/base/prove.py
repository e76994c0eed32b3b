"""Prove a base backup: unpack what the store holds, start it, recover it to where it is consistent, read all of it."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from include.backup.base.preflight import base_tools
from include.backup.base.stored import StoredBase
from include.backup.errors import (
    ArchiveError,
    BackupMissingError,
    CommandError,
    CommandKilledError,
    ObjectMissingError,
    ObjectShortError,
    RestoreError,
    ScratchError,
    SourceError,
    ToolMissingError,
    WalSegmentMissingError,
)
from include.backup.manifest import Manifest, fingerprint
from include.backup.point_in_time.choose import Choice, Stored, Wanted, choose
from include.backup.point_in_time.cluster_copy import ClusterCopy, Landed, Place
from include.backup.point_in_time.target import RecoveryTarget, TargetKind
from include.backup.postgres.account import PASSABLE, ServerError, runtime_dir, scratch_user
from include.backup.postgres.session import options_value, query
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command, Runner
from include.backup.proof.checks import failures, run_checks
from include.backup.proof.record import (
    BaseProof,
    CheckResult,
    Difference,
    Isolation,
    Level,
    Proof,
    Result,
    TableRead,
)
from include.backup.proof.sandbox import probe_isolation
from include.backup.proof.scratch import fast_settings, usable_memory
from include.backup.proof.scratch_lease import Lease, release_stand_in, remove_scratch
from include.backup.store import ObjectStore

NOT_COMPARED = (
    "rows were not compared with the source, which goes on while a base backup is taken: shown is that every file, "
    "page and index is sound and every table can be read"
)
PORT = 5432
# Settings of a throw-away server that a recovery cannot do with: they differ from the source's, or are recovery's own.
_NOT_FOR_RECOVERY = ("wal_level", "max_wal_senders", "max_connections", "max_prepared_transactions", "archive_mode")
_BLOCKS = re.compile(r"Blocks scanned:\s*(\d+)")
_RELATION = re.compile(r"(?:checking|in) (?:heap|btree) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProofRequest:
    """What is to be proven, and where."""

    store: ObjectStore
    stored: Stored
    manifest: Manifest
    manifest_bytes: bytes
    scratch_root: Path
    jobs: int


@dataclass(slots=True, kw_only=True)
class _Findings:
    landed: Landed | None = None
    files: int = 0
    blocks: int | None = None
    relations: int | None = None
    tables: list[TableRead] = field(default_factory=list)
    checks: tuple[CheckResult, ...] = ()
    not_proven: list[str] = field(default_factory=lambda: [NOT_COMPARED])
    differences: list[Difference] = field(default_factory=list)
    durations: dict[str, float] = field(default_factory=dict)


def prove_base(
    request: BaseProofRequest, *, runner: Runner, log: logging.Logger, clock: Callable[[], datetime]
) -> Proof:
    """Start the backup in a scratch folder and read all of it; return the proof, passed or failed.

    A damaged archive or an unsound copy is a finding, not an exception. Raises WalSegmentMissingError when the WAL
    that it needs is not stored yet, ScratchError when the test itself could not be made.
    """
    started_at = clock()
    findings = _Findings()
    manifest = request.manifest
    tools = base_tools(manifest.dump.server.major)
    wanted = Wanted(target=RecoveryTarget(kind=TargetKind.CONSISTENT), base=manifest.backup_id, unproven=True)
    choice = _choice(request, wanted, findings)
    isolation = probe_isolation(scratch_user())
    if choice is not None:
        with _scratch_folder(request.scratch_root, log) as folder:
            _Prover(request, choice, tools, runner, log, findings, folder).run()
    landed = findings.landed
    return Proof(
        proof_id=f"{started_at:%Y%m%dT%H%M%SZ}_{secrets.token_hex(3)}",
        backup_id=manifest.backup_id,
        manifest_sha256=fingerprint(request.manifest_bytes),
        result=Result.FAILED if findings.differences else Result.PASSED,
        level=Level.DATA if len(findings.not_proven) > 1 else Level.COMPLETE,
        level_needed=Level(manifest.proof_level),
        started_at=started_at,
        finished_at=clock(),
        durations=findings.durations,
        server_version=tools.version,
        pg_restore_version=tools.version,
        isolation=Isolation(**isolation.to_dict()),
        tables=(),
        sequences=0,
        large_objects=0,
        schema_lines=0,
        checks=findings.checks,
        not_proven=tuple(findings.not_proven),
        differences=tuple(findings.differences),
        base=BaseProof(
            bases=() if choice is None else tuple(base.backup_id for base in choice.bases),
            lsn="" if landed is None else landed.lsn,
            timeline=0 if landed is None else landed.timeline,
            segments=0 if landed is None else landed.segments,
            files=findings.files,
            checksummed_blocks=findings.blocks,
            checked_relations=findings.relations,
            tables=tuple(findings.tables),
        ),
    )


def _choice(request: BaseProofRequest, wanted: Wanted, findings: _Findings) -> Choice | None:
    """Return the chain and its WAL; a link that is missing is a finding, WAL that is missing is not."""
    try:
        return choose(request.stored, wanted)
    except WalSegmentMissingError:
        raise
    except BackupMissingError as error:
        findings.differences.append(Difference(what="chain", name=request.manifest.backup_id, detail=str(error)))
        return None


class _Prover:
    def __init__(
        self,
        request: BaseProofRequest,
        choice: Choice,
        tools: PostgresTools,
        runner: Runner,
        log: logging.Logger,
        findings: _Findings,
        folder: Path,
    ) -> None:
        self._request = request
        self._tools = tools
        self._runner = runner
        self._log = log
        self._findings = findings
        self._base: StoredBase = choice.base
        isolation = probe_isolation(scratch_user())
        self._copy = ClusterCopy(
            store=request.store,
            choice=choice,
            chain=request.stored.chain,
            place=Place(
                folder=folder,
                user=scratch_user(),
                port=PORT,
                namespaces=isolation.namespaces,
                settings=_settings(folder, own_ipc="--ipc" in isolation.namespaces),
            ),
            tools=tools,
            runner=runner,
            log=log,
        )

    def run(self) -> None:
        try:
            self._findings.files = self._copy.build(verify=True)
            self._findings.landed = self._copy.recover()
            self._look()
        except (ArchiveError, RestoreError, ObjectMissingError, ObjectShortError) as error:
            if isinstance(error, WalSegmentMissingError):
                raise
            self._differs("base backup", self._base.backup_id, str(error))
        except ServerError as error:
            raise ScratchError(f"the restore test cannot be made: {error}") from error
        except SourceError as error:
            raise ScratchError(f"the copy on the scratch server cannot be reached: {error}") from error
        finally:
            self._findings.durations.update(self._copy.durations)
            self._copy.stop()

    def _look(self) -> None:
        started = time.monotonic()
        for database in self._base.base.databases:
            if database != "template0":
                self._read_tables(database)
        source = self._base.manifest.dump.server.database
        with self._copy.session(source) as session:
            self._findings.checks = run_checks(session, self._base.manifest.source)
        self._findings.differences.extend(failures(self._findings.checks))
        self._findings.durations["read"] = round(time.monotonic() - started, 3)
        self._timed("amcheck", self._check_relations)
        self._copy.shut_down()
        self._timed("checksums", self._check_pages)

    def _read_tables(self, database: str) -> None:
        with self._copy.session(database) as session:
            for row in query(session, "all_tables"):
                schema, name = session.execute("SELECT parse_ident(%s) AS p", (row["name"],)).fetchall()[0]["p"]
                statement = sql.SQL(
                    "SELECT count(*) AS rows, coalesce(sum(octet_length(t::text)), 0)::bigint AS bytes FROM ONLY {} t"
                ).format(sql.Identifier(schema, name))
                try:
                    found = session.execute(statement).fetchall()[0]
                except psycopg.Error as error:
                    detail = error.diag.message_primary or str(error)
                    self._differs("table", f"{database}.{row['name']}", f"cannot be read whole: {detail}")
                    continue
                self._findings.tables.append(
                    TableRead(database=database, table=row["name"], rows=found["rows"], bytes=found["bytes"])
                )

    def _check_relations(self) -> None:
        """Let amcheck look at every heap and B-tree, and look each row up in its indexes."""
        place = self._copy.place
        try:
            program = self._tools.path("pg_amcheck")
        except ToolMissingError as error:
            self._findings.not_proven.append(f"indexes were not checked: {error}")
            return
        argv = (
            program,
            "--all",
            "--install-missing",
            "--heapallindexed",
            "--no-password",
            "--verbose",
            f"--jobs={self._request.jobs}",
            f"--host={place.socket}",
            f"--port={place.port}",
            f"--username={self._base.base.superuser}",
            "--maintenance-db=template1",
        )
        counted = 0
        said: list[str] = []

        def line(text: str) -> None:
            nonlocal counted
            counted += bool(_RELATION.search(text))
            if not text.startswith("pg_amcheck: ") or "error" in text or "warning" in text:
                said.append(text)

        try:
            options = options_value(self._copy.quiet_session())
            self._runner.run(Command(argv=argv, environment={"PGOPTIONS": options}), on_line=line)
        except CommandKilledError:
            raise
        except CommandError as error:
            if "amcheck" in str(error) and "not available" in str(error):
                self._findings.not_proven.append(f"indexes were not checked: {error}")
                return
            for text in said[:10] or [str(error)]:
                self._differs("amcheck", self._base.backup_id, text)
        self._findings.relations = counted

    def _check_pages(self) -> None:
        """Let pg_checksums read every page of the stopped copy."""
        if not self._base.base.data_checksums:
            self._findings.not_proven.append("pages were not checked: the cluster has no data checksums")
            return
        data = self._copy.place.data
        argv = (self._tools.path("pg_checksums"), "--check", f"--pgdata={data}")
        lines: list[str] = []
        try:
            self._runner.run(Command(argv=argv, user=self._copy.place.user, folder=data), on_line=lines.append)
        except CommandKilledError:
            raise
        except CommandError as error:
            self._differs("pages", self._base.backup_id, str(error))
            return
        match = _BLOCKS.search("\n".join(lines))
        self._findings.blocks = int(match[1]) if match else 0

    def _differs(self, what: str, name: str, detail: str) -> None:
        self._findings.differences.append(Difference(what=what, name=name, detail=detail))

    def _timed(self, name: str, action: Callable[[], None]) -> None:
        started = time.monotonic()
        try:
            action()
        finally:
            self._findings.durations[name] = round(time.monotonic() - started, 3)


def _settings(folder: Path, *, own_ipc: bool) -> dict[str, str]:
    free = shutil.disk_usage(folder).free
    found = fast_settings(memory_bytes=usable_memory(), free_bytes=free, own_ipc=own_ipc)
    return {name: value for name, value in found.items() if name not in _NOT_FOR_RECOVERY}


@contextmanager
def _scratch_folder(root: Path, log: logging.Logger) -> Iterator[Path]:
    """Give a folder that the reaper knows, and remove it."""
    base = runtime_dir(root, scratch_user())
    name = f"scratch-{secrets.token_hex(4)}"
    work = base / f".{name}"
    work.mkdir(mode=PASSABLE)
    work.chmod(PASSABLE)
    Lease.of_this_process(now=datetime.now(UTC)).write(work)
    folder = work.rename(base / name)
    try:
        yield folder
    finally:
        try:
            remove_scratch(folder)
            release_stand_in(root)
        except (ScratchError, OSError) as error:
            log.warning("the scratch folder %s is left for the reaper: %s", folder, error)
