"""The policy: which databases are protected, how often, for how long. Typed, and strict when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from include.backup.backup_id import SOURCE_NAME
from include.backup.errors import PolicyError, UnknownSourceError, UnknownTierError
from include.backup.policy_checks import Draft, merge, overlapping_sources, parse_keep, source_problems
from include.backup.retention import Retention
from include.backup.schema import check
from include.backup.yaml_document import Document, Problem, describe, read_document

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED_POLICY = PROJECT / "include" / "policy" / "pulse_messages.yaml"
SCHEMA_FILE = PROJECT / "include" / "policy" / "policy.schema.json"
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a tier's backups are due; always in UTC."""

    cron: str
    timezone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionPolicy:
    """Server-side encryption; ``sse`` is ``aws:kms``, ``AES256`` or None."""

    sse: str | None
    kms_key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePolicy:
    """Where backups go; endpoint, region and keys are in the connection."""

    connection: str
    bucket: str
    encryption: EncryptionPolicy
    part_size_mib: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackPolicy:
    """Where messages go."""

    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofPolicy:
    """What a proof may leave unproven."""

    allowed_gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long one try of each task may take."""

    preflight: timedelta
    dump: timedelta
    compress: timedelta
    upload: timedelta
    verify: timedelta
    restore_test: timedelta
    close_staging: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """One tier of one source. ``prove`` is ``in_chain`` or ``after``, ``proof_level`` complete or data."""

    name: str
    kind: str
    schedule: Schedule | None
    keep: Retention
    below_strategy: str | None
    storage_class: str
    prefix: str
    proof_level: str
    prove: str
    timeouts: Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """One database to protect."""

    name: str
    connection: str
    postgres_major: int | None
    excluded_schemas: tuple[str, ...]
    excluded_tables: tuple[str, ...]
    lock_wait_seconds: int
    lock_timeout_seconds: int
    dump_budget_minutes: int
    jobs: int
    compression_level: int
    retries: int
    retry_delay_seconds: int
    keep_failed_hours: int
    store: StorePolicy
    slack: SlackPolicy | None
    proof: ProofPolicy
    tiers: Mapping[str, TierPolicy]

    def tier(self, name: str) -> TierPolicy:
        """Return a tier; raises UnknownTierError naming those that there are."""
        try:
            return self.tiers[name]
        except KeyError:
            raise UnknownTierError(
                f"the policy has no tier {name!r} for {self.name}; it has {', '.join(self.tiers)}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All sources that are acceptable, and why others were left out."""

    path: Path
    sources: Mapping[str, SourcePolicy]
    rejected: Mapping[str, PolicyError] = field(default_factory=dict)

    def source(self, name: str) -> SourcePolicy:
        """Return a source; raises UnknownSourceError naming those that there are, or why it was left out."""
        if name in self.sources:
            return self.sources[name]
        if name in self.rejected:
            raise UnknownSourceError(f"source {name} is left out of the policy: {self.rejected[name]}")
        known = ", ".join(self.sources) or "none"
        raise UnknownSourceError(f"the policy {self.path.name} has no source {name!r}; it has {known}")


def policy_path(environ: Mapping[str, str]) -> Path:
    """Return the path that BACKUP_POLICY names (relative to the project), or the shipped policy's."""
    return PROJECT / (environ.get("BACKUP_POLICY") or SHIPPED_POLICY)


def load_policy(path: Path, *, strict: bool = False) -> Policy:
    """Read a policy; each source stands alone, so that a bad one hides no other.

    Raises PolicyError when the file as a whole is not acceptable, or, if ``strict``, when any source is not.
    """
    document = read_document(path, PolicyError, name=_shown(path))
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    _check_frame(document, schema)
    accepted: dict[str, Any] = {}
    rejected: dict[str, PolicyError] = {}
    for name, own in document.data["sources"].items():
        draft = merge(document, name, own)
        problems = _problems(document, schema, draft) or overlapping_sources(draft, accepted)
        if problems:
            rejected[name] = PolicyError(describe(document.name, problems))
        else:
            accepted[name] = draft.data
    if strict and rejected:
        raise PolicyError("; ".join(str(error) for error in rejected.values()))
    sources = {name: _source(name, data) for name, data in accepted.items()}
    return Policy(path=path, sources=sources, rejected=rejected)


