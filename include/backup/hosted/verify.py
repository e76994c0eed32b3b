"""Compare the definitions of what was made in a hosted project with the archive, by a new dump of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from include.backup.hosted.plan import ProjectPlan
from include.backup.hosted.scope import LeftOut
from include.backup.postgres.commands import pg_dump_command
from include.backup.postgres.toc import Toc, TocEntry, read_toc
from include.backup.process import Runner
from include.backup.proof.record import Difference
from include.backup.proof.schema import DATA_ENTRIES, compare_schema

# Dumped only with a whole database, which an ordinary role may not dump here.
_NOT_BY_SCHEMA = frozenset({"DEFAULT ACL", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"})


def schema_differences(
    plan: ProjectPlan, *, runner: Runner, folder: Path, left_out: Sequence[LeftOut]
) -> tuple[int, tuple[Difference, ...]]:
    """Return how many definitions were compared, and those that differ; what was left out does not count."""
    schemas = sorted(plan.scope.user_schemas)
    if not schemas:
        return 0, ()
    target = folder / "restored"
    runner.run(
        pg_dump_command(
            plan.tools,
            plan.request.endpoint,
            target=target,
            jobs=1,
            compression_level=1,
            lock_timeout_seconds=60,
            encoding=plan.request.manifest.dump.server.encoding,
            options=("--schema-only", *(f"--schema={_pattern(name)}" for name in schemas)),
        )
    )
    restored = read_toc((target / "toc.dat").read_bytes())
    said = {item.what for item in left_out}
    wanted = [
        _as_made(entry, plan)
        for entry in plan.toc.entries
        if entry.dump_id in plan.scope.carried and _compared(entry, schemas) and _name(entry) not in said
    ]
    found = [entry for entry in restored.entries if _compared(entry, schemas) and _name(entry) not in said]
    _, differences = compare_schema(
        _with(plan.toc, wanted), _with(restored, found), extension_owner=plan.facts.role, skipped=()
    )
    return len(wanted), differences


def _as_made(entry: TocEntry, plan: ProjectPlan) -> TocEntry:
    """Return an entry with the owner that it could be given."""
    settable = plan.facts.settable | set(plan.roles.roles)
    return entry if not entry.owner or entry.owner in settable else replace(entry, owner=plan.facts.role)


def _compared(entry: TocEntry, schemas: Sequence[str]) -> bool:
    return entry.namespace in schemas and entry.desc not in DATA_ENTRIES | _NOT_BY_SCHEMA


def _name(entry: TocEntry) -> str:
    name = f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
    return f"{entry.desc} {' '.join(name.split())}"


def _with(toc: Toc, entries: Sequence[TocEntry]) -> Toc:
    return replace(toc, entries=tuple(entries))


def _pattern(name: str) -> str:
    """Return a schema's name as a pattern that matches nothing else."""
    return '"' + name.replace('"', '""') + '"'
