"""What a restore would do, and every reason not to: found out before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from include.backup.archive.contents import check_contents
from include.backup.archive.reader import ArchiveReader
from include.backup.connections import DatabaseConnection
from include.backup.errors import RestoreRefusedError
from include.backup.inventory import Standing
from include.backup.manifest import Manifest
from include.backup.postgres.toc import Toc, read_toc
from include.backup.postgres.tools import PostgresTools, find_tools
from include.backup.proof.gaps import find_gaps
from include.backup.proof.record import Proof
from include.backup.restore.statements import RoleStatements, missing_roles, required_roles
from include.backup.restore.target import Target, TargetFacts, shown
from include.backup.store import ObjectStore

TOC_MEMBER = "dump/toc.dat"
GLOBALS_MEMBER = "globals.sql"
# pg_restore 17 sets transaction_timeout in each session, which no older server knows.
TRANSACTION_TIMEOUT_SINCE = 17
# Without a proof nobody has restored this backup yet: loading and reading back take longer than dumping.
LOAD_PER_DUMP = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Which backup is to be restored, and where to."""

    store: ObjectStore
    manifest: Manifest
    standing: Standing
    proofs: tuple[Proof, ...]
    target: Target
    sources: tuple[DatabaseConnection, ...]
    create: bool
    with_roles: bool
    unproven: bool
    compare: bool
    jobs: int
    quarantine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long a restore may take, and where that number comes from."""

    seconds: float
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a person sees before a restore; sizes in bytes."""

    backup_id: str
    snapshot_time: datetime
    standing: Standing
    archive_bytes: int
    uncompressed_bytes: int
    tables: int
    rows: int
    target: str
    target_server: str
    target_database: str
    creates_database: bool
    creates_roles: tuple[str, ...]
    pg_restore: str
    estimated_seconds: float
    estimate_basis: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "snapshot_time": self.snapshot_time.isoformat(), "standing": self.standing.value}

    def lines(self) -> Iterator[str]:
        """Yield the preview for a person."""
        yield f"backup      {self.backup_id} ({self.standing.value})"
        yield f"data as of  {self.snapshot_time:%Y-%m-%d %H:%M:%S} UTC"
        yield f"reads       {self.archive_bytes} bytes, {self.uncompressed_bytes} uncompressed"
        yield f"loads       {self.tables} tables, {self.rows} rows, with pg_restore {self.pg_restore}"
        how = "a new database" if self.creates_database else "an existing, empty database"
        yield f"into        {self.target}, {how} (PostgreSQL {self.target_server})"
        if self.creates_roles:
            yield f"makes roles {shown(self.creates_roles, most=20)}"
        yield f"takes       about {self.estimated_seconds:.0f} s ({self.estimate_basis})"
        for warning in self.warnings:
            yield f"warning     {warning}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """A restore that nothing speaks against."""

    request: RestoreRequest
    toc: Toc
    toc_bytes: bytes
    tools: PostgresTools
    facts: TargetFacts
    roles: RoleStatements
    preview: Preview


def plan_restore(request: RestoreRequest) -> RestorePlan:
    """Look at archive and target, change nothing.

    Raises RestoreRefusedError for whatever would fail later or overwrite something, and what reading the
    archive or reaching the target raises.
    """
    manifest = request.manifest
    _check_backup(request)
    facts = request.target.inspect()
    _check_target(request, facts)
    reader = ArchiveReader(request.store, manifest)
    toc_bytes = reader.read(TOC_MEMBER)
    toc = read_toc(toc_bytes)
    check_contents(toc, manifest)
    tools = tools_for_target(manifest, facts)
    roles = missing_roles(reader.read(GLOBALS_MEMBER).decode(), existing=facts.roles, promote=facts.is_superuser)
    _check_roles(request, facts, toc, roles)
    _check_extensions(facts, toc)
    chosen = roles if request.with_roles else RoleStatements(statements=(), roles=(), superusers=())
    return RestorePlan(
        request=request,
        toc=toc,
        toc_bytes=toc_bytes,
        tools=tools,
        facts=facts,
        roles=chosen,
        preview=_preview(request, facts, tools, chosen),
    )


def estimate(manifest: Manifest, proofs: Sequence[Proof], *, compare: bool) -> Estimate:
    """Return how long a restore may take, by the newest restore test or else by the dump."""
    steps = ("fetch", "restore", "compare") if compare else ("fetch", "restore")
    tested = [proof for proof in proofs if set(steps) <= set(proof.durations)]
    if tested:
        newest = max(tested, key=lambda proof: proof.finished_at)
        return Estimate(
            seconds=_sum(newest.durations, steps), basis=f"its restore test of {newest.finished_at:%Y-%m-%d}"
        )
    reading = _sum(manifest.durations, ("dump",))
    seconds = _sum(manifest.durations, ("upload",)) + LOAD_PER_DUMP * reading + (reading if compare else 0.0)
    return Estimate(seconds=seconds, basis="guessed from its dump: it was never restored")


def _sum(durations: Mapping[str, float], names: Sequence[str]) -> float:
    return round(sum(durations.get(name, 0.0) for name in names), 3)


def _check_backup(request: RestoreRequest) -> None:
    manifest = request.manifest
    if manifest.kind != "full":
        raise RestoreRefusedError(
            f"{manifest.backup_id} is of the kind {manifest.kind}; only full backups restore here"
        )
    if request.standing is not Standing.PROVEN and not request.unproven:
        advice = f"run `python -m include.backup verify {manifest.source} {manifest.backup_id} --restore-test` first"
        raise RestoreRefusedError(
            f"{manifest.backup_id} is {request.standing.value}: nobody has shown that it restores; {advice}, "
            "take another (latest-proven), or add --unproven"
        )


def _check_target(request: RestoreRequest, facts: TargetFacts) -> None:
    target, manifest = request.target, request.manifest
    if facts.exists and _is_source(request, facts):
        raise RestoreRefusedError(
            f"{target.describe()} is the source itself; restore into a database beside it, compare, and swap them"
        )
    if facts.in_recovery:
        raise RestoreRefusedError(f"{target.connection.host} is a standby, nothing can be written there")
    if request.create and facts.exists:
        raise RestoreRefusedError(f"{target.describe()} is there already; give a new name, or leave --create out")
    if request.create and not facts.may_create_database:
        raise RestoreRefusedError(
            f"{facts.role} may not create databases on {target.connection.host}; use another role"
        )
    if not request.create and not facts.exists:
        raise RestoreRefusedError(f"there is no {target.describe()}; add --create to make it")
    if facts.objects:
        raise RestoreRefusedError(
            f"{target.describe()} is not empty, it holds {shown(facts.objects)}; nothing was changed, give a new name"
        )
    if facts.exists and facts.encoding != manifest.dump.server.encoding:
        raise RestoreRefusedError(
            f"{target.describe()} has the encoding {facts.encoding}, the backup {manifest.dump.server.encoding}; "
            "make one of that encoding, or use --create with a new name"
        )


def _is_source(request: RestoreRequest, facts: TargetFacts) -> bool:
    server, target = request.manifest.dump.server, request.target
    same_cluster = facts.system_identifier is not None and facts.system_identifier == server.system_identifier
    if same_cluster and target.database == server.database:
        return True
    place = (_host(target.connection.host), target.connection.port, target.database)
    return place in {(_host(source.host), source.port, source.dbname) for source in request.sources}


def _host(name: str) -> str:
    return "localhost" if name in ("127.0.0.1", "::1") else name.lower().rstrip(".")


def tools_for_target(manifest: Manifest, facts: TargetFacts) -> PostgresTools:
    """Return the tools that can restore a backup into a server; raises RestoreRefusedError."""
    source = manifest.dump.server.major
    if facts.major < source:
        raise RestoreRefusedError(
            f"the target is PostgreSQL {facts.major} and the backup is of {source}; use a server of {source} or newer"
        )
    oldest = manifest.fits.pg_restore_minimum
    tools = find_tools(facts.major, at_least=oldest)
    if tools.major >= TRANSACTION_TIMEOUT_SINCE > facts.major:
        raise RestoreRefusedError(
            f"pg_restore {tools.version} cannot restore into PostgreSQL {facts.major}; use a server of "
            f"{tools.major} or newer, or install postgresql-client-{max(facts.major, oldest)}"
        )
    return tools


def _check_roles(request: RestoreRequest, facts: TargetFacts, toc: Toc, roles: RoleStatements) -> None:
    missing = sorted(required_roles(toc, request.manifest) - facts.roles)
    if not missing:
        return
    if not request.with_roles:
        raise RestoreRefusedError(
            f"the target lacks the roles {shown(missing, most=20)}; add --with-roles to make them from the archive"
        )
    if not facts.may_create_role:
        raise RestoreRefusedError(f"{facts.role} may not create roles on the target; use another role")
    if unknown := sorted(set(missing) - set(roles.roles)):
        raise RestoreRefusedError(f"neither target nor archive has the roles {shown(unknown, most=20)}; make them")


def _check_extensions(facts: TargetFacts, toc: Toc) -> None:
    missing = [entry.tag for entry in toc.entries if entry.desc == "EXTENSION" and entry.tag not in facts.extensions]
    if missing:
        gaps = find_gaps(toc, available_extensions=facts.extensions)
        raise RestoreRefusedError(
            f"the target's server lacks the extensions {shown(missing, most=20)}, on which {len(gaps.skipped)} objects "
            "depend; install them there"
        )


def _preview(request: RestoreRequest, facts: TargetFacts, tools: PostgresTools, roles: RoleStatements) -> Preview:
    manifest = request.manifest
    guess = estimate(manifest, request.proofs, compare=request.compare)
    return Preview(
        backup_id=manifest.backup_id,
        snapshot_time=manifest.dump.snapshot.time,
        standing=request.standing,
        archive_bytes=manifest.archive.size,
        uncompressed_bytes=manifest.uncompressed_bytes,
        tables=manifest.tables,
        rows=manifest.rows,
        target=request.target.describe(),
        target_server=facts.version,
        target_database=request.target.database,
        creates_database=request.create,
        creates_roles=roles.roles,
        pg_restore=tools.version,
        estimated_seconds=guess.seconds,
        estimate_basis=guess.basis,
        warnings=tuple(warnings_of(request, facts, roles)),
    )


def warnings_of(request: RestoreRequest, facts: TargetFacts, roles: RoleStatements) -> Iterator[str]:
    """Yield what does not keep a restore from beginning, and what a person should know before saying yes."""
    if request.standing is not Standing.PROVEN:
        yield f"this backup is {request.standing.value}"
    if facts.is_superuser:
        yield f"{facts.role} is a superuser: functions and constraints of the backup run with its rights while loading"
    for name in roles.superusers:
        becomes = "becomes one here" if facts.is_superuser else "is made without that right, which its objects may need"
        yield f"the role {name} is a superuser at the source and {becomes}"
    if not request.quarantine:
        yield "no quarantine: cron jobs, webhooks, queued requests and subscriptions act once the copy is in place"
    if not request.create:
        yield "the existing database keeps its owner, grants and settings; --create takes those of the backup"
    if facts.major > (source := request.manifest.dump.server.major):
        yield f"the backup is of PostgreSQL {source} and the target is {facts.major}: try what uses it before it counts"
