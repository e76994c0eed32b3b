"""Prove a backup: restore what the store holds, compare all of it, and say what was and was not shown."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from include.backup.archive.contents import check_contents
from include.backup.archive.reader import ArchiveReader, fetched_content, unpack_for_old_pg_restore
from include.backup.errors import (
    ArchiveError,
    CommandError,
    CommandKilledError,
    ObjectMissingError,
    ObjectShortError,
    RestoreError,
    ScratchError,
    SourceError,
)
from include.backup.manifest import Manifest, fingerprint
from include.backup.postgres.commands import ZSTD_SINCE, pg_dump_command, pg_dumpall_globals_command
from include.backup.postgres.session import connect, output_settings
from include.backup.postgres.toc import Toc, read_toc
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.process import Command, Runner
from include.backup.proof.checks import failures, run_checks
from include.backup.proof.gaps import Gaps
from include.backup.proof.globals import NOT_CARRIED, compare_roles
from include.backup.proof.large_objects import compare_large_objects
from include.backup.proof.loading import MAINTENANCE_DATABASE, Loaded, ScratchLoader
from include.backup.proof.own_faults import blaming_archive, run_on_scratch
from include.backup.proof.partial import is_partial
from include.backup.proof.recomputed import RECOMPUTED_COLUMNS, RECOMPUTED_VIEWS, recomputed
from include.backup.proof.record import (
    CheckResult,
    Difference,
    Isolation,
    Level,
    Proof,
    Result,
    TableProof,
)
from include.backup.proof.rows import RowComparer
from include.backup.proof.schema import compare_schema
from include.backup.proof.scratch import ScratchServer
from include.backup.proof.sequences import compare_sequences, compare_views
from include.backup.store import ObjectStore

Returned = TypeVar("Returned")
# What no proof shows: it is said, and lowers no level.
_OF_ANY_PROOF = frozenset({NOT_CARRIED, RECOMPUTED_COLUMNS, RECOMPUTED_VIEWS})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRequest:
    """What is to be proven, and where."""

    store: ObjectStore
    manifest: Manifest
    manifest_bytes: bytes
    scratch_root: Path
    jobs: int
    level_needed: Level
    allowed_gaps: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Findings:
    """What the comparison gathered so far."""

    tables: tuple[TableProof, ...] = ()
    sequences: int = 0
    large_objects: int = 0
    schema_lines: int = 0
    checks: tuple[CheckResult, ...] = ()
    not_proven: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    durations: dict[str, float] = field(default_factory=dict)


def prove(request: ProofRequest, *, runner: Runner, log: logging.Logger, clock: Callable[[], datetime]) -> Proof:
    """Restore into a scratch server and compare; return the proof, passed or failed.

    A damaged archive is a finding, not an exception; raises ScratchError or StoreUnreachableError when the test
    itself could not be made.
    """
    started_at = clock()
    findings = _Findings()
    fits = request.manifest.fits
    tools = find_tools(request.manifest.dump.server.major, at_least=fits.pg_restore_minimum, server=True)
    with ScratchServer(root=request.scratch_root, tools=tools, runner=runner, log=log) as scratch:
        isolation = Isolation(**scratch.isolation.to_dict())
        try:
            _Prover(request, scratch, tools, runner, log, findings).run()
        except (ArchiveError, RestoreError, ObjectMissingError, ObjectShortError) as error:
            findings.differences.append(Difference(what="archive", name=request.manifest.backup_id, detail=str(error)))
    level = _level(findings, request)
    return Proof(
        proof_id=f"{started_at:%Y%m%dT%H%M%SZ}_{secrets.token_hex(3)}",
        backup_id=request.manifest.backup_id,
        manifest_sha256=fingerprint(request.manifest_bytes),
        result=Result.FAILED if findings.differences else Result.PASSED,
        level=level,
        level_needed=request.level_needed,
        started_at=started_at,
        finished_at=clock(),
        durations=findings.durations,
        server_version=tools.version,
        pg_restore_version=tools.version,
        isolation=isolation,
        tables=findings.tables,
        sequences=findings.sequences,
        large_objects=findings.large_objects,
        schema_lines=findings.schema_lines,
        checks=findings.checks,
        not_proven=tuple(findings.not_proven),
        differences=tuple(findings.differences),
    )


class _Prover:
    def __init__(
        self,
        request: ProofRequest,
        scratch: ScratchServer,
        tools: PostgresTools,
        runner: Runner,
        log: logging.Logger,
        findings: _Findings,
    ) -> None:
        self._request = request
        self._manifest = request.manifest
        self._scratch = scratch
        self._tools = tools
        self._runner = runner
        self._log = log
        self._findings = findings
        # The server's user may pass through its folder, and must not read the roles' passwords in it.
        self._folder = scratch.folder / "archive"
        self._folder.mkdir(mode=0o700)

    def run(self) -> None:
        try:
            self._timed("fetch", self._fetch)
            toc = read_toc((self._folder / "dump" / "toc.dat").read_bytes())
            check_contents(toc, self._manifest)
            with blaming_archive("the copy cannot be read"):
                loaded = self._timed("restore", lambda: self._load(toc))
                self._timed("compare", lambda: self._compare(toc, loaded))
        except SourceError as error:
            raise ScratchError(f"the copy on the scratch server cannot be reached: {error}") from error
        except OSError as error:
            raise ScratchError(f"the restore test cannot be made in {self._scratch.folder}: {error}") from error

    def _fetch(self) -> None:
        reader = ArchiveReader(self._request.store, self._manifest)
        reader.fetch_all(self._folder, progress=lambda _: None)
        if self._tools.major < ZSTD_SINCE:
            unpack_for_old_pg_restore(self._folder / "dump")
        self._log.info("archive read as stored, %d bytes, every hash as recorded", self._manifest.archive.size)

    def _load(self, toc: Toc) -> Loaded:
        loader = ScratchLoader(
            scratch=self._scratch,
            tools=self._tools,
            runner=self._runner,
            dump=self._folder / "dump",
            jobs=self._request.jobs,
        )
        loaded = loader.load(
            self._manifest,
            toc,
            self._folder / "globals.sql",
            log=lambda text: self._log.info("%s", text),
        )
        self._findings.durations.update({f"restore_{name}": value for name, value in loaded.durations.items()})
        self._findings.not_proven.extend((NOT_CARRIED, *recomputed(toc), *loaded.not_proven))
        self._findings.differences.extend(
            Difference(what="TABLE DATA", name=name, detail="could not be restored, so it is not proven")
            for name in loaded.gaps.skipped_table_data
        )
        return loaded

    def _compare(self, toc: Toc, loaded: Loaded) -> None:
        comparer = RowComparer(
            runner=self._runner,
            tools=self._tools,
            endpoint=self._scratch.loader.on(loaded.database),
            manifest=self._manifest,
            content=partial(fetched_content, self._folder),
            jobs=self._request.jobs,
        )
        tables, differences = comparer.compare(log=lambda text: self._log.info("%s", text))
        self._findings.tables = tables
        self._findings.differences.extend(differences)
        self._compare_state(toc, loaded)
        self._compare_schema(toc, loaded)
        self._compare_roles()

    def _compare_state(self, toc: Toc, loaded: Loaded) -> None:
        skipped = loaded.gaps.skipped
        settings = output_settings(self._tools.major)
        with connect(self._scratch.loader.on(loaded.database), settings=settings) as connection:
            self._findings.sequences, differences = compare_sequences(connection, toc, skipped=skipped)
            self._findings.differences.extend(differences)
            self._findings.differences.extend(compare_views(connection, toc, skipped=skipped))
            self._compare_extensions(
                connection.execute("SELECT extname, extversion FROM pg_catalog.pg_extension").fetchall(),
                loaded.gaps,
            )
            # A source's own queries ask about all its rows.
            own = None if is_partial(self._manifest) else self._manifest.source
            self._findings.checks = run_checks(connection, own)
            self._findings.differences.extend(failures(self._findings.checks))

    def _compare_extensions(self, rows: Sequence[dict[str, object]], gaps: Gaps) -> None:
        there = {str(row["extname"]): str(row["extversion"]) for row in rows}
        for extension in self._manifest.dump.extensions:
            version = there.get(extension.name)
            if version is not None and version != extension.version:
                self._findings.not_proven.append(
                    f"EXTENSION {extension.name} {extension.version} was restored as {version}"
                )
            elif version is None and not any(
                reason.startswith(f"EXTENSION {extension.name} ") for reason in gaps.reasons
            ):
                self._differs("EXTENSION", extension.name, "is not there after the restore")

    def _compare_schema(self, toc: Toc, loaded: Loaded) -> None:
        target = self._folder / "restored"
        command = pg_dump_command(
            self._tools,
            self._scratch.admin.on(loaded.database),
            target=target,
            jobs=self._request.jobs,
            compression_level=1,
            lock_timeout_seconds=60,
            encoding=self._manifest.dump.server.encoding,
            options=("--exclude-table-data=*.*",),
        )
        self._dump_again(command)
        restored = read_toc((target / "toc.dat").read_bytes())
        lines, differences = compare_schema(
            toc,
            restored,
            extension_owner=self._scratch.admin.user,
            skipped=loaded.gaps.skipped,
            locale_replaced=any("locale" in text for text in loaded.not_proven),
        )
        self._findings.schema_lines = lines
        self._findings.differences.extend(differences)
        count, differences = compare_large_objects(self._manifest, target)
        self._findings.large_objects = count
        self._findings.differences.extend(differences)

    def _compare_roles(self) -> None:
        target = self._folder / "restored.globals.sql"
        command = pg_dumpall_globals_command(
            self._tools,
            self._scratch.admin.on(MAINTENANCE_DATABASE),
            target=target,
            role_passwords=self._manifest.dump.role_passwords,
        )
        self._dump_again(command)
        ours = (self._scratch.admin.user, self._scratch.loader.user)
        archived = (self._folder / "globals.sql").read_text()
        self._findings.differences.extend(compare_roles(archived, target.read_text(), without=ours))

    def _dump_again(self, command: Command) -> None:
        try:
            run_on_scratch(self._runner, command, folder=self._folder)
        except CommandKilledError:
            raise
        except CommandError as error:
            raise RestoreError(f"the copy cannot be dumped again: {error}") from error

    def _differs(self, what: str, name: str, detail: str) -> None:
        self._findings.differences.append(Difference(what=what, name=name, detail=detail))

    def _timed(self, name: str, action: Callable[[], Returned]) -> Returned:
        started = time.monotonic()
        try:
            return action()
        finally:
            self._findings.durations[name] = round(time.monotonic() - started, 3)


def _level(findings: _Findings, request: ProofRequest) -> Level:
    """Return the level reached; a level below the needed one is a difference unless the policy allows the gap."""
    gaps = [text for text in findings.not_proven if text not in _OF_ANY_PROOF]
    level = Level.DATA if gaps else Level.COMPLETE
    if level is Level.DATA and request.level_needed is Level.COMPLETE:
        findings.differences.extend(
            Difference(what="not proven", name=request.manifest.backup_id, detail=text)
            for text in _not_allowed(gaps, request.allowed_gaps)
        )
    return level


def _not_allowed(gaps: Iterable[str], allowed: Sequence[str]) -> Iterable[str]:
    return (gap for gap in gaps if not any(text in gap for text in allowed))
