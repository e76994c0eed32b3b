"""What changed between two schemas, by kind and name, and how a commit says so."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from include.backup.schema_history.snapshot import ObjectName, SchemaObject

LISTED = 200
LONGEST_SUBJECT = 72
DIFF_CONTEXT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChanges:
    """The objects that are there on one side only, or differ; each sorted."""

    added: tuple[ObjectName, ...]
    removed: tuple[ObjectName, ...]
    changed: tuple[ObjectName, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def count(self) -> int:
        return len(self.added) + len(self.removed) + len(self.changed)

    def groups(self) -> Iterator[tuple[str, tuple[ObjectName, ...]]]:
        """Yield what happened with the objects to which it did."""
        for word, names in (("added", self.added), ("removed", self.removed), ("changed", self.changed)):
            if names:
                yield word, names

    def lines(self, *, most: int = LISTED) -> Iterator[str]:
        """Yield a line for each object, up to a number of them."""
        every = [f"{word}: {name}" for word, names in self.groups() for name in names]
        yield from every[:most]
        if len(every) > most:
            yield f"… and {len(every) - most} more"


def compare_objects(before: Iterable[SchemaObject], after: Iterable[SchemaObject]) -> SchemaChanges:
    """Compare two sets of objects. Names are not unique: those that share one are compared together."""
    old, new = _by_name(before), _by_name(after)
    return SchemaChanges(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    )


def commit_message(source: str, changes: SchemaChanges, *, first: bool, trailers: Sequence[str]) -> str:
    """Return a subject of at most 72 characters, what changed by kind and name, and the trailers."""
    subject = f"{source}: first schema, {changes.count} objects" if first else _subject(source, changes)
    body = "" if first else "\n".join(changes.lines()) + "\n"
    counts = _counts(changes.added) + "\n" if first else ""
    return f"{subject}\n\n{counts}{body}\n" + "".join(f"{line}\n" for line in trailers)


def text_diff(before: bytes, after: bytes, *, names: tuple[str, str]) -> str:
    """Return a unified diff of two texts."""
    old, new = (content.decode("utf-8", "replace").splitlines() for content in (before, after))
    return "\n".join(difflib.unified_diff(old, new, *names, lineterm="", n=DIFF_CONTEXT))


def _by_name(objects: Iterable[SchemaObject]) -> dict[ObjectName, list[tuple[str, str]]]:
    found: dict[ObjectName, list[tuple[str, str]]] = {}
    for item in objects:
        found.setdefault(item.name, []).append((item.owner, item.digest))
    return {name: sorted(states) for name, states in found.items()}


def _subject(source: str, changes: SchemaChanges) -> str:
    if changes.count == 1:
        ((word, (name,)),) = changes.groups()
        named = f"{source}: {name} {word}"
        if len(named) <= LONGEST_SUBJECT:
            return named
    by_kind = f"{source}: {', '.join(f'{_counts(names)} {word}' for word, names in changes.groups())}"
    if len(by_kind) <= LONGEST_SUBJECT:
        return by_kind
    return f"{source}: {', '.join(f'{len(names)} {word}' for word, names in changes.groups())}"


def _counts(names: Iterable[ObjectName]) -> str:
    """Return how many there are of each kind.

    >>> _counts([ObjectName("TABLE", "public", "a"), ObjectName("TABLE", "public", "b"), ObjectName("VIEW", "", "c")])
    '2 TABLE, 1 VIEW'
    """
    counts = Counter(name.kind for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
