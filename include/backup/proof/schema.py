"""Compare the whole schema: what the archive's table of contents says with what a new dump of the copy says.

Both were written by the same pg_dump from the same kind of server, so that equal objects have equal text. Nothing
is read from the source a second time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from include.backup.postgres.script import split_statements
from include.backup.postgres.toc import Toc, TocEntry, parse_setval
from include.backup.proof.masking import first_difference
from include.backup.proof.record import Difference

# Data and what is compared on its own, and the database's name-independent preamble.
DATA_ENTRIES = frozenset(
    {"TABLE DATA", "SEQUENCE SET", "BLOBS", "LARGE OBJECTS", "MATERIALIZED VIEW DATA", "STATISTICS DATA"}
)

# The order of an access list is that of its grants in time; what it allows does not depend on it.
GRANTS = frozenset({"ACL", "DEFAULT ACL"})

# What an entry of these kinds has as its owner is the owner of the object that it belongs to.
BELONGING = frozenset(
    {
        "ACL",
        "CHECK CONSTRAINT",
        "COMMENT",
        "CONSTRAINT",
        "FK CONSTRAINT",
        "INDEX",
        "POLICY",
        "ROW SECURITY",
        "RULE",
        "SECURITY LABEL",
        "TRIGGER",
    }
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What must be equal of an entry."""

    desc: str
    namespace: str
    tag: str
    owner: str
    definition: str

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.desc, self.namespace, self.tag


def compare_schema(
    archived: Toc,
    restored: Toc,
    *,
    extension_owner: str,
    skipped: Collection[int] = (),
    locale_replaced: bool = False,
) -> tuple[int, tuple[Difference, ...]]:
    """Return how many lines of definitions were compared, and every object that differs.

    ``extension_owner`` is who made the extensions of the copy: PostgreSQL cannot give an extension's members to
    another owner. Members have no entry of their own, but what belongs to them has, with that owner.
    """
    wanted = Counter(_shapes(archived, skipped=skipped, locale_replaced=locale_replaced))
    found = Counter(_shapes(restored, skipped=(), locale_replaced=locale_replaced))
    missing, surplus = list((wanted - found).elements()), list((found - wanted).elements())
    differences = []
    for shape in missing:
        other = _counterpart(shape, surplus)
        if other is not None:
            surplus.remove(other)
            if _is_of_extension(shape, other, extension_owner):
                continue
        detail = "is not there after the restore" if other is None else _changed(shape, other)
        differences.append(Difference(what=shape.desc, name=_name(shape), detail=detail))
    differences.extend(
        Difference(what=shape.desc, name=_name(shape), detail="is there after the restore but not in the archive")
        for shape in surplus
    )
    lines = sum(shape.definition.count("\n") for shape in wanted)
    return lines, tuple(sorted(differences, key=str))


def compare_populated(archived: Toc, populated: Collection[str], *, skipped: Collection[int]) -> Iterator[Difference]:
    """Yield materialized views that are filled on one side only; they are refreshed, not restored."""
    wanted = {
        f"{entry.namespace}.{entry.tag}"
        for entry in archived.entries
        if entry.desc == "MATERIALIZED VIEW DATA" and entry.dump_id not in skipped
    }
    for name in sorted(wanted ^ set(populated)):
        detail = "is not populated after the restore" if name in wanted else "is populated, in the archive it is not"
        yield Difference(what="MATERIALIZED VIEW", name=name, detail=detail)


def sequence_entries(toc: Toc, *, skipped: Collection[int]) -> Iterator[tuple[str, int, bool]]:
    """Yield what the archive sets each sequence to: quoted name, last value, whether it was called."""
    for entry in toc.entries:
        if entry.desc == "SEQUENCE SET" and entry.dump_id not in skipped:
            value = parse_setval(entry.definition)
            yield value.name, value.value, value.is_called


def _shapes(toc: Toc, *, skipped: Collection[int], locale_replaced: bool) -> Iterator[_Shape]:
    for entry in toc.entries:
        if entry.desc in DATA_ENTRIES or entry.dump_id in skipped:
            continue
        if locale_replaced and entry.desc == "DATABASE":
            continue
        yield _shape(entry)


def _shape(entry: TocEntry) -> _Shape:
    return _Shape(entry.desc, entry.namespace, entry.tag, entry.owner, canonical_definition(entry))


def canonical_definition(entry: TocEntry) -> str:
    """Return an entry's definition, the same for equal objects: some statements come in the order of their making."""
    if entry.desc in GRANTS:
        return _sorted_grants(entry.definition)
    if entry.desc == "DATABASE PROPERTIES":  # pg_dump reads the settings of roles in no order
        return "".join(f"{statement};\n" for statement in sorted(split_statements(entry.definition)))
    return entry.definition


def _sorted_grants(definition: str) -> str:
    """Return the statements in one order, but only among those of the same grantor.

    pg_dump writes what others granted between SET SESSION AUTHORIZATION and its RESET.
    """
    blocks = re.split(r"(?m)^(?=(?:RE)?SET SESSION AUTHORIZATION)", definition)
    return "".join("".join(sorted(block.splitlines(keepends=True))) for block in blocks)


def _counterpart(wanted: _Shape, candidates: Collection[_Shape]) -> _Shape | None:
    """Return the shape of the same name, of the same owner if there is one: some names are not unique."""
    named = [shape for shape in candidates if shape.identity == wanted.identity]
    return next((shape for shape in named if shape.owner == wanted.owner), named[0] if named else None)


def _is_of_extension(wanted: _Shape, found: _Shape, extension_owner: str) -> bool:
    return wanted.desc in BELONGING and found.owner == extension_owner and replace(found, owner=wanted.owner) == wanted


def _name(shape: _Shape) -> str:
    return f"{shape.namespace}.{shape.tag}" if shape.namespace else shape.tag


def _changed(wanted: _Shape, found: _Shape) -> str:
    if wanted.owner != found.owner:
        return f"has the owner {found.owner} instead of {wanted.owner}"
    return first_difference(wanted.definition, found.definition)
