"""What a restore into a hosted project would do, and every reason not to: found out before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from include.backup.archive.contents import check_contents
from include.backup.archive.members import without_trailer
from include.backup.archive.reader import ArchiveReader
from include.backup.connections import DatabaseConnection
from include.backup.errors import RestoreRefusedError
from include.backup.hosted.facts import HostedFacts, columns_of, read_facts
from include.backup.hosted.provider import is_managed, is_reserved_role
from include.backup.hosted.scope import LeftOut, Scope, needed_roles, scope_of
from include.backup.inventory import Standing
from include.backup.manifest import Manifest, TableData
from include.backup.postgres.session import connect, query
from include.backup.postgres.toc import Toc, parse_copy, read_toc
from include.backup.postgres.tools import PostgresTools
from include.backup.quarantine.kinds import Item, Kind, job_name
from include.backup.restore.plan import GLOBALS_MEMBER, TOC_MEMBER, tools_for_target
from include.backup.restore.statements import RoleStatements, missing_roles, unquoted
from include.backup.restore.target import Target, shown
from include.backup.store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRequest:
    """Which backup is to be restored into which project; ``endpoint`` leads to the project's database."""

    store: ObjectStore
    manifest: Manifest
    standing: Standing
    endpoint: DatabaseConnection
    sources: tuple[DatabaseConnection, ...]
    unproven: bool
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPlan:
    """A restore that nothing speaks against."""

    request: ProjectRequest
    toc: Toc
    toc_bytes: bytes
    tools: PostgresTools
    facts: HostedFacts
    scope: Scope
    roles: RoleStatements
    cron_jobs: tuple[Item, ...]

    @property
    def target(self) -> str:
        endpoint = self.request.endpoint
        return f"{endpoint.dbname} on {endpoint.host}:{endpoint.port}"

    def lines(self) -> Iterator[str]:
        """Yield the preview for a person."""
        manifest, scope = self.request.manifest, self.scope
        rows = self.loaded_tables
        yield f"backup      {manifest.backup_id} ({self.request.standing.value})"
        yield f"data as of  {manifest.dump.snapshot.time:%Y-%m-%d %H:%M:%S} UTC"
        yield f"into        {self.target}, as {self.facts.role}, beside what Supabase has made there"
        yield f"makes       {len(scope.objects) + len(scope.indexes)} objects, {len(scope.grants)} lists of grants"
        yield f"loads       {len(rows)} tables, {sum(table.rows for table in rows.values())} rows"
        if self.roles.roles:
            yield f"makes roles {shown(self.roles.roles, most=20)}"
        for job in self.cron_jobs:
            yield f"on release  cron job {job.name} is scheduled"
        for item in scope.left_out:
            yield f"left out    {item.line()}"

    @property
    def loaded_tables(self) -> Mapping[int, TableData]:
        """The table data that is loaded, by dump id."""
        wanted = {entry.dump_id for entry in self.scope.rows}
        return {table.dump_id: table for table in self.request.manifest.table_data if table.dump_id in wanted}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "backup_id": self.request.manifest.backup_id,
            "target": self.target,
            "objects": len(self.scope.objects) + len(self.scope.indexes),
            "tables": len(self.loaded_tables),
            "rows": sum(table.rows for table in self.loaded_tables.values()),
            "creates_roles": list(self.roles.roles),
            "cron_jobs": [job.name for job in self.cron_jobs],
            "left_out": [item.line() for item in self.scope.left_out],
        }


def plan_project_restore(request: ProjectRequest) -> ProjectPlan:
    """Look at archive and target, change nothing; raises RestoreRefusedError for whatever would fail later."""
    manifest = request.manifest
    _check_backup(request)
    target = Target(request.endpoint, database=request.endpoint.dbname)
    server = target.inspect()
    facts = read_facts(request.endpoint)
    reader = ArchiveReader(request.store, manifest)
    toc_bytes = reader.read(TOC_MEMBER)
    toc = read_toc(toc_bytes)
    check_contents(toc, manifest)
    empty = {table.dump_id for table in manifest.table_data if table.rows == 0}
    scope = scope_of(toc, facts, empty=empty)
    _check_target(request, facts, scope, objects=server.objects)
    globals_sql = reader.read(GLOBALS_MEMBER).decode()
    roles = _roles(globals_sql, existing=server.roles, scope=scope)
    plan = ProjectPlan(
        request=request,
        toc=toc,
        toc_bytes=toc_bytes,
        tools=tools_for_target(manifest, server),
        facts=facts,
        scope=scope,
        roles=roles,
        cron_jobs=_scheduled(_cron_jobs(reader, manifest, scope), facts, roles, scope),
    )
    _check_tables(plan)
    return plan


def _check_backup(request: ProjectRequest) -> None:
    manifest = request.manifest
    if manifest.kind != "full":
        raise RestoreRefusedError(f"{manifest.backup_id} is of the kind {manifest.kind}; only full ones restore here")
    if request.standing is not Standing.PROVEN and not request.unproven:
        raise RestoreRefusedError(
            f"{manifest.backup_id} is {request.standing.value}: nobody has shown that it restores; take another "
            "(latest-proven), or add --unproven"
        )
    here = (request.endpoint.host, request.endpoint.port, request.endpoint.dbname)
    if here in {(source.host, source.port, source.dbname) for source in request.sources}:
        raise RestoreRefusedError(f"{here[2]} on {here[0]} is a source itself; nothing was changed")


