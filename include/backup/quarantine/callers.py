"""Which functions call out of the database: pure, by their text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# The schemas and extensions of Supabase and PostgreSQL whose functions send requests.
SENDING_SCHEMAS = frozenset({"net", "supabase_functions"})
SENDING_EXTENSIONS = frozenset({"pg_net", "http", "pg_amqp", "dblink"})
_SENDING_NAMES = frozenset({"http_request", "http_get", "http_post", "http_delete", "http_put", "http_patch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionText:
    """One function: what it is called, and what it says."""

    oid: int
    schema: str
    name: str
    source: str
    extension: str | None = None


def senders(functions: Collection[FunctionText]) -> frozenset[int]:
    """Return the functions that send requests by themselves."""
    return frozenset(
        function.oid
        for function in functions
        if function.extension in SENDING_EXTENSIONS
        or (function.schema in SENDING_SCHEMAS and function.name in _SENDING_NAMES)
    )


def callers(functions: Collection[FunctionText]) -> frozenset[int]:
    """Return the senders, and all that call one of them, also through others.

    A name before a parenthesis counts as a call: one too many is switched off and put back, one too few would act.
    """
    found = set(senders(functions))
    names = {function.name for function in functions if function.oid in found}
    words = {function.oid: _called(function.source) for function in functions}
    while True:
        more = {oid for oid, said in words.items() if oid not in found and said & names}
        if not more:
            return frozenset(found)
        found |= more
        names |= {function.name for function in functions if function.oid in more}


def acl_grants(acl: str | None) -> Mapping[str, bool]:
    """Return who may execute a function by its access list, and whether with the right to hand it on; '' is PUBLIC.

    >>> acl_grants('{=X/postgres,postgres=X*/postgres,"\\\\"odd one\\\\"=X/postgres"}')
    {'': False, 'postgres': True, 'odd one': False}
    """
    return {
        _unquoted(grantee): "*" in rights
        for item in _array_items(acl or "")
        for grantee, _, rights in [_grantee_and_rights(item)]
        if "X" in rights
    }


def _called(source: str) -> frozenset[str]:
    """Return every name before a parenthesis."""
    return frozenset(plain or quoted for plain, quoted in re.findall(r'(?:([A-Za-z_][\w$]*)|"([^"]+)")\s*\(', source))


def _array_items(text: str) -> list[str]:
    items = re.findall(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', text)
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted else plain for quoted, plain in items]


def _grantee_and_rights(item: str) -> tuple[str, str, str]:
    match = re.match(r'((?:"(?:[^"]|"")*"|[^=])*)=([^/]*)/', item)
    return (match[1], "=", match[2]) if match else ("", "=", "")


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
