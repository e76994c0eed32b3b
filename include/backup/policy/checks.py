"""What a JSON Schema cannot say of a policy: inheritance, prefixes, the strategy's retention, sense."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from include.backup.cron import cron_problem
from include.backup.duration import parse_duration
from include.backup.errors import PolicyError
from include.backup.policy.archives import cold_problems, copy_problems, yearly_problems
from include.backup.policy.audit import audit_problems
from include.backup.policy.base_backup import base_backup_problems
from include.backup.policy.incremental import incremental_problems
from include.backup.policy.schema_backup import schema_backup_problems
from include.backup.policy.verification import verification_problems
from include.backup.retention import STRATEGY_MINIMUM, Retention
from include.backup.yaml_document import Document, KeyPath, Problem, line_of

# What lies in the bucket beside the tiers' archives.
RESERVED_PREFIXES = (
    "proofs/",
    "evidence/",
    "holds/",
    "in_use/",
    "control/",
    "audit/",
    "incremental/",
    "schema/",
    "tables/",
    "attachments/",
    "health/",
    "safety/",
    "restores/",
    "erasures/",
)
# The one tier that may lie below a reserved prefix: it is what the prefix is for.
PREFIX_OF_TIER = {"hourly": "tables/"}
# Their defaults count only for a source that has the block itself: nobody restores into a source, and nothing of
# its schema is pushed, whose policy does not say where to.
OPTIONAL_BLOCKS = frozenset({"restore", "schema_backup", "incremental"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A source with its defaults filled in, not yet checked; ``lines`` has the lines of both."""

    name: str
    data: Any
    lines: Mapping[KeyPath, int]

    @property
    def at(self) -> KeyPath:
        return ("sources", self.name)

    def problem(self, path: KeyPath, text: str) -> Problem:
        here = (*self.at, *path)
        return Problem(path=here, line=line_of(self.lines, here), text=text)


def merge(document: Document, name: str, own: Any) -> Draft:
    """Return a source with the defaults that it does not set; mappings are merged, all else is replaced."""
    at: KeyPath = ("sources", name)
    inherited = {(*at, *path[1:]): line for path, line in document.lines.items() if path[:1] == ("defaults",)}
    inherited.pop(at, None)
    # Not a copy for each source, which would grow with the square of the sources; nothing writes to it.
    lines = ChainMap(cast("dict[KeyPath, int]", document.lines), inherited)
    return Draft(name=name, data=filled(document, own), lines=lines)


def filled(document: Document, own: Any) -> Any:
    """Return a source's settings with the defaults that it does not set."""
    if not isinstance(own, dict):
        return own
    defaults = document.data.get("defaults", {})
    tiers = own.get("tiers")
    named = tiers if isinstance(tiers, dict) else {}
    base = {
        **{key: value for key, value in defaults.items() if key not in OPTIONAL_BLOCKS or key in own},
        **(
            {"tiers": {tier: data for tier, data in defaults["tiers"].items() if tier in named}}
            if "tiers" in defaults
            else {}
        ),
    }
    return _merged(base, own)


def source_problems(draft: Draft) -> list[Problem]:
    """Return what is wrong with a source that fits the schema."""
    found = [*_encryption_problems(draft), *_critical_table_problems(draft), *_staging_problems(draft)]
    for block, problems_of in _BLOCK_CHECKS.items():
        found += [draft.problem((block, key), text) for key, text in problems_of(draft.data.get(block))]
    for name, tier in draft.data["tiers"].items():
        for check in _TIER_CHECKS:
            found += [draft.problem(("tiers", name, key), text) for key, text in check(name, tier)]
    if "base_backup" in draft.data:
        found += [
            draft.problem(("base_backup", key), text) for key, text in base_backup_problems(draft.data["base_backup"])
        ]
    found += [draft.problem(("tiers", key), text) for key, text in yearly_problems(draft.data["tiers"])]
    if "incremental" in draft.data:
        problems = incremental_problems(draft.data["incremental"])
        found += [draft.problem(("incremental", key), text) for key, text in problems]
    return found + list(_overlapping_tiers(draft))


def overlapping_sources(draft: Draft, accepted: Mapping[str, Any]) -> list[Problem]:
    """Return prefixes that collide with those of other sources in the same bucket.

    Tiers of one name may share a prefix, since a backup id begins with its source.
    """
    found = []
    for other, data in accepted.items():
        if data["store"]["bucket"] != draft.data["store"]["bucket"]:
            continue
        for tier, settings in draft.data["tiers"].items():
            for other_tier, other_settings in data["tiers"].items():
                mine, theirs = settings["prefix"], other_settings["prefix"]
                if (mine == theirs and tier != other_tier) or (mine != theirs and _overlap(mine, theirs)):
                    text = f"prefix {mine} overlaps {theirs} of {other}'s tier {other_tier} in the same bucket"
                    found.append(draft.problem(("tiers", tier, "prefix"), text))
    return found


