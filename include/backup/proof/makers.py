"""Which entries of an archive a superuser must make, and which an ordinary role makes.

Nearly every definition can run code of the source's ordinary users while it is only made: a default such as
``'{1}'::domain[]`` checks the domain, an attached partition and a generated column compute constant calls. So a
superuser makes only what nobody else may make, and what holds no expression.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from include.backup.postgres.toc import Section, TocEntry
from include.backup.proof.masking import without_values

# No expression is in these; most of them only a superuser may make.
_SUPERUSER_OBJECTS = frozenset(
    {
        "ACCESS METHOD",
        "CAST",
        "EXTENSION",
        "FOREIGN DATA WRAPPER",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE",
        "SCHEMA",
        "SERVER",
        "SHELL TYPE",
        "TEXT SEARCH PARSER",
        "TEXT SEARCH TEMPLATE",
        "TRANSFORM",
        "USER MAPPING",
    }
)
# Said of objects that are there already; nothing depends on them but what reads rows.
_REMARKS = frozenset({"COMMENT", "SECURITY LABEL"})
_LAST = frozenset(
    {
        "DEFAULT ACL",
        "EVENT TRIGGER",
        "PUBLICATION TABLES IN SCHEMA",
        "SUBSCRIPTION",
        "SUBSCRIPTION TABLE",
    }
)
_ROUTINES = frozenset({"FUNCTION", "PROCEDURE"})
_LANGUAGE = re.compile(r"\bLANGUAGE (?P<name>[a-z_0-9]+)")
_SETTING = re.compile(r"\bSET (?P<name>[a-z_.0-9]+) TO ")
_INTERNAL_STATE = re.compile(r"\bM?STYPE = internal\b")
_PARENTHESES = re.compile(r"\([^()]*\)")
_QUOTED_NAME = re.compile(r'"(?:[^"]|"")*"')
# What pg_restore does not make here: the session's settings, and the database itself.
_NOT_HERE = frozenset({"DATABASE", "ENCODING", "SEARCHPATH", "STDSTRINGS"})
_OF_DATABASE = "DATABASE "


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What an ordinary role of a server may use: trusted languages; and not: settings of superusers."""

    languages: frozenset[str]
    superuser_settings: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Makers:
    """The entries of an archive by when they are made and by whom, each list in the archive's order.

    ``objects`` are those before the rows, in runs that change between superuser (True) and ordinary role. Then
    the superuser's ``grants``, the ordinary role's ``rows`` and ``indexes`` (constraints, triggers, policies and
    so on), and, as superuser, what is ``last`` and the ``event_triggers``.
    """

    objects: tuple[tuple[bool, tuple[TocEntry, ...]], ...]
    grants: tuple[TocEntry, ...]
    rows: tuple[TocEntry, ...]
    indexes: tuple[TocEntry, ...]
    last: tuple[TocEntry, ...]
    event_triggers: tuple[TocEntry, ...]


def assign_makers(entries: Sequence[TocEntry], limits: ServerLimits) -> Makers:
    """Say who makes what, and when; the database itself is left out."""
    entries = [entry for entry in entries if not (is_property(entry) or entry.desc in _NOT_HERE)]
    event_triggers = tuple(entry for entry in entries if _is_of_event_trigger(entry))
    last = tuple(entry for entry in entries if _is_last(entry) and not _is_of_event_trigger(entry))
    taken = {entry.dump_id for entry in (*event_triggers, *last)}
    sections: dict[Section, list[TocEntry]] = {section: [] for section in Section}
    for entry in entries:
        if entry.dump_id not in taken:
            sections[entry.section].append(entry)
    before = sections[Section.PRE_DATA]
    return Makers(
        objects=tuple(_runs([entry for entry in before if entry.desc != "ACL"], limits)),
        grants=tuple(entry for entry in before if entry.desc == "ACL"),
        rows=tuple(sections[Section.DATA]),
        indexes=tuple(sections[Section.POST_DATA]),
        last=last,
        event_triggers=event_triggers,
    )


def is_property(entry: TocEntry) -> bool:
    """Say whether an entry is the database's settings, or a grant or remark on the database."""
    remark = entry.desc in _REMARKS | {"ACL"} and not entry.namespace and entry.tag.startswith(_OF_DATABASE)
    return remark or entry.desc == "DATABASE PROPERTIES"


def is_for_all_tables(entry: TocEntry) -> bool:
    """Say whether an entry is a publication that only a superuser may make and own."""
    return entry.desc == "PUBLICATION" and " FOR ALL TABLES" in _outline(entry.definition)


def _is_of_event_trigger(entry: TocEntry) -> bool:
    return entry.desc == "EVENT TRIGGER" or (entry.desc in _REMARKS and entry.tag.startswith("EVENT TRIGGER "))


def _is_last(entry: TocEntry) -> bool:
    late_grant = entry.desc == "ACL" and entry.section is not Section.PRE_DATA
    return late_grant or entry.desc in _REMARKS | _LAST or is_for_all_tables(entry)


def _runs(entries: Sequence[TocEntry], limits: ServerLimits) -> Iterator[tuple[bool, tuple[TocEntry, ...]]]:
    shells = {(entry.namespace, entry.tag) for entry in entries if entry.desc == "SHELL TYPE"}
    for by_superuser, run in groupby(entries, lambda entry: _needs_superuser(entry, limits, shells)):
        yield by_superuser, tuple(run)


def _needs_superuser(entry: TocEntry, limits: ServerLimits, shells: Collection[tuple[str, str]]) -> bool:
    if entry.desc in _SUPERUSER_OBJECTS:
        return True
    if entry.desc == "TYPE":  # a type with functions of its own begins as a shell, and has its owner
        return (entry.namespace, entry.tag) in shells
    if entry.desc == "AGGREGATE":
        return _INTERNAL_STATE.search(_keywords(entry.definition)) is not None
    return entry.desc in _ROUTINES and _is_restricted(_outline(entry.definition), limits)


def _is_restricted(routine: str, limits: ServerLimits) -> bool:
    return (
        any(name not in limits.languages for name in _LANGUAGE.findall(routine))
        or any(name in limits.superuser_settings for name in _SETTING.findall(routine))
        or " LEAKPROOF" in routine
        or " SUPPORT " in routine
    )


def _outline(definition: str) -> str:
    """Return what is outside of parentheses and before a body in SQL."""
    text = _keywords(definition)
    while (shorter := _PARENTHESES.sub("", text)) != text:
        text = shorter
    return text.partition("BEGIN ATOMIC")[0]


def _keywords(definition: str) -> str:
    """Return a definition without constants and quoted names.

    Of what is left, capitals are pg_dump's own: nobody can name an object so that it looks like another kind.
    """
    return _QUOTED_NAME.sub('""', without_values(definition))


def owner_statements(entries: Iterable[TocEntry]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield kind, name and owner of objects that get their owner only when superusers are superusers again."""
    for entry in entries:
        if entry.desc == "STATISTICS":
            yield "STATISTICS", (entry.namespace, entry.tag), entry.owner
        elif entry.desc in {"PUBLICATION", "FOREIGN DATA WRAPPER"}:
            yield entry.desc, (entry.tag,), entry.owner
