"""What a copy would do by itself, how each is switched off, and how exactly that is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from include.backup.quarantine.callers import FunctionText, acl_grants, callers, senders
from include.backup.quarantine.session import Session, changing_definitions, search_path_of_copy

_SQL = Path(__file__).resolve().parents[2] / "sql" / "quarantine"
_CRON_JOBS, _REQUESTS = "cron.job", "net.http_request_queue"
_ENABLING = {"O": "ENABLE TRIGGER", "R": "ENABLE REPLICA TRIGGER", "A": "ENABLE ALWAYS TRIGGER"}


class Kind(StrEnum):
    """What may act by itself. Released in this order: who may send, what is queued, then what fires."""

    FUNCTION = "function"
    REQUEST = "request"
    TRIGGER = "trigger"
    SUBSCRIPTION = "subscription"
    CRON_JOB = "cron job"
    CRON_SCHEDULE = "cron schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing; ``state`` is all that is needed to put it back."""

    kind: Kind
    name: str
    state: Mapping[str, Any]


def find(session: Session) -> Iterator[Item]:
    """Yield what would act by itself, in the order in which it is to be switched off."""
    functions = _query(session, "functions")
    texts = [
        FunctionText(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            source=f"{row['source']} {row['definition']}",
            extension=row["extension"],
        )
        for row in functions
    ]
    yield from _cron_jobs(session)
    yield from _subscriptions(session)
    yield from _triggers(session, callers(texts))
    yield from _requests(session)
    sending = senders(texts)
    for row in functions:
        if row["oid"] in sending and (row["acl"] is None or acl_grants(row["acl"])):
            yield Item(kind=Kind.FUNCTION, name=row["signature"], state={"acl": row["acl"]})


def switch_off(session: Session, item: Item) -> None:
    """Switch one thing off; raises psycopg.Error when this role may not."""
    _OFF[item.kind](session, item)


def put_back(session: Session, item: Item) -> None:
    """Make one thing what it was; raises psycopg.Error when this role may not, or when it is gone."""
    _ON[item.kind](session, item)


def job_name(jobid: str, jobname: str | None, username: str) -> str:
    """Return what names one job of pg_cron: several roles may have jobs of the same name.

    >>> job_name("3", "cleanup", "reporter"), job_name("4", None, "reporter")
    ('cleanup (job 3 of reporter)', 'job 4 of reporter')
    """
    job = f"job {jobid} of {username}"
    return f"{jobname} ({job})" if jobname else job


def _query(session: Session, name: str) -> list[dict[str, Any]]:
    return session.execute((_SQL / f"{name}.sql").read_bytes()).fetchall()


def _exists(session: Session, relation: str) -> bool:
    row = session.execute((_SQL / "extension_table.sql").read_bytes(), {"relation": relation}).fetchone()
    return bool(row and row["found"])


def _require(session: Session, relation: str) -> None:
    """Raise psycopg.Error unless a table, and with it the functions beside it, is the extension's."""
    if not _exists(session, relation):
        raise psycopg.errors.UndefinedTable(f"there is no table {relation} of its extension's")


def _cron_jobs(session: Session) -> Iterator[Item]:
    if _exists(session, _CRON_JOBS):
        for row in _query(session, "cron_jobs"):
            name = job_name(row["id"], row["job"].get("jobname"), row["job"]["username"])
            yield Item(kind=Kind.CRON_JOB, name=name, state={"jobid": row["id"], "job": row["job"]})


def _subscriptions(session: Session) -> Iterator[Item]:
    for row in _query(session, "subscriptions"):
        if row["enabled"]:
            yield Item(kind=Kind.SUBSCRIPTION, name=row["name"], state={})


def _triggers(session: Session, calling: frozenset[int]) -> Iterator[Item]:
    for row in _query(session, "triggers"):
        if row["function"] in calling:
            state = {name: row[name] for name in ("schema", "relation", "name", "enabled")}
            yield Item(kind=Kind.TRIGGER, name=f"{row['schema']}.{row['relation']}: {row['name']}", state=state)


def _requests(session: Session) -> Iterator[Item]:
    if _exists(session, _REQUESTS):
        rows = session.execute("SELECT q.id::text, to_jsonb(q) AS row FROM net.http_request_queue q").fetchall()
        for row in rows:
            yield Item(kind=Kind.REQUEST, name=f"request {row['id']}", state={"id": row["id"], "row": row["row"]})


def _cron_job(session: Session, item: Item, *, active: bool) -> None:
    """By pg_cron's own function where the table may not be written, as on a hosted project."""
    _require(session, _CRON_JOBS)
    jobid = item.state["jobid"]
    may = session.execute(
        "SELECT has_table_privilege('cron.job', 'UPDATE') AS write,"
        " to_regproc('cron.alter_job') IS NOT NULL AS function"
    ).fetchone()
    if may and not may["write"] and may["function"]:
        session.execute("SELECT cron.alter_job(job_id := %s::bigint, active := %s)", (jobid, active))
        return
    changed = session.execute("UPDATE cron.job SET active = %s WHERE jobid = %s::bigint", (active, jobid))
    _expect_one(changed, item)


def _trigger(session: Session, item: Item, how: str) -> None:
    table = sql.Identifier(item.state["schema"], item.state["relation"])
    # ONLY: the triggers of partitions are items of their own, with states of their own.
    statement = sql.SQL("ALTER TABLE ONLY {} {} {}").format(table, sql.SQL(how), sql.Identifier(item.state["name"]))
    with changing_definitions(session):
        session.execute(statement)


def _disable_trigger(session: Session, item: Item) -> None:
    _trigger(session, item, "DISABLE TRIGGER")


def _enable_trigger(session: Session, item: Item) -> None:
    _trigger(session, item, _ENABLING[item.state["enabled"]])


