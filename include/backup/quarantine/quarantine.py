"""Quarantine a restored copy, and release it: what was switched off is recorded inside the copy itself.

A copy brings the jobs, webhooks, requests and subscriptions of its source with it. Left alone they act on the world
a second time: customers get mails twice, a payment is called again. So they are off until a person releases them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from include.backup.errors import QuarantineError
from include.backup.postgres.session import Endpoint, connect
from include.backup.quarantine.kinds import Item, Kind, find, put_back, switch_off
from include.backup.quarantine.record import SCHEMA, Seclusion, find_record, make_record, strange_records
from include.backup.quarantine.session import OWN_FUNCTIONS, Session, search_path_of_copy

# Whose rows a quarantine changes. That they were loaded as archived was checked before, by their hash.
_CHANGED_TABLES: Mapping[str, tuple[str, str]] = {
    Kind.CRON_JOB: ("cron", "job"),
    Kind.REQUEST: ("net", "http_request_queue"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineReport:
    """What was switched off, and what could not be: then the copy is not safe to leave alone."""

    items: tuple[Seclusion, ...]
    not_switched_off: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, without the states: a request may hold a secret."""
        return {
            "items": [{"kind": item.kind, "name": item.name} for item in self.items],
            "not_switched_off": list(self.not_switched_off),
        }

    def line(self) -> str:
        """Return one line of evidence."""
        if not self.items and not self.not_switched_off:
            return "nothing in the copy acts by itself"
        counts = {kind: sum(item.kind == kind for item in self.items) for kind in Kind}
        shown = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count)
        failed = f"; NOT switched off: {'; '.join(self.not_switched_off)}" if self.not_switched_off else ""
        return f"quarantined: {shown or 'nothing'}{failed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReport:
    """What was put back, and how many statements erased people again before that."""

    items: tuple[Seclusion, ...]
    erasures: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "released": [{"kind": item.kind, "name": item.name} for item in self.items],
            "erasures": self.erasures,
        }


def quarantine(endpoint: Endpoint, *, source: str, also: Iterable[Item] = ()) -> QuarantineReport:
    """Switch off what the copy would do by itself; again is no harm. All or nothing but for what this role may not.

    ``source`` is whose copy it is. ``also`` is recorded as it is: things that were left out of the copy and are made
    when it is released.
    """
    with _session(endpoint) as session:
        found = (*find(session), *also)
        if not found and find_record(session) is None:
            return QuarantineReport(items=())
        command = release_command(endpoint, source=source)
        record = make_record(session, remark=f"What was switched off in this restored copy; `{command}` puts it back")
        failed = []
        for item in found:
            try:
                with session.transaction():
                    switch_off(session, item)
                    record.add(item)
            except psycopg.Error as error:
                failed.append(f"{item.kind} {item.name} ({_said(error)})")
        return QuarantineReport(items=record.items(), not_switched_off=tuple(failed))


def quarantined(endpoint: Endpoint) -> tuple[Seclusion, ...]:
    """Return what is off in a database; nothing when it was never quarantined, or was released."""
    with _session(endpoint) as session:
        record = find_record(session)
        return () if record is None else record.items()


def others_records(endpoint: Endpoint) -> tuple[str, ...]:
    """Return whose records do not count for this role: a copy that another role has restored may be off by one."""
    with _session(endpoint) as session:
        return strange_records(session)


def not_quarantined(database: str, others: Sequence[str]) -> str:
    """Return the words for a database that has no record, or only ``others``.

    >>> print(not_quarantined("copy", ()))
    copy is not quarantined
    """
    if not others:
        return f"{database} is not quarantined"
    return (
        f"{database} is not quarantined as far as this role can tell; {', '.join(others)} was made neither by this "
        "role nor by a superuser and may have come with the backup: if its owner restored the copy, show or "
        "release it as that role"
    )


def release(endpoint: Endpoint, *, erasures: Sequence[str] = ()) -> ReleaseReport:
    """Put back exactly what was switched off, and forget the record; in one transaction, so all or nothing.

    ``erasures`` are statements that run first: whoever asked to be erased since the backup must be gone before the
    copy acts. Raises QuarantineError when there is nothing to release, or when something cannot be put back.
    """
    with _session(endpoint) as session:
        record = find_record(session)
        if record is None:
            others = strange_records(session)
            nothing = "" if others else "; there is nothing to release"
            raise QuarantineError(f"{not_quarantined(_name(endpoint), others)}{nothing}")
        _run_erasures(session, erasures, endpoint)
        items = record.items()
        for item in sorted(items, key=lambda item: list(Kind).index(Kind(item.kind))):
            try:
                put_back(session, Item(kind=Kind(item.kind), name=item.name, state=item.state))
            except psycopg.Error as error:
                raise QuarantineError(
                    f"{item.line()} of {_name(endpoint)} cannot be put back ({_said(error)}); nothing was released. "
                    f"Put it right, or delete its row from {record.schema}.items, and release again"
                ) from error
        record.forget()
        return ReleaseReport(items=items, erasures=len(erasures))


def release_command(endpoint: Endpoint, *, source: str) -> str:
    """Return the command that releases a copy, for as long as it has its name; the password is PGPASSWORD."""
    known = endpoint.libpq_parameters()
    words = ["python", "-m", "include.backup", "quarantine", "release", source, "--database", known["dbname"]]
    for name in ("host", "port", "user", "sslmode", "sslrootcert"):
        if name in known:
            words += [f"--{name}", known[name]]
    return shlex.join(words)


def changed_tables(items: Iterable[Seclusion]) -> frozenset[tuple[str, str]]:
    """Return the tables, each a schema and a name, whose rows no longer are those of the archive.

    The record is among them: a source that was quarantined itself has one already.
    """
    changed = {_CHANGED_TABLES[item.kind] for item in items if item.kind in _CHANGED_TABLES}
    return frozenset(changed | {(SCHEMA, "items")})


@contextmanager
def _session(endpoint: Endpoint) -> Iterator[Session]:
    """Open a session in one transaction that finds PostgreSQL's own functions by their names, and no others.

    It may be a superuser's, and the search_path of the copy's own settings is whatever its source has.
    """
    with connect(endpoint, settings={}) as session, session.transaction():
        session.execute(OWN_FUNCTIONS)
        yield session


def _run_erasures(session: Session, erasures: Sequence[str], endpoint: Endpoint) -> None:
    """Run them as a person would who connects to the copy."""
    with search_path_of_copy(session):
        for number, statement in enumerate(erasures, 1):
            try:
                session.execute(statement.encode())
            except psycopg.Error as error:
                raise QuarantineError(
                    f"erasure {number} of {len(erasures)} failed in {_name(endpoint)} ({_said(error)}); nothing was "
                    "released"
                ) from error


def _name(endpoint: Endpoint) -> str:
    return str(endpoint.libpq_parameters()["dbname"])


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())


def as_document(items: Iterable[Seclusion]) -> list[dict[str, Any]]:
    """Return what is off as plain JSON, without the states."""
    return [{name: value for name, value in asdict(item).items() if name != "state"} for item in items]
