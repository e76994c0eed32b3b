"""What a policy says of one source as plain values: their digest, what changed between two, and what a change is about.

A list of plain values is one value, so that a name added in its midst is one change. Records of this stay for years:
what looks like a secret is hidden, and a value that is too long to keep is cut and known by its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from include.backup.schema_history.redaction import HIDDEN, names_a_secret, without_known_secrets

LONGEST_TEXT = 300
LONGEST_LIST = 200
# One that is not there is shown so; null is a value that people write.
ABSENT = "(not set)"
SHOWN_ITEMS = 20


class About(StrEnum):
    """What a setting decides, as far as an auditor asks."""

    ACCESS = "access"
    KEY = "key"
    POLICY = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One setting that is not as before; ``old`` and ``new`` are words for people."""

    path: str
    old: str
    new: str


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting by its dotted path.

    >>> flat({"tiers": {"daily": {"keep": "7 days"}}, "store": {"password": "x"}})
    {'store.password': '***', 'tiers.daily.keep': '7 days'}
    """
    return dict(sorted(_leaves(settings, ())))


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what ``flat`` gave, whatever the order of its keys was."""
    return hashlib.sha256(_canonical(dict(sorted(values.items())))).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return what changed from one to the other, in the order of the paths.

    >>> differences({"keep": "7 days", "names": ["a", "b"]}, {"keep": "1 days", "names": ["b", "c"]})[1]
    Change(path='names', old='had also a', new='has also c')
    """
    return tuple(
        Change(path=path, old=words[0], new=words[1])
        for path in sorted({*old, *new})
        if path not in old or path not in new or _canonical(old[path]) != _canonical(new[path])
        for words in (_words(old, new, path),)
    )


def about(path: str) -> About:
    """Return what the setting at a path decides.

    >>> about("store.encryption.kms_key_id"), about("restore.servers.beside.connection"), about("tiers.daily.keep")
    (<About.KEY: 'key'>, <About.ACCESS: 'access'>, <About.POLICY: 'policy'>)
    """
    steps = path.split(".")
    last = steps[-1]
    if steps[:2] == ["store", "encryption"] or path == "evidence.signing_connection":
        return About.KEY
    if last == "connection" or last.endswith("_connection") or path in _PLACES or tuple(steps[:2]) in _GRANTS:
        return About.ACCESS
    return About.POLICY


_PLACES = frozenset({"store.bucket", "attachments.buckets", "supabase.project_ref"})
# Where restores may write, and who has to agree.
_GRANTS = frozenset({("restore", "servers"), ("restore", "approval")})


def _leaves(value: Any, at: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*at, str(key)))
    else:
        yield ".".join(at), _kept(value, at[-1] if at else "")


def _kept(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if names_a_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {}
    if isinstance(value, list | tuple):
        kept = [_text(item) if isinstance(item, str) else _text(_canonical(item).decode()) for item in value]
        return kept if len(kept) <= LONGEST_LIST else _cut(json.dumps(kept, ensure_ascii=False))
    return _text(str(value))


def _text(text: str) -> str:
    hidden = without_known_secrets(text)
    return hidden if len(hidden) <= LONGEST_TEXT else _cut(hidden)


def _cut(text: str) -> str:
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:LONGEST_TEXT]}… ({len(text)} characters, SHA-256 {mark}…)"


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode("utf-8", "surrogatepass")


def _words(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> tuple[str, str]:
    """Return both values in words; of two lists only what the other has not."""
    before, after = old.get(path), new.get(path)
    if isinstance(before, list) and isinstance(after, list):
        gone, come = _missing(before, after), _missing(after, before)
        if gone or come:
            return _also("had", gone, before), _also("has", come, after)
    return _shown(old, path), _shown(new, path)


def _also(verb: str, items: Sequence[Any], of: Sequence[Any]) -> str:
    return f"{verb} also {_named(items)}" if items else f"{len(of)} in all"


def _missing(items: Iterable[Any], others: Sequence[Any]) -> list[Any]:
    return [item for item in items if item not in others]


def _named(items: Sequence[Any]) -> str:
    more = f" and {len(items) - SHOWN_ITEMS} more" if len(items) > SHOWN_ITEMS else ""
    return ", ".join(map(str, items[:SHOWN_ITEMS])) + more


def _shown(values: Mapping[str, Any], path: str) -> str:
    if path not in values:
        return ABSENT
    value = values[path]
    if isinstance(value, list):
        return _named(value) or "[]"
    return value if isinstance(value, str) else json.dumps(value)