def _check_target(request: ProjectRequest, facts: HostedFacts, scope: Scope, *, objects: tuple[str, ...]) -> None:
    where = f"{request.endpoint.dbname} on {request.endpoint.host}"
    if not {"auth", "storage"} <= facts.schemas:
        raise RestoreRefusedError(f"{where} is no Supabase project: it has no schemas auth and storage; use `restore`")
    with connect(request.endpoint, settings={}) as session:
        own = [str(row["name"]) for row in query(session, "hosted_own_objects") if not is_managed(row["schema"])]
    if own:
        raise RestoreRefusedError(f"{where} holds {shown(own)}; restore into a new project, nothing was changed")
    missing = [
        entry.tag
        for entry in scope.objects
        if entry.desc == "EXTENSION" and not facts.is_superuser and entry.tag not in facts.installable
    ]
    if missing:
        raise RestoreRefusedError(
            f"{facts.role} may not install the extensions {shown(missing, most=20)} on {where}; enable them in the "
            "project (Database > Extensions) first"
        )
    if scope.impossible:
        raise RestoreRefusedError(f"{where} cannot take the backup: {shown(scope.impossible)}; upgrade it first")


def _roles(globals_sql: str, *, existing: frozenset[str], scope: Scope) -> RoleStatements:
    """Return how to make the roles that are missing and not the provider's; raises when owners are not to be had."""
    found = missing_roles(globals_sql, existing=existing, promote=False)
    made = tuple(name for name in found.roles if not is_reserved_role(name))
    if unknown := sorted(set(needed_roles(scope)) - existing - set(made)):
        raise RestoreRefusedError(f"neither target nor archive has the roles {shown(unknown, most=20)}; make them")
    return replace(found, roles=made)


def _check_tables(plan: ProjectPlan) -> None:
    """Refuse tables of the provider that already have rows, or that lack a column."""
    managed = {
        f"{table.schema}.{table.table}": table for table in plan.loaded_tables.values() if is_managed(table.schema)
    }
    there = columns_of(plan.request.endpoint, sorted(managed))
    for name, table in managed.items():
        if missing := sorted(set(_columns(table)) - there.get(name, frozenset())):
            raise RestoreRefusedError(
                f"{name} of the target lacks the columns {shown(missing)}; its project is older than the source, "
                "upgrade it first"
            )
    with connect(plan.request.endpoint, settings={}) as session:
        for name, table in managed.items():
            relation = parse_copy(table.copy_statement).relation
            row = session.execute(f"SELECT EXISTS (SELECT FROM ONLY {relation}) AS found".encode()).fetchone()  # noqa: S608 - as pg_dump quoted it
            if row and row["found"] and table.rows:
                raise RestoreRefusedError(f"{name} of the target already has rows; restore into a new project")


def _columns(table: TableData) -> list[str]:
    text = parse_copy(table.copy_statement).columns.strip().removeprefix("(").removesuffix(")")
    return [unquoted(name.strip()) for name in text.split(", ")] if text else []


def _cron_jobs(reader: ArchiveReader, manifest: Manifest, scope: Scope) -> Iterator[Item]:
    """Read the jobs out of the archive: they are scheduled when the copy is released, not before."""
    wanted = {entry.dump_id for entry in scope.cron_jobs}
    for member in manifest.members:
        if member.table_data is None or member.table_data.dump_id not in wanted:
            continue
        names = _columns(member.table_data)
        stripped = without_trailer(iter([reader.read(member.name)]), name=member.name)
        for line in b"".join(stripped).decode().split("\n")[:-1]:
            row = dict(zip(names, map(_unescaped, line.split("\t")), strict=True))
            jobid, user = str(row["jobid"]), str(row["username"])
            state = {name: row[name] for name in ("schedule", "command", "username")}
            yield Item(
                kind=Kind.CRON_SCHEDULE,
                name=job_name(jobid, row.get("jobname"), user),
                state={**state, "jobname": row.get("jobname") or f"job {jobid}", "active": row["active"] == "t"},
            )


def _scheduled(jobs: Iterator[Item], facts: HostedFacts, roles: RoleStatements, scope: Scope) -> tuple[Item, ...]:
    """Return the jobs of roles that a release may act as; what others' become would run with other rights."""
    found: list[Item] = []
    allowed = facts.settable | facts.grantable | set(roles.roles)
    for job in jobs:
        user = job.state["username"]
        if user in allowed:
            found.append(job)
            continue
        why = f"{facts.role} may not act as {user}: make and GRANT it that role first, or schedule the job by hand"
        scope.left_out.append(LeftOut(what=f"cron job {job.name}", why=why))
    return tuple(found)


def _unescaped(text: str) -> str | None:
    r"""Return a value as COPY's text format wrote it.

    >>> _unescaped(r"a\tb\\n"), _unescaped(r"\N")
    ('a\tb\\n', None)
    """
    if text == r"\N":
        return None
    plain = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    parts, pieces = iter(text), []
    for character in parts:
        if character == "\\":
            following = next(parts, "")
            pieces.append(plain.get(following, following))
        else:
            pieces.append(character)
    return "".join(pieces)
