"""Say of each entry of an archive what becomes of it in a hosted project. Pure: from the entries and the facts.

The provider's schemas, roles and extensions are there already, at its own version, and no customer may change them.
So nothing of them is made; rows of auth and storage are loaded into them, and the customer's own triggers and policies
on their tables are added. All else is the customer's and is made as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from include.backup.hosted.facts import HostedFacts
from include.backup.hosted.provider import CRON_JOBS, MIGRATIONS, ROWS_OF, is_managed, is_reserved_role, why_rows_stay
from include.backup.postgres.toc import Section, Toc, TocEntry
from include.backup.proof.makers import is_property
from include.backup.quarantine.record import is_record

_PREAMBLE = frozenset({"DATABASE", "DATABASE PROPERTIES", "ENCODING", "SEARCHPATH", "STDSTRINGS"})
_CARRIED_ONTO_MANAGED = frozenset({"TRIGGER", "POLICY"})
_RELATIONS = frozenset(
    {"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "INDEX", "FOREIGN TABLE", "TABLE DATA", "SEQUENCE SET"}
)
_ROUTINES = frozenset({"FUNCTION", "PROCEDURE", "AGGREGATE"})
_TYPES = frozenset({"TYPE", "DOMAIN"})
_BELONGING = frozenset({"TRIGGER", "POLICY", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "RULE"})
# One by one, each on its own: a role of the customer's may not be allowed to, and then it is told.
_SINGLE = frozenset(
    {"COMMENT", "DEFAULT ACL", "EVENT TRIGGER", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One thing that is not carried over, and what to do about it."""

    what: str
    why: str

    def line(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(slots=True, kw_only=True)
class Scope:
    """The entries by what becomes of them, each list in the archive's order."""

    objects: list[TocEntry] = field(default_factory=list)
    rows: list[TocEntry] = field(default_factory=list)
    values: list[TocEntry] = field(default_factory=list)
    indexes: list[TocEntry] = field(default_factory=list)
    grants: list[TocEntry] = field(default_factory=list)
    single: list[TocEntry] = field(default_factory=list)
    cron_jobs: list[TocEntry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)

    @property
    def carried(self) -> frozenset[int]:
        """The dump ids of all that is made or loaded."""
        parts = (self.objects, self.rows, self.values, self.indexes, self.grants, self.single)
        return frozenset(entry.dump_id for part in parts for entry in part)

    @property
    def user_schemas(self) -> frozenset[str]:
        """The schemas that hold what is made."""
        return frozenset(entry.namespace for entry in (*self.objects, *self.indexes) if entry.namespace)


def scope_of(toc: Toc, facts: HostedFacts, *, empty: Collection[int] = ()) -> Scope:
    """Sort the entries; ``empty`` are those of tables without rows, of which nothing needs to be said."""
    scope = Scope()
    absent: set[int] = set()
    for entry in toc.entries:
        if entry.desc in _PREAMBLE or is_property(entry):
            continue
        if entry.desc == "SUBSCRIPTION":
            why = "it would fetch from its publisher at once; make it by hand when the copy is to follow"
            scope.left_out.append(LeftOut(what=_name(entry), why=why))
        elif is_record(_schema(entry)):
            absent.add(entry.dump_id)
            if entry.desc == "SCHEMA":
                why = "what a quarantine of the source itself has noted; a release of the copy does not run it"
                scope.left_out.append(LeftOut(what=_name(entry), why=why))
        elif set(entry.dependencies) & absent and not (_is_managed(entry) and entry.section is Section.DATA):
            _depends_on_absent(scope, entry, absent)
        elif _is_managed(entry):
            _managed(scope, entry, facts, absent, empty)
        else:
            _own(scope, entry, facts)
    return scope


def _own(scope: Scope, entry: TocEntry, facts: HostedFacts) -> None:
    """Put an entry of the customer's where it is made."""
    if _is_there(entry, facts):
        return
    if entry.desc == "ACL":
        scope.grants.append(entry)
    elif entry.desc in _SINGLE:
        scope.single.append(entry)
    elif entry.is_table_data:
        scope.rows.append(entry)
    elif entry.section is Section.DATA:
        scope.values.append(entry)
    elif entry.section is Section.POST_DATA:
        scope.indexes.append(entry)
    else:
        scope.objects.append(entry)


def _is_there(entry: TocEntry, facts: HostedFacts) -> bool:
    """Say whether the provider has made an entry's object, so that it stays as it is."""
    known = {
        "SCHEMA": facts.schemas,
        "EXTENSION": facts.installed,
        "EVENT TRIGGER": facts.event_triggers,
        "PUBLICATION": facts.publications,
    }
    if entry.desc in known:
        return entry.tag in known[entry.desc]
    if entry.desc == "COMMENT":
        return any(
            entry.tag.removeprefix(f"{kind} ") in names
            for kind, names in known.items()
            if kind != "SCHEMA" and entry.tag.startswith(f"{kind} ")
        )
    return False


def _managed(scope: Scope, entry: TocEntry, facts: HostedFacts, absent: set[int], empty: Collection[int]) -> None:
    """Carry over what a customer may have in the provider's schemas, and tell of the rest."""
    name = f"{entry.namespace}.{entry.tag}"
    present = _is_present(entry, facts)
    if entry.is_table_data or entry.desc == "SEQUENCE SET":
        _managed_data(scope, entry, name, present=present, empty=empty)
    elif (entry.desc in _CARRIED_ONTO_MANAGED and not present) or (
        entry.desc == "COMMENT" and entry.tag.startswith(("TRIGGER ", "POLICY "))
    ):
        scope.single.append(entry)
    elif not present:
        absent.add(entry.dump_id)
        if entry.desc in _RELATIONS | _ROUTINES | _TYPES | _BELONGING | {"SCHEMA"}:
            why = "the project does not have it and only Supabase makes it there; enable what it belongs to first"
            scope.left_out.append(LeftOut(what=_name(entry), why=why))


def _managed_data(scope: Scope, entry: TocEntry, name: str, *, present: bool, empty: Collection[int]) -> None:
    if name == CRON_JOBS and entry.is_table_data:
        scope.cron_jobs.append(entry)
    elif entry.namespace in ROWS_OF and name not in MIGRATIONS:
        if not present and entry.dump_id not in empty:
            scope.impossible.append(f"the table {name} is not there, and its rows have no other place")
        elif present:
            (scope.rows if entry.is_table_data else scope.values).append(entry)
    elif entry.is_table_data and name not in MIGRATIONS and entry.dump_id not in empty:
        scope.left_out.append(LeftOut(what=f"rows of {name}", why=why_rows_stay(entry.namespace)))


def _depends_on_absent(scope: Scope, entry: TocEntry, absent: set[int]) -> None:
    absent.add(entry.dump_id)
    if entry.desc in {"COMMENT", "ACL", "TABLE DATA", "SEQUENCE SET", "DEFAULT", "ROW SECURITY"}:
        return
    if entry.desc in _CARRIED_ONTO_MANAGED or _is_managed(entry):
        why = "what it needs is not in the project; enable that there, then run its statement from the archive"
        scope.left_out.append(LeftOut(what=_name(entry), why=why))
    else:
        scope.impossible.append(f"{_name(entry)} needs what the project does not have")


def _is_managed(entry: TocEntry) -> bool:
    return is_managed(_schema(entry)) and entry.desc != "PUBLICATION TABLE"


def _schema(entry: TocEntry) -> str:
    """Return the schema that an entry is, is about, or is in."""
    if entry.desc == "SCHEMA":
        return entry.tag
    if not entry.namespace and entry.tag.startswith("SCHEMA "):
        return entry.tag.removeprefix("SCHEMA ")
    return entry.namespace


def _is_present(entry: TocEntry, facts: HostedFacts) -> bool:
    """Say whether a managed object is there; what has no name of its own is where its object is."""
    name = f"{entry.namespace}.{entry.tag}"
    if entry.desc == "SCHEMA":
        return entry.tag in facts.schemas
    if entry.desc in _RELATIONS:
        return name in facts.relations
    if entry.desc in _ROUTINES:
        return name.partition("(")[0] in facts.functions
    if entry.desc in _TYPES:
        return name in facts.types
    if entry.desc in _BELONGING:
        return name in facts.belonging
    return True


def needed_roles(scope: Scope) -> Iterator[str]:
    """Yield the owners of what is made that are not the provider's."""
    for entry in (*scope.objects, *scope.values, *scope.indexes):
        if entry.owner and not is_reserved_role(entry.owner):
            yield entry.owner


def _name(entry: TocEntry) -> str:
    name = f"{entry.namespace}.{entry.tag}" if entry.namespace else entry.tag
    return f"{entry.desc} {' '.join(name.split())}"