def parse_keep(text: str) -> Retention:
    """Return a tier's retention; raises PolicyError, which a checked policy never does."""
    keep = Retention.parse(text)
    if keep is None:
        raise PolicyError(f"keep {text!r} is not a number and days, weeks, months or years")
    return keep


def _in_days(time: timedelta) -> Retention:
    return Retention(amount=math.ceil(time / timedelta(days=1)), unit="day")


def _merged(base: Any, own: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return {**base, **{key: _merged(base.get(key), value) for key, value in own.items()}}


def _encryption_problems(draft: Draft) -> Iterator[Problem]:
    encryption = draft.data["store"]["encryption"]
    has_key = "kms_key_id" in encryption
    if encryption["sse"] == "aws:kms" and not has_key:
        yield draft.problem(("store", "encryption", "sse"), "sse aws:kms needs kms_key_id beside it")
    if encryption["sse"] != "aws:kms" and has_key:
        yield draft.problem(("store", "encryption", "kms_key_id"), "kms_key_id needs sse: aws:kms beside it")


def _staging_problems(draft: Draft) -> Iterator[Problem]:
    """Yield the blocks whose tasks hand files to each other."""
    if draft.data.get("staging") != "none":
        return
    for block in ("base_backup", "incremental"):
        if block in draft.data:
            text = f"staging: none does not go with {block}, whose tasks share files; give the source its own queue"
            yield draft.problem(("staging",), text)


def _critical_table_problems(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong between the tier of tables, the list of them, and what is excluded."""
    named = draft.data.get("critical_tables", ())
    if "hourly" in draft.data["tiers"] and not named:
        yield draft.problem(("tiers", "hourly"), "the tier hourly needs critical_tables: the tables that it backs up")
    excluded = set(draft.data.get("excluded_tables", ()))
    schemas = set(draft.data.get("excluded_schemas", ()))
    for index, name in enumerate(named):
        if name in excluded or name.split(".", 1)[0] in schemas:
            text = f"{name} is excluded from every backup; remove it here, or from what is excluded"
            yield draft.problem(("critical_tables", index), text)


def _schedule(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    schedule = tier["schedule"]
    if schedule is None:
        return
    if name == "pre_deployment":
        yield "schedule", "pre_deployment is triggered by a deploy; allowed: schedule: null"
    elif problem := cron_problem(schedule["cron"]):
        yield "schedule", f"cron {schedule['cron']!r}: {problem}"


def _retention(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    keep = Retention.parse(tier["keep"])
    if keep is None:
        yield "keep", f"keep is {tier['keep']!r}; allowed: a number and days, weeks, months or years"
        return
    minimum = STRATEGY_MINIMUM[name]
    if keep.is_shorter_than(minimum):
        if "below_strategy" not in tier:
            yield (
                "keep",
                f"keep: {keep} contradicts the backup strategy, which keeps {name} backups {minimum}; allowed: "
                f'{minimum} or longer, or below_strategy: "<the reason>" beside it',
            )
    elif "below_strategy" in tier:
        yield "below_strategy", f"keep: {keep} is not below the strategy's {minimum}; remove below_strategy"


def _prefix(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for reserved in RESERVED_PREFIXES:
        if reserved == PREFIX_OF_TIER.get(name) and tier["prefix"].startswith(reserved):
            continue
        if _overlap(tier["prefix"], reserved):
            yield "prefix", f"prefix {tier['prefix']} overlaps {reserved}, which has another use in the bucket"


def _kind(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    wanted = "tables" if name == "hourly" else "full"
    if tier["kind"] != wanted:
        yield "kind", f"kind is {tier['kind']}; allowed in the tier {name}: {wanted}"


def _thinning(_name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    keep = Retention.parse(tier["keep"])
    after = parse_duration(tier["thin"]["after"]) if "thin" in tier else None
    if keep is not None and after is not None and keep.is_shorter_than(_in_days(after)):
        thin = tier["thin"]["after"]
        yield "thin", f"backups are thinned out after {thin} and kept {keep} only; allowed: less than keep"


_TIER_CHECKS: tuple[Callable[[str, Mapping[str, Any]], Iterator[tuple[str, str]]], ...] = (
    _schedule,
    _retention,
    _prefix,
    _kind,
    _thinning,
    cold_problems,
    copy_problems,
)

_BLOCK_CHECKS: Mapping[str, Callable[[Mapping[str, Any] | None], Iterator[tuple[str, str]]]] = {
    "schema_backup": schema_backup_problems,
    "verification": verification_problems,
    "audit": audit_problems,
}


def _overlapping_tiers(draft: Draft) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, tier in draft.data["tiers"].items():
        for other, prefix in seen.items():
            if _overlap(prefix, tier["prefix"]):
                text = f"prefix {tier['prefix']} overlaps {prefix} of tier {other}; give each tier its own folder"
                yield draft.problem(("tiers", name, "prefix"), text)
        seen[name] = tier["prefix"]


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