def _subscription(session: Session, item: Item, how: str) -> None:
    with changing_definitions(session):
        session.execute(sql.SQL("ALTER SUBSCRIPTION {} {}").format(sql.Identifier(item.name), sql.SQL(how)))


def _take_request(session: Session, item: Item) -> None:
    changed = session.execute("DELETE FROM net.http_request_queue WHERE id = %s::bigint", (item.state["id"],))
    _expect_one(changed, item)


def _requeue(session: Session, item: Item) -> None:
    _require(session, _REQUESTS)
    session.execute(
        "INSERT INTO net.http_request_queue OVERRIDING SYSTEM VALUE"
        " SELECT * FROM jsonb_populate_record(NULL::net.http_request_queue, %s)",
        (Jsonb(item.state["row"]),),
    )


def _revoke(session: Session, item: Item) -> None:
    oid = _oid(session, item)
    routine = _routine(session, oid)
    with changing_definitions(session):
        for grantee in {"": False, routine.owner: False, **acl_grants(item.state["acl"])}:
            session.execute(
                sql.SQL("REVOKE EXECUTE ON ROUTINE {} FROM {} CASCADE").format(routine.name, _grantee(grantee))
            )
    # A role that may not take a right away is only warned.
    left = _routine(session, oid).acl
    if left is None or acl_grants(left):
        raise psycopg.errors.InsufficientPrivilege(f"must be owner of function {item.name}")


def _grant(session: Session, item: Item) -> None:
    acl, routine = item.state["acl"], _routine(session, _oid(session, item))
    grants = {"": False, routine.owner: False} if acl is None else acl_grants(acl)
    with changing_definitions(session):
        for grantee, may_grant in grants.items():
            option = sql.SQL(" WITH GRANT OPTION" if may_grant and grantee != routine.owner else "")
            session.execute(
                sql.SQL("GRANT EXECUTE ON ROUTINE {} TO {}{}").format(routine.name, _grantee(grantee), option)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routine:
    name: sql.Composable
    owner: str
    acl: str | None


def _oid(session: Session, item: Item) -> int:
    """Return the function that is meant; raises psycopg.Error when there is none.

    A record of an earlier version names it by the copy's own search_path.
    """
    try:
        with session.transaction():
            return _oid_of(session, item.name)
    except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedObject, psycopg.errors.InvalidSchemaName):
        with search_path_of_copy(session):
            return _oid_of(session, item.name)


def _oid_of(session: Session, signature: str) -> int:
    row = session.execute("SELECT %s::pg_catalog.regprocedure::pg_catalog.int8 AS oid", (signature,)).fetchone()
    return int(row["oid"]) if row else 0


def _routine(session: Session, oid: int) -> _Routine:
    row = session.execute((_SQL / "routine.sql").read_bytes(), {"oid": oid}).fetchone()
    if row is None:
        raise psycopg.errors.UndefinedFunction(f"there is no function {oid}")
    # PostgreSQL has quoted it where it must be.
    name = sql.SQL(row["name"].replace("{", "{{").replace("}", "}}")).format()
    return _Routine(name=name, owner=row["owner"], acl=row["acl"])


def _schedule(session: Session, item: Item) -> None:
    """Make a job anew that was not loaded at all: on a hosted project, pg_cron runs it from its first minute.

    It belongs to the role that schedules it, so that is the one it had: with another's rights it could do more.
    """
    _require(session, _CRON_JOBS)
    state = item.state
    # A record of an earlier version has the job's own name only as its item's.
    name = state.get("jobname", item.name)
    with _acting_as(session, state["username"]):
        row = session.execute(
            "SELECT cron.schedule(%s::text, %s::text, %s::text) AS jobid", (name, state["schedule"], state["command"])
        ).fetchone()
        if row and not state["active"]:
            session.execute("SELECT cron.alter_job(job_id := %s::bigint, active := false)", (row["jobid"],))


@contextmanager
def _acting_as(session: Session, role: str) -> Iterator[None]:
    """Act as a role for a while, as its member for as long where this role may only grant it."""
    name = sql.Identifier(role)
    granted = False
    try:
        with session.transaction():
            session.execute(sql.SQL("SET LOCAL ROLE {}").format(name))
    except psycopg.errors.InsufficientPrivilege:
        session.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
        session.execute(sql.SQL("SET LOCAL ROLE {}").format(name))
        granted = True
    yield
    session.execute("RESET ROLE")
    if granted:
        session.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(name))


def _nothing(session: Session, item: Item) -> None:
    """Do nothing: what was never made need not be switched off."""


def _grantee(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")


def _expect_one(changed: psycopg.Cursor[dict[str, Any]], item: Item) -> None:
    if changed.rowcount != 1:
        raise psycopg.errors.NoDataFound(f"{item.kind} {item.name} is not there, or this role may not change it")


_OFF: Mapping[Kind, Callable[[Session, Item], None]] = {
    Kind.CRON_JOB: lambda session, item: _cron_job(session, item, active=False),
    Kind.SUBSCRIPTION: lambda session, item: _subscription(session, item, "DISABLE"),
    Kind.TRIGGER: _disable_trigger,
    Kind.REQUEST: _take_request,
    Kind.FUNCTION: _revoke,
    Kind.CRON_SCHEDULE: _nothing,
}
_ON: Mapping[Kind, Callable[[Session, Item], None]] = {
    Kind.CRON_JOB: lambda session, item: _cron_job(session, item, active=True),
    Kind.SUBSCRIPTION: lambda session, item: _subscription(session, item, "ENABLE"),
    Kind.TRIGGER: _enable_trigger,
    Kind.REQUEST: _requeue,
    Kind.FUNCTION: _grant,
    Kind.CRON_SCHEDULE: _schedule,
}
