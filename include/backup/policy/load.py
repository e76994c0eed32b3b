"""Read the policy: strict, and each source on its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from include.backup.backup_id import SOURCE_NAME
from include.backup.cron import staggered
from include.backup.duration import optional_duration, parse_duration
from include.backup.errors import PolicyError
from include.backup.policy.attachments import attachments_policy
from include.backup.policy.audit import audit_policy
from include.backup.policy.base_backup import base_backup_policy
from include.backup.policy.checks import Draft, filled, merge, overlapping_sources, parse_keep, source_problems
from include.backup.policy.cleanup import cleanup_policy
from include.backup.policy.evidence import evidence_policy
from include.backup.policy.health import health_policy
from include.backup.policy.incremental import incremental_policy
from include.backup.policy.metadata import metadata_policy
from include.backup.policy.model import (
    EncryptionPolicy,
    Policy,
    ProofPolicy,
    SlackPolicy,
    SourcePolicy,
    StorePolicy,
    TierPolicy,
    Timeouts,
)
from include.backup.policy.restore import restore_policy
from include.backup.policy.schedule import Schedule
from include.backup.policy.scheduling import pools_policy, scheduling_policy, scheduling_problems
from include.backup.policy.schema_backup import schema_backup_policy
from include.backup.policy.supabase import supabase_policy
from include.backup.policy.verification import verification_policy
from include.backup.retention import Thinning
from include.backup.schema import check
from include.backup.yaml_document import Document, Problem, describe, read_document

PROJECT = Path(__file__).resolve().parents[3]
SHIPPED_POLICY = PROJECT / "include" / "policy" / "pulse_messages.yaml"
SHARED_STAGING = "shared"
SCHEMA_FILE = PROJECT / "include" / "policy" / "policy.schema.json"


def policy_path(environ: Mapping[str, str]) -> Path:
    """Return the path that BACKUP_POLICY names (relative to the project), or the shipped policy's."""
    return PROJECT / (environ.get("BACKUP_POLICY") or SHIPPED_POLICY)


def load_policy(path: Path, *, strict: bool = False, only: str | None = None) -> Policy:
    """Read a policy; each source stands alone, so that a bad one hides no other.

    With ``only`` that source is read and checked, and no other as far as it does not concern this one: a task is of
    one source, and what it costs must not grow with the others. A name that is not there reads all.

    Raises PolicyError when the file as a whole is not acceptable, or, if ``strict``, when any source is not.
    """
    policy = _read(path, _content(path), only)
    if strict and policy.rejected:
        raise PolicyError("; ".join(str(error) for error in policy.rejected.values()))
    return policy


def _content(path: Path) -> bytes:
    """Return what the file holds; an unreadable one is told of by who reads it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@lru_cache(maxsize=8)
def _read(path: Path, content: bytes, only: str | None) -> Policy:
    """Read the file, once for each content: all DAG files of a process, and each step of a task, read the same."""
    document = read_document(path, PolicyError, name=_shown(path))
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    _check_frame(document, schema)
    pools = pools_policy(document.data.get("pools"))
    listed = _Sources(document, schema, pools)
    sources: dict[str, SourcePolicy] = {}
    rejected: dict[str, PolicyError] = {}
    for name in [only] if only in listed.names else listed.names:
        if problems := listed.problems(name):
            rejected[name] = PolicyError(describe(document.name, problems))
        else:
            settings = _staggered(listed.draft(name).data, name)
            source = _source(name, settings)
            sources[name] = replace(source, settings=_concerning(source, settings, document, pools), written_in=path)
    return Policy(
        path=path,
        sources=MappingProxyType(sources),
        rejected=MappingProxyType(rejected),
        pools=pools,
        metadata=metadata_policy(document.data.get("metadata")),
    )


def _concerning(
    source: SourcePolicy, settings: Mapping[str, Any], document: Document, pools: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a source's settings with those parts of the file that it shares with others."""
    used = {name: pools[name] for name in source.scheduling.pools() if name in pools}
    shared = {key: document.data[key] for key in ("metadata",) if key in document.data}
    return {**settings, **shared, "pools": used}


class _Sources:
    """The sources of a document, each checked when it is asked for."""

    def __init__(self, document: Document, schema: Mapping[str, Any], pools: Mapping[str, int]) -> None:
        self.names: list[str] = list(document.data["sources"])
        self._document = document
        self._schema = schema
        self._pools = pools
        self._drafts: dict[str, Draft] = {}
        self._found: dict[str, list[Problem]] = {}

    def draft(self, name: str) -> Draft:
        """Return a source with its defaults filled in."""
        if name not in self._drafts:
            self._drafts[name] = merge(self._document, name, self._document.data["sources"][name])
        return self._drafts[name]

    def problems(self, name: str) -> list[Problem]:
        """Return what is wrong with a source."""
        if name not in self._found:
            draft = self.draft(name)
            self._found[name] = _problems(self._document, self._schema, draft) or [
                *overlapping_sources(draft, self._accepted_beside(draft)),
                *(
                    draft.problem(("scheduling", key), text)
                    for key, text in scheduling_problems(draft.data.get("scheduling"), self._pools)
                ),
            ]
        return self._found[name]

    def _accepted_beside(self, draft: Draft) -> dict[str, Any]:
        """Return the acceptable sources before this one that share a part of the bucket with it."""
        before = self.names[: self.names.index(draft.name)]
        return {
            name: data
            for name, data in ((name, filled(self._document, self._document.data["sources"][name])) for name in before)
            if _may_overlap(draft, name, data) and not self.problems(name)
        }


def _may_overlap(draft: Draft, other: str, data: Any) -> bool:
    """Tell whether two sources overlap, of which the other is not checked yet."""
    try:
        return bool(overlapping_sources(draft, {other: data}))
    except (AttributeError, KeyError, TypeError):
        # It is not even shaped like a source: it is left out, and hides no other.
        return False


def _staggered(data: Any, source: str) -> Any:
    """Return the settings with the source's own minute wherever a schedule leaves it open."""
    if isinstance(data, list):
        return [_staggered(item, source) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: staggered(value, source) if key == "cron" and isinstance(value, str) else _staggered(value, source)
        for key, value in data.items()
    }


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
        restore=restore_policy(data.get("restore")),
        health=health_policy(data["health"]) if "health" in data else None,
        incremental=incremental_policy(name, data.get("incremental")),
        tiers={tier: _tier(tier, settings, dump) for tier, settings in data["tiers"].items()},
        evidence=evidence_policy(data["evidence"]) if "evidence" in data else None,
        cleanup=cleanup_policy(data["cleanup"]) if "cleanup" in data else None,
        critical_tables=tuple(data.get("critical_tables", ())),
        attachments=attachments_policy(data.get("attachments")),
        schema_backup=schema_backup_policy(data.get("schema_backup"), source=name),
        base_backup=base_backup_policy(data.get("base_backup"), keep=parse_keep),
        supabase=supabase_policy(data.get("supabase")),
        verification=verification_policy(data.get("verification")),
        shares_staging=data.get("staging", SHARED_STAGING) == SHARED_STAGING,
        scheduling=scheduling_policy(data.get("scheduling")),
        audit=audit_policy(data.get("audit")),
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
        timeouts=Timeouts(dump=dump, **{task: parse_duration(text) for task, text in data["timeouts"].items()}),
        deadline=optional_duration(data.get("deadline")),
        thinning=None if "thin" not in data else Thinning(after=parse_duration(data["thin"]["after"])),
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)