def _check_frame(document: Document, schema: Mapping[str, Any]) -> None:
    """Refuse what concerns every source: another version, unknown keys at the top, bad defaults."""
    data = document.data
    sources = data.get("sources") if isinstance(data, dict) else None
    names = list(sources) if isinstance(sources, dict) else []
    frame = {**data, "sources": {"stand_in": {}}} if names else data
    problems = [
        *(problem for problem in document.problems if not set(problem.path[1:2]) & set(names)),
        *check(frame, schema, lines=document.lines),
    ]
    if problems:
        raise PolicyError(describe(document.name, problems))


def _problems(document: Document, schema: Mapping[str, Any], draft: Draft) -> list[Problem]:
    if not SOURCE_NAME.fullmatch(draft.name):
        text = f"the source name {draft.name!r} is not allowed; use a-z, 0-9 and _, a letter first, at most 40"
        return [Problem(path=draft.at, line=document.line_of(draft.at), text=text)]
    found = [problem for problem in document.problems if problem.path[:2] == draft.at]
    complete = {**schema["$defs"]["complete_source"], "$defs": schema["$defs"]}
    found += check(draft.data, complete, lines=draft.lines, at=draft.at)
    return found or source_problems(draft)


def _source(name: str, data: Mapping[str, Any]) -> SourcePolicy:
    plain = {"connection", "lock_wait_seconds", "lock_timeout_seconds", "dump_budget_minutes", "jobs"}
    plain |= {"compression_level", "retries", "retry_delay_seconds", "keep_failed_hours"}
    store = data["store"]
    sse = store["encryption"]["sse"]
    dump = timedelta(seconds=data["lock_wait_seconds"], minutes=data["dump_budget_minutes"])
    return SourcePolicy(
        name=name,
        **{key: data[key] for key in plain},
        postgres_major=data.get("postgres_major"),
        excluded_schemas=tuple(data.get("excluded_schemas", ())),
        excluded_tables=tuple(data.get("excluded_tables", ())),
        store=StorePolicy(
            connection=store["connection"],
            bucket=store["bucket"],
            encryption=EncryptionPolicy(
                sse=None if sse == "none" else sse, kms_key_id=store["encryption"].get("kms_key_id")
            ),
            part_size_mib=store["part_size_mib"],
            concurrency=store["concurrency"],
        ),
        slack=SlackPolicy(connection=data["slack"]["connection"]) if "slack" in data else None,
        proof=ProofPolicy(allowed_gaps=tuple(data.get("proof", {}).get("allowed_gaps", ()))),
        tiers={tier: _tier(tier, settings, dump) for tier, settings in data["tiers"].items()},
    )


def _tier(name: str, data: Mapping[str, Any], dump: timedelta) -> TierPolicy:
    schedule = data["schedule"]
    return TierPolicy(
        name=name,
        kind=data["kind"],
        schedule=None if schedule is None else Schedule(cron=schedule["cron"], timezone=schedule["timezone"]),
        keep=parse_keep(data["keep"]),
        below_strategy=data.get("below_strategy"),
        storage_class=data["storage_class"],
        prefix=data["prefix"],
        proof_level=data["proof_level"],
        prove=data["prove"],
        timeouts=Timeouts(dump=dump, **{task: _duration(text) for task, text in data["timeouts"].items()}),
    )


def _duration(text: str) -> timedelta:
    amount, unit = text.split()
    return timedelta(seconds=int(amount) * _UNIT_SECONDS[unit.removesuffix("s")])


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)
